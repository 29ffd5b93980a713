"""Damage of every kind is named, and mended as far as anything can be mended."""

from __future__ import annotations

import random
import shutil

import plyvel
import pytest

from openledger.evm_ext import Chain
from openledger.evm_ext.block_file import export_block_file, import_block_file
from openledger.evm_ext.errors import BeyondRepair, DatabaseCorrupt, DatabaseLocked
from openledger.evm_ext.integrity import check
from openledger.evm_ext.repair import open_damaged, repair
from openledger.evm_ext.store import Store, number_key
from openledger.genesis.genesis import GenesisAccount

COUNTER = b"\xc0" * 20
COUNTER_CODE = bytes.fromhex("4343 55 5f54600101 5f55 00".replace(" ", ""))  # word[number] = number, word[0] += 1
CHAIN_ID = 1337


@pytest.fixture
def genesis(tools):
    return tools.ethereum_genesis({COUNTER: GenesisAccount(nonce=1, code=COUNTER_CODE)})


@pytest.fixture
def folder(tools, genesis, tmp_path):
    """A closed chain of ten blocks, two transactions each, with a branch; finalized 5, safe 7."""
    chain = Chain.open(tmp_path / "chain", genesis)
    for height in range(10):
        tools.extend(
            chain,
            (
                tools.signed(0, CHAIN_ID, 2 * height, COUNTER),
                tools.signed(0, CHAIN_ID, 2 * height + 1, bytes([0x50 + height]) * 20, value=height + 1),
            ),
        )
    parent = chain.header_by_number(8)
    chain.build(parent.hash, tools.attributes(parent, suggested_fee_recipient=b"\x09" * 20))
    five, seven = chain.header_by_number(5), chain.header_by_number(7)
    chain.set_heads(safe=seven.hash, finalized=five.hash)
    chain.close()
    return tmp_path / "chain"


def faults_of(folder, *, deep=False):
    store = Store(folder, create=False)
    try:
        return list(check(store, deep=deep))
    finally:
        store.close()


def change(folder, key: bytes, value: bytes | None) -> None:
    database = plyvel.DB(str(folder))
    if value is None:
        assert database.get(key) is not None
        database.delete(key)
    else:
        database.put(key, value)
    database.close()


def value_of(folder, key: bytes) -> bytes:
    database = plyvel.DB(str(folder))
    value = database.get(key)
    database.close()
    assert value is not None
    return value


def keys(folder, letter: bytes) -> list[bytes]:
    database = plyvel.DB(str(folder))
    found = list(database.iterator(start=letter, stop=bytes((letter[0] + 1,)), include_value=False))
    database.close()
    return found


def mend(folder):
    store, lost_pieces = open_damaged(folder)
    try:
        repaired = repair(store, lost_pieces=lost_pieces)
        assert list(check(store, deep=True)) == []
        return repaired
    finally:
        store.close()


def flipped(data: bytes, position: int = -3) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0x10
    return bytes(changed)


def test_a_sound_store_has_no_faults(folder):
    assert faults_of(folder, deep=True) == []
    assert mend(folder).faults == ()


def test_indexes_are_made_anew_without_losing_a_block(tools, genesis, folder):
    before = {letter: keys(folder, letter) for letter in (b"i", b"t", b"k")}
    change(folder, before[b"i"][4], None)
    change(folder, before[b"t"][3], None)
    change(folder, before[b"k"][2], None)
    change(folder, b"i" + number_key(99), b"\x01" * 32)
    change(folder, b"t" + b"\x02" * 32, b"\x01" * 36)
    tables = [fault.table for fault in faults_of(folder)]
    assert sorted(tables) == [
        "block list",
        "canonical index",
        "canonical index",
        "transaction index",
        "transaction index",
    ]
    repaired = mend(folder)
    assert (repaired.old_head, repaired.head, repaired.forgotten) == (10, 10, 0)
    assert {letter: keys(folder, letter) for letter in before} == before
    chain = Chain.open(folder, genesis)
    assert [chain.head(label).number for label in ("unsafe", "safe", "finalized")] == [10, 7, 5]
    tools.extend(chain, (tools.signed(0, CHAIN_ID, 20, COUNTER),))
    chain.close()


@pytest.mark.parametrize("letter", [b"a", b"s"])
def test_flat_tables_are_made_anew(genesis, folder, letter):
    original = keys(folder, letter)
    change(folder, original[0], None)
    change(folder, original[1], flipped(value_of(folder, original[1]), -1))
    change(folder, letter + b"\x33" * (len(original[0]) - 1), b"\x05")
    found = faults_of(folder)
    assert [fault.table for fault in found] == ["flat tables"] * 3
    assert {fault.text.rsplit(" 0x", 1)[0] for fault in found} <= {"account", "slot"}
    assert mend(folder).head == 10
    chain = Chain.open(folder, genesis)
    assert chain.state(chain.head().hash).storage(COUNTER, 0) == 10
    assert chain.state(chain.header_by_number(6).hash).storage(COUNTER, 0) == 6
    chain.close()


@pytest.mark.parametrize("damage", ["missing", "flipped", "rubbish"])
@pytest.mark.parametrize(("letter", "table"), [(b"b", "bodies"), (b"r", "receipts"), (b"h", "headers")])
def test_a_damaged_block_is_cut_off_and_fetched_again(tools, genesis, folder, letter, table, damage):
    chain = Chain.open(folder, genesis)
    blocks = [chain.block_by_number(number) for number in range(1, 11)]
    chain.close()
    key = letter + blocks[6].hash
    changed = {"missing": None, "flipped": flipped(value_of(folder, key)), "rubbish": b"\xff\x00rubbish"}[damage]
    change(folder, key, changed)
    found = faults_of(folder)
    assert table in {fault.table for fault in found}
    assert any("7" in fault.text or blocks[6].hash.hex() in fault.text for fault in found)
    repaired = mend(folder)
    assert (repaired.head, repaired.forgotten) == (6, 5)
    chain = Chain.open(folder, genesis)
    assert [chain.head(label).number for label in ("unsafe", "safe", "finalized")] == [
        6,
        5 if letter == b"h" else 6,  # the lost header was the safe head's
        5,
    ]
    for block in blocks[6:]:
        chain.import_block(block)
    chain.set_heads(unsafe=blocks[-1].hash)
    assert chain.state(blocks[-1].hash).storage(COUNTER, 0) == 10
    chain.close()
    assert faults_of(folder, deep=True) == []


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_damaged_state_takes_the_heads_back_to_a_whole_one(genesis, folder, damage):
    """Storage nodes of the counter that only the last blocks have."""
    chain = Chain.open(folder, genesis)
    nodes = {}
    for number in (7, 8):
        view = chain.state(chain.header_by_number(number).hash)
        nodes[number] = set(view.reader.storage_trie(COUNTER, view.storage_root(COUNTER)).node_keys())
    head = chain.state(chain.head().hash)
    now = set(head.reader.storage_trie(COUNTER, head.storage_root(COUNTER)).node_keys())
    chain.close()
    key = b"n" + min(now & nodes[8] - nodes[7])
    change(folder, key, None if damage == "missing" else flipped(value_of(folder, key)))
    assert [fault.table for fault in faults_of(folder)] == ["state"]
    repaired = mend(folder)
    assert repaired.head == 7
    chain = Chain.open(folder, genesis)
    assert chain.state(chain.head().hash).storage(COUNTER, 0) == 7
    chain.close()


def test_missing_code_is_named_and_what_is_left_to_do_once_no_state_is_whole(genesis, folder, tmp_path):
    change(folder, keys(folder, b"c")[0], None)
    assert [fault.table for fault in faults_of(folder)] == ["code"]
    for _ in range(2):
        with pytest.raises(BeyondRepair, match=r"no state .* is whole: .*`openledger db export`, move the folder away"):
            mend(folder)
    with pytest.raises(BeyondRepair, match=r"found nothing to go back to: .*`openledger db export`, move"):
        Chain.open(folder, genesis)
    store = Store(folder, create=False)
    try:
        export_block_file(store, tmp_path / "saved.rlp", 0, 10, on_block=lambda number: None)
    finally:
        store.close()
    anew = Chain.open(tmp_path / "anew", genesis)
    assert import_block_file(anew, tmp_path / "saved.rlp") == 10
    assert anew.state(anew.head().hash).storage(COUNTER, 0) == 10
    anew.close()


def test_wrong_heads_are_put_right(genesis, folder):
    chain = Chain.open(folder, genesis)
    side = next(h for n, h in chain._store.blocks_from(9, 10) if h != chain.header_by_number(9).hash)
    chain.close()
    change(folder, b"Hsafe", side)
    change(folder, b"Hfinalized", None)
    assert [fault.table for fault in faults_of(folder)] == ["heads", "heads"]
    with pytest.raises(DatabaseCorrupt, match="finalized head"):
        Chain.open(folder, genesis)
    mend(folder)
    chain = Chain.open(folder, genesis)
    assert [chain.head(label).number for label in ("unsafe", "safe", "finalized")] == [10, 0, 0]
    chain.close()


def test_history_and_changes_are_checked_deeply(folder):
    history, diffs = keys(folder, b"S"), keys(folder, b"d")
    change(folder, history[0], b"\x77")
    change(folder, history[1], None)
    change(folder, diffs[0], b"\x00")
    assert faults_of(folder) == []
    assert {fault.table for fault in faults_of(folder, deep=True)} == {"history", "changes"}


def test_an_interrupted_repair_is_finished_first(genesis, folder):
    change(folder, b"mrepairing", b"1")
    with pytest.raises(DatabaseCorrupt, match="interrupted"):
        Chain.open(folder, genesis)
    assert mend(folder).head == 10
    Chain.open(folder, genesis).close()


@pytest.mark.parametrize("damage", ["no CURRENT", "no MANIFEST", "MANIFEST", "CURRENT"])
def test_lost_lists_of_files_are_made_anew(genesis, folder, damage):
    if damage == "no CURRENT":
        (folder / "CURRENT").unlink()
    elif damage == "CURRENT":
        (folder / "CURRENT").write_bytes(b"nonsense\n")
    for file in folder.glob("MANIFEST-*"):
        if damage == "no MANIFEST":
            file.unlink()
        elif damage == "MANIFEST":
            file.write_bytes(flipped(file.read_bytes(), 20))
    with pytest.raises(DatabaseCorrupt, match="db check --repair"):
        Store(folder, create=False)
    with pytest.raises(DatabaseCorrupt):
        Chain.open(folder, genesis)
    assert mend(folder).head == 10
    chain = Chain.open(folder, genesis)
    assert chain.state(chain.head().hash).storage(COUNTER, 0) == 10
    chain.close()


def test_random_damage_to_files_is_noticed_and_mended_or_refused(tools, genesis, folder, tmp_path):
    """Bits flipped in tables, and logs cut short: never a wrong answer, never an exception that is not ours."""
    chance = random.Random(11)
    database = plyvel.DB(str(folder))
    database.compact_range()
    database.close()
    chain = Chain.open(folder, genesis)
    for height in range(3):
        tools.extend(chain, (tools.signed(0, CHAIN_ID, 20 + height, COUNTER),))
    chain.close()
    mended = 0
    for round_number in range(12):
        copy = tmp_path / f"damaged {round_number}"
        shutil.copytree(folder, copy)
        files = sorted(copy.glob("*.ldb")) + sorted(copy.glob("*.log"))
        file = chance.choice([item for item in files if item.stat().st_size])
        data = file.read_bytes()
        if file.suffix == ".log" and chance.random() < 0.5:
            file.write_bytes(data[: chance.randrange(len(data))])
        else:
            file.write_bytes(flipped(data, chance.randrange(len(data))))
        refusals: list[str] = []
        try:
            repaired = mend(copy)
        except DatabaseCorrupt as error:
            refusals.append(str(error))
            continue
        finally:
            assert all("sync again" in text or "no database" in text for text in refusals)
        mended += 1
        chain = Chain.open(copy, genesis)
        head = chain.head()
        assert head.number == repaired.head
        assert chain.state(head.hash).storage(COUNTER, 0) == head.number
        chain.close()
    assert mended


def test_a_store_in_use_is_not_touched(genesis, folder):
    import subprocess
    import sys

    chain = Chain.open(folder, genesis)
    try:
        code = (
            "import sys, pathlib\nfrom openledger.evm_ext.repair import open_damaged\n"
            "from openledger.evm_ext.database import repair_files\nfrom openledger.evm_ext.errors import DatabaseLocked\n"
            "for work in (open_damaged, repair_files):\n"
            "    try:\n        work(pathlib.Path(sys.argv[1]))\n"
            "    except DatabaseLocked:\n        continue\n    sys.exit('not locked')\n"
        )
        subprocess.run([sys.executable, "-P", "-c", code, str(folder)], check=True)
        with pytest.raises(DatabaseLocked):
            open_damaged(folder)
    finally:
        chain.close()
