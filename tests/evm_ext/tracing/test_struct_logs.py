"""Rows of the default tracer, on programs small enough to be checked by hand."""

from __future__ import annotations

import pytest

from openledger.genesis.genesis import GenesisAccount

CONTRACT = b"\xaa" * 20
OTHER = b"\xbb" * 20


@pytest.fixture
def run(tools, open_chain, tracing):
    """`run(code, **fields)`: the trace of a transaction to a contract with this code."""

    def run_one(code, *, gas=100_000, others=None, options=None, name="", **fields):
        genesis = tools.ethereum_genesis(
            {CONTRACT: GenesisAccount(nonce=1, code=bytes.fromhex(code)), **(others or {})}
        )
        chain = open_chain(genesis, f"chain{run_one.count}")
        run_one.count += 1
        transaction = tools.signed(0, chain.chain_id, 0, CONTRACT, gas=gas, **fields)
        block = tools.extend(chain, (transaction,))
        return tracing.trace(chain, block, name=name, **(options or {}))

    run_one.count = 0
    return run_one


def test_a_row_shows_the_machine_before_its_opcode(run):
    # PUSH1 1 PUSH1 2 ADD PUSH1 0 MSTORE STOP
    result = run("600160020160005200")
    assert result == {
        "gas": 21_000 + 3 * 5 + 3 + 3 - 3,
        "failed": False,
        "returnValue": "0x",
        "structLogs": [
            {"pc": 0, "op": "PUSH1", "gas": 79_000, "gasCost": 3, "depth": 1, "stack": []},
            {"pc": 2, "op": "PUSH1", "gas": 78_997, "gasCost": 3, "depth": 1, "stack": ["0x1"]},
            {"pc": 4, "op": "ADD", "gas": 78_994, "gasCost": 3, "depth": 1, "stack": ["0x1", "0x2"]},
            {"pc": 5, "op": "PUSH1", "gas": 78_991, "gasCost": 3, "depth": 1, "stack": ["0x3"]},
            {"pc": 7, "op": "MSTORE", "gas": 78_988, "gasCost": 6, "depth": 1, "stack": ["0x3", "0x0"]},
            {"pc": 8, "op": "STOP", "gas": 78_982, "gasCost": 0, "depth": 1, "stack": []},
        ],
    }


def test_code_that_ends_is_followed_by_a_stop_and_no_code_by_nothing(run):
    assert [row["op"] for row in run("6001")["structLogs"]] == ["PUSH1", "STOP"]
    assert run("")["structLogs"] == []


def test_memory_and_return_data_are_shown_when_asked_for(run):
    result = run("600160005260206000f3", options={"enableMemory": True, "enableReturnData": True})
    assert "memory" not in result["structLogs"][2]
    assert result["structLogs"][3]["memory"] == ["0x" + "0" * 63 + "1"]
    assert result["returnValue"] == "0x" + "0" * 63 + "1"


def test_stack_and_storage_are_left_out_when_asked(run):
    rows = run("6001600255", options={"disableStack": True, "disableStorage": True})["structLogs"]
    assert all("stack" not in row and "storage" not in row for row in rows)


def test_a_limit_ends_the_rows_but_not_the_execution(run):
    result = run("60016002016000526001600255", options={"limit": 2})
    assert len(result["structLogs"]) == 2
    assert result["gas"] > 40_000


def test_storage_rows_show_every_slot_seen_so_far(run):
    # SSTORE(2, 1), SLOAD(3)
    rows = run("600160025560035450")["structLogs"]
    word = "0x{:064x}".format
    assert rows[2]["storage"] == {word(2): word(1)}
    assert rows[4]["storage"] == {word(2): word(1), word(3): word(0)}
    assert rows[2]["gasCost"] == 22_100
    assert rows[4]["gasCost"] == 2_100


def test_a_refund_is_counted_from_the_row_after_it(run):
    storage = {OTHER: GenesisAccount()}
    rows = run("60016000556000600055600160015500", others=storage, gas=200_000)["structLogs"]
    assert [row.get("refund", 0) for row in rows] == [0, 0, 0, 0, 0, 0, 19_900, 19_900, 19_900, 19_900]


@pytest.mark.parametrize(
    ("code", "error", "cost"),
    [
        ("01", "stack underflow (0 <=> 2)", 3),
        ("600101", "stack underflow (1 <=> 2)", 3),
        ("60ff60005260ff62ffffff52", "out of gas", None),
        ("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff51", "gas uint64 overflow", 3),
        ("6001" + "64" + "1000000000" + "53", "out of gas", None),
        ("6001" + "64" + "2000000000" + "53", "out of gas: gas uint64 overflow", 3),
    ],
)
def test_an_opcode_that_cannot_start_says_why(run, code, error, cost):
    result = run(code)
    last = result["structLogs"][-1]
    assert last["error"] == error
    assert result["failed"]
    assert result["returnValue"] == "0x"
    if cost is not None:
        assert last["gasCost"] == cost


def test_the_row_of_an_unpayable_opcode_shows_what_it_would_have_cost(run):
    # MSTORE far out: 3 + 3 w + w² / 512 for the words up to it
    rows = run("600161ffff60100252", gas=60_000)["structLogs"]
    words = (0xFFFF * 0x10 + 32 + 31) // 32
    assert rows[-1]["gasCost"] == 3 + 3 * words + words * words // 512
    assert rows[-1]["error"] == "out of gas"


def test_a_cold_slot_that_cannot_be_paid_costs_as_cold(run):
    rows = run("600054", gas=21_000 + 3 + 2_000)["structLogs"]
    assert (rows[-1]["op"], rows[-1]["gasCost"], rows[-1]["error"]) == ("SLOAD", 2_100, "out of gas")


@pytest.mark.parametrize("code", ["fe", "0c", "600456", "60016000fd"])
def test_errors_of_a_running_opcode_are_not_errors_of_its_row(run, code):
    result = run(code)
    assert result["failed"]
    assert "error" not in result["structLogs"][-1]


def test_a_call_costs_what_it_hands_on_and_its_rows_are_one_deeper(run):
    # CALL(gas 1000, OTHER, 0, …) then STOP; OTHER: PUSH1 7
    code = "60006000600060006000" + "73" + OTHER.hex() + "6103e8f100"
    rows = run(code, others={OTHER: GenesisAccount(nonce=1, code=bytes.fromhex("6007"))})["structLogs"]
    call = next(row for row in rows if row["op"] == "CALL")
    assert call["gasCost"] == 2_600 + 1_000
    inner = [row for row in rows if row["depth"] == 2]
    assert [(row["op"], row["gas"]) for row in inner] == [("PUSH1", 1_000), ("STOP", 997)]
    assert rows[-1]["gas"] == call["gas"] - 2_600 - 3
