"""`openledger db`, as an operator uses it."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest
from typer.testing import CliRunner, Result

from openledger.evm_ext import Chain, PayloadAttributes
from openledger.evm_ext.heads import LABELS
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import DepositTransaction, transaction_from_deposit
from openledger.genesis.genesis import Genesis
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.node.cli.main import app
from openledger.node.errors import StartupError, UserError
from openledger.node.network import Network

TIMESTAMP = 1_700_000_000
KEY = keccak256(b"db")
BLOCKS = 40


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["db", *map(str, arguments)])


@pytest.fixture(scope="module")
def genesis() -> Genesis:
    return l2_genesis(DEVNET, TIMESTAMP)


@pytest.fixture
def data_dir(genesis: Genesis, tmp_path: Path) -> Path:
    """A data folder with 40 blocks, a deposit in each."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "network.json").write_text(Network(DEVNET, TIMESTAMP).to_json())
    chain = Chain.open(folder / "chain", genesis)
    for number in range(BLOCKS):
        head = chain.head()
        deposit = transaction_from_deposit(
            DepositTransaction(
                source_hash=keccak256(b"%d" % number),
                sender=address_of(KEY),
                to=bytes([number + 1]) * 20,
                mint=10**18,
                value=number + 1,
                gas=100_000,
                is_system_transaction=False,
                data=b"",
            )
        )
        attributes = PayloadAttributes(head.timestamp + 1, bytes(32), bytes(20), bytes(32), (deposit.raw,))
        block = chain.build(head.hash, attributes)
        chain.set_heads(unsafe=block.hash)
    final = chain.header_by_number(BLOCKS - 2)
    assert final is not None
    chain.set_heads(safe=final.hash, finalized=final.hash)
    chain.close()
    return folder


def test_a_sound_database_is_said_to_be(data_dir: Path) -> None:
    done = run("check", "--deep", "--data-dir", data_dir)
    assert done.exit_code == 0
    assert "sound" in done.output


def test_faults_are_listed_and_mended(data_dir: Path) -> None:
    database = plyvel.DB(str(data_dir / "chain"))
    key = next(key for key in database.iterator(prefix=b"a", include_value=False))
    database.delete(key)
    database.close()
    wrong = run("check", data_dir / "chain")
    assert f"flat tables: account 0x{key[1:].hex()} is missing" in wrong.output
    assert isinstance(wrong.exception, UserError)
    assert "--repair" in str(wrong.exception)
    mended = run("check", "--repair", data_dir / "chain")
    assert mended.exit_code == 0, mended.output
    assert f"the head was block {BLOCKS} and is block {BLOCKS}" in mended.output
    assert run("check", "--deep", data_dir / "chain").exit_code == 0


def test_a_damaged_database_says_what_mends_it_whatever_is_asked_of_it(data_dir: Path, tmp_path: Path) -> None:
    database = plyvel.DB(str(data_dir / "chain"))
    head = database.get(b"Hunsafe")
    database.delete(b"Hunsafe")
    database.close()
    exported = run("export", tmp_path / "x.rlp", data_dir / "chain")
    assert isinstance(exported.exception, UserError)
    assert "the unsafe head in" in str(exported.exception)
    database = plyvel.DB(str(data_dir / "chain"))
    database.put(b"Hunsafe", head)
    for key in list(database.iterator(prefix=b"n", include_value=False)):
        database.delete(key)
    database.close()
    pruned = run("prune", data_dir / "chain")
    assert isinstance(pruned.exception, UserError)
    for done in (exported, pruned):
        assert str(done.exception).endswith("`openledger db check --repair` mends what can be mended")


def test_a_folder_without_a_database_is_named(tmp_path: Path) -> None:
    for command in ("check", "prune"):
        done = run(command, tmp_path / "nothing")
        assert isinstance(done.exception, UserError)
        assert "holds no database" in str(done.exception)
        assert not (tmp_path / "nothing").exists()
    assert isinstance(run("check", tmp_path, "--data-dir", tmp_path).exception, StartupError)


def test_a_database_in_use_is_left_alone(data_dir: Path, genesis: Genesis) -> None:
    chain = Chain.open(data_dir / "chain", genesis)
    try:
        for arguments in (
            ("check",),
            ("check", "--repair"),
            ("prune",),
            ("export", data_dir / "x.rlp"),
            ("import", data_dir),
        ):
            done = run(*arguments, "--data-dir", data_dir)
            assert isinstance(done.exception, StartupError), done.output
            assert "in use by another process" in str(done.exception)
    finally:
        chain.close()


def test_pruning_says_what_it_freed(data_dir: Path) -> None:
    done = run("prune", "--keep-blocks", 16, "--keep-changes", 20, "--data-dir", data_dir)
    assert done.exit_code == 0, done.output
    assert "deleted" in done.output
    assert " MB -> " in done.output
    assert f"whole states from block {BLOCKS - 2 - 16} on" in done.output
    assert f"accounts and storage from block {BLOCKS - 2 - 20} on" in done.output
    assert run("check", "--deep", "--data-dir", data_dir).exit_code == 0
    assert isinstance(run("prune", "--keep-blocks", 1, "--data-dir", data_dir).exception, UserError)


def test_a_chain_goes_back_and_forth(data_dir: Path, genesis: Genesis, tmp_path: Path) -> None:
    run("export", tmp_path / "blocks.rlp", "--data-dir", data_dir)
    done = run("rollback", "--to", 7, "--data-dir", data_dir)
    assert f"the head was block {BLOCKS} and is block 7 0x" in done.output
    chain = Chain.open(data_dir / "chain", genesis)
    assert [chain.head(label).number for label in LABELS] == [7, 7, 7]
    chain.close()
    assert run("check", "--deep", "--data-dir", data_dir).exit_code == 0
    again = run("import", tmp_path / "blocks.rlp", "--final", "--data-dir", data_dir)
    assert f"the head is block {BLOCKS}" in again.output
    beyond = run("rollback", "--to", BLOCKS + 1, "--data-dir", data_dir)
    assert f"the chain has 0 to {BLOCKS}" in str(beyond.exception)
    run("prune", "--keep-blocks", 16, "--keep-changes", 16, "--data-dir", data_dir)
    too_far = run("rollback", "--to", 3, "--data-dir", data_dir)
    assert isinstance(too_far.exception, UserError)
    assert "was pruned" in str(too_far.exception)


@pytest.mark.parametrize("name", ["blocks.rlp", "blocks.rlp.gz"])
def test_blocks_go_out_and_in_again(data_dir: Path, genesis: Genesis, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert run("export", file, "--data-dir", data_dir).exit_code == 0
    assert (file.read_bytes()[:2] == b"\x1f\x8b") is name.endswith(".gz")
    other = tmp_path / "other"
    other.mkdir()
    (other / "network.json").write_text((data_dir / "network.json").read_text())
    done = run("import", file, "--data-dir", other)
    assert f"{BLOCKS} blocks executed; the head is block {BLOCKS}" in done.output
    first, second = (Chain.open(folder / "chain", genesis) for folder in (data_dir, other))
    assert first.head() == second.head()
    assert second.head("finalized").number == 0
    first.close()
    second.close()
    assert "0 blocks executed" in run("import", file, "--data-dir", other, "--final").output
    part = tmp_path / "part.rlp"
    assert "3 blocks, 3 to 5" in run("export", part, "--from", 3, "--to", 5, "--data-dir", data_dir).output
    assert "1 block, 3 to 3" in run("export", tmp_path / "one", "--from", 3, "--to", 3, "--data-dir", data_dir).output
    assert f"0 blocks executed; the head is block {BLOCKS}" in run("import", part, "--data-dir", other).output
    assert run("check", "--deep", "--data-dir", other).exit_code == 0


def test_a_geth_genesis_serves_an_import_elsewhere(data_dir: Path, genesis: Genesis, tmp_path: Path) -> None:
    file, description = tmp_path / "blocks.rlp", tmp_path / "genesis.json"
    run("export", file, "--data-dir", data_dir)
    description.write_text(json.dumps(genesis.to_json()))
    done = run("import", file, tmp_path / "elsewhere", "--genesis", description)
    assert f"the head is block {BLOCKS}" in done.output
    assert isinstance(run("import", file, tmp_path / "elsewhere").exception, StartupError)
    undescribed = run("import", file, "--data-dir", tmp_path / "elsewhere")
    assert isinstance(undescribed.exception, StartupError)
    assert "--genesis" in str(undescribed.exception)


def test_a_genesis_that_is_too_deep_is_refused_and_the_process_lives(data_dir: Path, tmp_path: Path) -> None:
    deep = tmp_path / "genesis.json"
    deep.write_text('{"config":' * 100_000 + "1" + "}" * 100_000)
    done = run("import", tmp_path / "blocks.rlp", tmp_path / "elsewhere", "--genesis", deep)
    assert isinstance(done.exception, StartupError)
    assert "depth limit" in str(done.exception)


def test_bad_files_and_ranges_are_refused(data_dir: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.rlp"
    run("export", whole, "--data-dir", data_dir)
    data = whole.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    (other / "network.json").write_text((data_dir / "network.json").read_text())
    for name, content, words in (
        ("cut.rlp", data[:-5], f"block {BLOCKS} of the file"),
        ("noise.rlp", b"noise", "block 0 of the file"),
        ("noise.rlp.gz", b"noise", "block 0 of the file"),
        ("cut.rlp.gz", gzip.compress(data)[:-20], "of the file"),
    ):
        (tmp_path / name).write_bytes(content)
        done = run("import", tmp_path / name, "--data-dir", other)
        assert isinstance(done.exception, UserError)
        assert words in str(done.exception), str(done.exception)
    missing = run("import", tmp_path / "missing.rlp", "--data-dir", other)
    assert str(missing.exception) == f"{tmp_path / 'missing.rlp'}: No such file or directory"
    over_a_folder = run("export", other, "--data-dir", data_dir)
    assert str(over_a_folder.exception) == f"{other}: Is a directory"
    into_nowhere = run("export", tmp_path / "nofolder" / "x.rlp", "--data-dir", data_dir)
    assert str(into_nowhere.exception) == f"{tmp_path / 'nofolder'}: there is no such folder"
    for arguments in (("--from", 7, "--to", 3), ("--to", BLOCKS + 1)):
        done = run("export", tmp_path / "never.rlp", *arguments, "--data-dir", data_dir)
        assert "there are no blocks" in str(done.exception)
    assert not list(tmp_path.glob("never*"))


@pytest.mark.parametrize("command", ["import", "prune", "check"])
def test_killed_at_any_moment_it_goes_on(data_dir: Path, genesis: Genesis, tmp_path: Path, command: str) -> None:
    """kill -9 in the middle, some times over; then once to the end."""
    if command == "import":
        run("export", tmp_path / "blocks.rlp", "--data-dir", data_dir)
        chain = Chain.open(data_dir / "chain", genesis)
        chain.rollback(chain.genesis_hash)
        chain.close()
        folder = tmp_path / "again"
        folder.mkdir()
        (folder / "network.json").write_text((data_dir / "network.json").read_text())
        arguments = ["import", str(tmp_path / "blocks.rlp"), "--data-dir", str(folder)]
    else:
        folder = data_dir
        arguments = {
            "prune": ["prune", "--keep-blocks", "16", "--keep-changes", "16"],
            "check": ["check", "--repair"],
        }[command] + ["--data-dir", str(folder)]
        if command == "check":
            database = plyvel.DB(str(folder / "chain"))
            for key in list(database.iterator(prefix=b"i", include_value=False)):
                database.delete(key)
            database.close()
    code = (
        "import os, signal, sys\n"
        "from openledger.evm_ext.batches import BatchWriter\n"
        "left = [int(sys.argv.pop(1))]\n"
        "whole = BatchWriter.batch\n"
        "def batch(self, **options):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole(self, **options)\n"
        "BatchWriter.batch = batch\n"
        "from openledger.node.cli.db import app\napp()\n"
    )
    for batches in (1, 4):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, str(batches), *arguments], capture_output=True, text=True
        )
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr
    final = run(*arguments)
    assert final.exit_code == 0, final.output
    assert run("check", "--deep", "--data-dir", folder).exit_code == 0
    chain = Chain.open(folder / "chain", genesis)
    assert chain.head().number == BLOCKS
    chain.close()
