"""`openledger db`: the database of a chain, while no node has it open: checked, mended, pruned, written out, read in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from openledger.genesis.counted import counted
from openledger.node.cli.options import DataDir, default_data_dir
from openledger.node.errors import StartupError, UserError

if TYPE_CHECKING:
    from openledger.evm_ext.store import Store
    from openledger.genesis.genesis import Genesis

app = typer.Typer(
    help="Check, mend, prune, export or import a chain's database. Stop the node first.", no_args_is_help=True
)

Folder = Annotated[
    Path | None, typer.Argument(help="Folder of the database. Default: the folder chain in the data folder.")
]


class _Shown:
    """Progress on standard error, one line for each thing that is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = self._progress.add_task(what, total=total or None)
        self._progress.update(task, completed=done)


@contextmanager
def _shown() -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Shown(progress)


@contextmanager
def _errors_for_people() -> Iterator[None]:
    from openledger.evm_ext.database import REPAIR_HINT
    from openledger.evm_ext.errors import DatabaseLocked, ExecutionError
    from openledger.evm_ext.trie import DamagedTrieNode, MissingTrieNode

    try:
        yield
    except DatabaseLocked as error:
        raise StartupError(f"{error} (`openledger db` works on a database that no node uses)") from error
    except (MissingTrieNode, DamagedTrieNode) as error:  # raised where nobody knows that there is a database
        raise UserError(f"{error}: {REPAIR_HINT}") from error
    except OSError as error:
        about = "" if error.filename is None else f"{error.filename2 or error.filename}: "
        raise UserError(f"{about}{error.strerror or error}") from error
    except (ExecutionError, ValueError) as error:
        raise UserError(str(error)) from error


def _folder(path: Path | None, data_dir: Path | None) -> Path:
    if path is not None and data_dir is not None:
        raise StartupError("give the folder of the database or --data-dir, not both")
    return path if path is not None else _data_folder(data_dir) / "chain"


def _data_folder(data_dir: Path | None) -> Path:
    return data_dir.expanduser().resolve() if data_dir is not None else default_data_dir()


def _open(path: Path) -> Store:
    from openledger.evm_ext.store import FORMAT_VERSION, Store

    store = Store(path, create=False)
    if store.version != FORMAT_VERSION:
        store.close()
        raise StartupError(f"the database in {path} has an older format: start the node once, which upgrades it")
    return store


@app.command()
def check(
    folder: Folder = None,
    data_dir: DataDir = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is wrong; go back to the newest intact block where it must be.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Look at the state after every block that is kept.")] = False,
) -> None:
    """Hold everything that is stored against the hashes and roots in it, and name what is wrong.

    Exit status 0: sound, or mended. 1: something is wrong. Example: `openledger db check --deep --data-dir
    ~/.openledger/devnet`
    """
    from openledger.evm_ext import integrity
    from openledger.evm_ext import repair as mending

    path = _folder(folder, data_dir)
    with _errors_for_people(), _shown() as shown:
        if repair:
            store, mended_files = mending.open_damaged(path)
        else:
            store, mended_files = _open(path), False
        try:
            if repair:
                if mended_files:
                    print("files: lists of files were made anew; damaged pieces were left out")
                done = mending.repair(store, shown, lost_pieces=mended_files)
                for fault in done.faults:
                    print(fault)
                if done.faults or mended_files:
                    cut = f", {counted(done.forgotten, 'block')} forgotten" if done.forgotten else ""
                    was = "?" if done.old_head is None else done.old_head
                    print(f"mended: the head was block {was} and is block {done.head}{cut}")
            found = 0
            for fault in integrity.check(store, deep=deep, progress=shown):
                found += 1
                print(fault)
        finally:
            store.close()
    if found:
        hint = "" if repair else ": `openledger db check --repair` mends what can be mended"
        raise UserError(f"{counted(found, 'thing is', 'things are')} wrong in {path}{hint}")
    print(f"{path}: sound")


@app.command()
def prune(
    folder: Folder = None,
    data_dir: DataDir = None,
    keep_blocks: Annotated[
        int | None, typer.Option(help="Blocks below the finalized head whose state is kept. Default 128.")
    ] = None,
    keep_changes: Annotated[
        int | None, typer.Option(help="Blocks below it at which accounts can still be read. Default 90000.")
    ] = None,
) -> None:
    """Delete old states. The node goes on with `[chain] state = "pruned"`; as an archive it keeps all from here on.

    Can be interrupted and run again. Example: `openledger db prune --keep-blocks 1000`
    """
    from openledger.evm_ext.state.policy import DEFAULT_KEEP_BLOCKS, DEFAULT_KEEP_CHANGES, StateHistory
    from openledger.evm_ext.sweep import sweep

    path = _folder(folder, data_dir)
    with _errors_for_people(), _shown() as shown:
        blocks = DEFAULT_KEEP_BLOCKS if keep_blocks is None else keep_blocks
        changes = max(DEFAULT_KEEP_CHANGES, blocks) if keep_changes is None else keep_changes
        policy = StateHistory("pruned", blocks, changes)
        store = _open(path)
        try:
            done = sweep(store, policy, shown)
        finally:
            store.close()
    parts = counted(done.nodes, "trie node"), counted(done.changes, "change"), counted(done.blocks, "block")
    print(f"deleted {', '.join(parts)} of dead branches")
    print(f"on disk {done.bytes_before / 1e6:.1f} MB -> {done.bytes_after / 1e6:.1f} MB")
    print(f"whole states from block {done.first_whole} on, accounts and storage from block {done.first_readable} on")


@app.command()
def rollback(
    to: Annotated[int, typer.Option("--to", min=0, help="Number of the block that becomes the unsafe head.")],
    folder: Folder = None,
    data_dir: DataDir = None,
) -> None:
    """Make an older block of the chain its head again; the safe and finalized heads go back with it.

    The node derives the blocks above anew. Example: `openledger db rollback --to 1200`
    """
    from openledger.evm_ext.heads import Heads
    from openledger.evm_ext.state.policy import ARCHIVE
    from openledger.evm_ext.state.states import States
    from openledger.evm_ext.stored_blocks import StoredBlocks

    path = _folder(folder, data_dir)
    with _errors_for_people():
        store = _open(path)
        try:
            blocks = StoredBlocks(store)
            heads = Heads(store, blocks, States(store, blocks.header), ARCHIVE)
            before = heads["unsafe"]
            target = store.canonical_hash(to)
            if target is None:
                raise UserError(f"there is no block {to}: the chain has 0 to {before.number}")
            heads.roll_back(blocks.header(target))
            print(f"the head was block {before.number} and is block {to} 0x{target.hex()}")
        finally:
            store.close()


@app.command("export")
def export_blocks(
    file: Annotated[Path, typer.Argument(help="File to write, as geth export does; .gz at the end compresses it.")],
    folder: Folder = None,
    data_dir: DataDir = None,
    first: Annotated[int, typer.Option("--from", min=0, help="First block.")] = 0,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last block. Default: the unsafe head.")] = None,
) -> None:
    """Write the canonical blocks to a file, deposits included.

    The file has its name only when it is whole. Example: `openledger db export blocks.rlp.gz --from 1`
    """
    from openledger.evm_ext.block_file import export_block_file

    path = _folder(folder, data_dir)
    with _errors_for_people(), _shown() as shown:
        store = _open(path)
        try:
            head = store.header(store.head("unsafe") or b"")
            end = last if last is not None else (0 if head is None else head.number)
            written = export_block_file(
                store, file, first, end, on_block=lambda number: shown("blocks", number - first, end - first)
            )
        finally:
            store.close()
    print(f"{file}: {counted(written, 'block')}, {first} to {end}")


@app.command("import")
def import_blocks(
    file: Annotated[Path, typer.Argument(help="File of blocks as geth exports them; .gz at the end means gzip.")],
    folder: Folder = None,
    data_dir: DataDir = None,
    genesis: Annotated[
        Path | None, typer.Option(help="genesis.json of the chain. Default: that of network.json in the data folder.")
    ] = None,
    final: Annotated[
        bool, typer.Option("--final", help="The last block becomes the safe and the finalized head too.")
    ] = False,
) -> None:
    """Execute the blocks of a file, check every root, store them and make the last one the unsafe head.

    Blocks that are there are passed over, so an interrupted import goes on. Example: `openledger db import
    blocks.rlp.gz --data-dir ~/.openledger/second`
    """
    from openledger.evm_ext.block_file import import_block_file
    from openledger.evm_ext.chain import Chain

    path = _folder(folder, data_dir)
    start = _genesis(genesis, folder, data_dir)
    with _errors_for_people(), _shown() as shown:
        chain = Chain.open(path, start)
        try:
            executed = import_block_file(
                chain, file, final=final, on_block=lambda block: shown("blocks", block.number, 0)
            )
            head = chain.head()
        finally:
            chain.close()
    print(f"{counted(executed, 'block')} executed; the head is block {head.number} 0x{head.hash.hex()}")


def _genesis(file: Path | None, folder: Path | None, data_dir: Path | None) -> Genesis:
    from openledger.genesis.presets import l2_genesis
    from openledger.node.execution_client import read_genesis
    from openledger.node.network import read_network

    if file is not None:
        return read_genesis(file)
    if folder is not None:
        raise StartupError("say what the chain begins with: --genesis genesis.json, or --data-dir with network.json")
    described = _data_folder(data_dir) / "network.json"
    if not described.exists():
        raise StartupError(f"there is no {described}: say what the chain begins with by --genesis genesis.json")
    network = read_network(described)
    return l2_genesis(network.preset, network.timestamp_s)
