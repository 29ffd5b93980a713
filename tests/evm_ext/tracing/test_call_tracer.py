"""What the tracers of messages say of calls, creations, failures, logs and deposits."""

from __future__ import annotations

import pytest

from openledger.evm_ext.errors import CallTimeout, TraceTooLarge, UnknownTracer
from openledger.evm_ext.tracing import Budget, new_tracer
from openledger.evm_ext.transactions import DepositTransaction, transaction_from_deposit
from openledger.evm_ext.vm.entry import contract_address
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256

CONTRACT = b"\xaa" * 20
OTHER = b"\xbb" * 20
GAS = 1_000_000


def _create(init_code: str, value: int = 0, salt: int | None = None) -> str:
    """CREATE, or CREATE2 with a salt, of up to 32 bytes of initialisation code."""
    size = len(init_code) // 2
    code = f"7f{init_code.ljust(64, '0')}600052"
    if salt is not None:
        code += f"60{salt:02x}"
    return code + f"60{size:02x}600060{value:02x}" + ("f0" if salt is None else "f5")


@pytest.fixture
def run(tools, open_chain, tracing):
    """`run(code)`: a trace by callTracer of a call of a contract with this code."""

    def run_one(code, *, others=None, options=None, tracer="callTracer", gas=GAS, **fields):
        genesis = tools.ethereum_genesis(
            {CONTRACT: GenesisAccount(nonce=1, balance=9, code=bytes.fromhex(code)), **(others or {})}
        )
        chain = open_chain(genesis, f"chain{run_one.count}")
        run_one.count += 1
        to = fields.pop("to", CONTRACT)
        block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, to, gas=gas, **fields),))
        run_one.receipt = chain.receipts(block.hash)[0]
        return tracing.trace(chain, block, name=tracer, **(options or {}))

    run_one.count = 0
    return run_one


def test_a_plain_payment_is_one_frame(run, tools):
    result = run("", to=OTHER, value=7, data=b"\x01")
    assert result == {
        "from": "0x" + tools.ADDRESSES[0].hex(),
        "gas": hex(GAS),
        "gasUsed": hex(21_016 + 24),
        "to": "0x" + OTHER.hex(),
        "input": "0x01",
        "value": "0x7",
        "type": "CALL",
    }
    assert list(result) == ["from", "gas", "gasUsed", "to", "input", "value", "type"]


@pytest.mark.parametrize(
    ("opcode", "kind", "value"),
    [("f1", "CALL", "0x3"), ("f2", "CALLCODE", "0x3"), ("f4", "DELEGATECALL", "0x5"), ("fa", "STATICCALL", None)],
)
def test_every_kind_of_call_names_who_calls_whose_code(run, opcode, kind, value):
    push_value = "6003" if opcode in ("f1", "f2") else ""
    result = run("6000600060006000" + push_value + "73" + OTHER.hex() + "5a" + opcode + "00", value=5)
    (call,) = result["calls"]
    assert (call["type"], call["from"], call["to"]) == (kind, "0x" + CONTRACT.hex(), "0x" + OTHER.hex())
    assert call.get("value") == value


def test_a_precompile_is_a_frame_too(run):
    (call,) = run("6020600060206000600060045af100")["calls"]
    assert (call["to"], call["gasUsed"], call["output"]) == ("0x" + "00" * 19 + "04", "0x12", "0x" + "00" * 32)


def test_a_call_beyond_the_balance_and_beyond_the_depth_is_a_frame_without_an_execution(run):
    (call,) = run("6000600060006000" + "60ff" + "73" + OTHER.hex() + "5af100")["calls"]
    assert (call["error"], call["gasUsed"], call["value"]) == ("insufficient balance for transfer", "0x0", "0xff")
    (creation,) = run(_create("00", value=200) + "00")["calls"]
    assert (creation["error"], creation["gasUsed"], creation["input"]) == (
        "insufficient balance for transfer",
        "0x0",
        "0x00",
    )
    assert "to" not in creation


def test_creations_show_their_code(run):
    first, second = run(_create("60016000f3") + "50" + _create("60016000f3", salt=9) + "00")["calls"]
    assert (first["type"], first["to"], first["output"]) == (
        "CREATE",
        "0x" + contract_address(CONTRACT, 1).hex(),
        "0x00",
    )
    salted = keccak256(b"\xff" + CONTRACT + (9).to_bytes(32, "big") + keccak256(bytes.fromhex("60016000f3")))[12:]
    assert (second["type"], second["to"], second["input"]) == ("CREATE2", "0x" + salted.hex(), "0x60016000f3")


@pytest.mark.parametrize(
    ("init_code", "error"),
    [
        ("60ef60005360016000f3", "invalid code: must not begin with 0xef"),
        ("6160016000f3", "max code size exceeded"),
        ("6155016000f3", "contract creation code storage out of gas"),
        ("60006000fd", "execution reverted"),
        ("fe", "invalid opcode: INVALID"),
        ("50", "stack underflow (0 <=> 1)"),
        ("0c", "invalid opcode: opcode 0xc not defined"),
        ("600456", "invalid jump destination"),
        ("60016000600f3e", "return data out of bounds"),
    ],
)
def test_a_failed_creation_says_why_and_names_no_contract(run, init_code, error):
    if "storage out" in error:
        result = run(_create(init_code) + "00", gas=900_000)
    else:
        result = run(_create(init_code) + "00", gas=10_000_000)
    (creation,) = result["calls"]
    assert creation["error"] == error
    assert "to" not in creation


def test_a_taken_address_fails_the_creation_and_its_row_has_its_cost(run):
    taken = {contract_address(CONTRACT, 1): GenesisAccount(nonce=1)}
    (creation,) = run(_create("00") + "00", others=taken)["calls"]
    assert creation["error"] == "contract address collision"
    assert creation["gas"] == creation["gasUsed"]
    rows = run(_create("00") + "00", others=taken, tracer="")["structLogs"]
    assert next(row for row in rows if row["op"] == "CREATE")["gasCost"] == 32_000 + 2


def test_a_taken_address_fails_the_transaction_too(run, tools):
    sender = tools.ADDRESSES[0]
    result = run("", to=None, others={contract_address(sender, 0): GenesisAccount(nonce=1)}, data=b"\x00")
    assert (result["type"], result["error"]) == ("CREATE", "contract address collision")
    assert result["gasUsed"] == hex(GAS)


def test_a_write_in_a_static_call_is_named(run):
    others = {OTHER: GenesisAccount(nonce=1, code=bytes.fromhex("6001600055"))}
    (call,) = run("600060006000600073" + OTHER.hex() + "5afa00", others=others)["calls"]
    assert call["error"] == "out of gas: write protection"
    rows = run("600060006000600073" + OTHER.hex() + "5afa00", others=others, tracer="")["structLogs"]
    failed = next(row for row in rows if row["op"] == "SSTORE")
    assert (failed["gasCost"], failed["error"]) == (0, "out of gas: write protection")


def test_a_revert_with_a_reason_is_read(run):
    # MSTORE8 Error("no") by hand: selector, offset 32, length 2, text
    code = "6308c379a060e01b600052602060045260026024526" + "16e6f60f01b60445260646000fd"
    result = run(code)
    assert (result["error"], result["revertReason"]) == ("execution reverted", "no")
    assert result["output"].startswith("0x08c379a0")


LOGGER = "60006000a0"
"""LOG0 of nothing."""


def test_logs_have_their_place_among_calls_and_their_index_in_the_block(run):
    others = {
        OTHER: GenesisAccount(nonce=1, code=bytes.fromhex(LOGGER + "60006000fd")),
        b"\xcc" * 20: GenesisAccount(nonce=1, code=bytes.fromhex(LOGGER)),
    }
    call = "60006000600060006000" + "73{}" + "5af150"
    code = LOGGER + call.format(OTHER.hex()) + call.format("cc" * 20) + LOGGER + "00"
    result = run(code, others=others, options={"withLog": True})
    assert [(log["index"], log["position"]) for log in result["logs"]] == [("0x0", "0x0"), ("0x2", "0x2")]
    reverted, logged = result["calls"]
    assert "logs" not in reverted
    assert [log["index"] for log in logged["logs"]] == ["0x1"]
    assert len(run.receipt.logs) == 3
    only = run(code, others=others, options={"withLog": True, "onlyTopCall": True})
    assert [log["index"] for log in only["logs"]] == ["0x0", "0x2"]
    assert "calls" not in only


def test_selectors_are_counted_without_precompiles_and_creations(run):
    data = bytes.fromhex("deadbeef") + bytes(32)
    code = (
        "63cafebabe60e01b600052" + "6000600060046000600060045af150" + "6000600060046000600073" + OTHER.hex() + "5af100"
    )
    assert run(code, data=data, tracer="4byteTracer") == {"0xcafebabe-0": 1, "0xdeadbeef-32": 1}


@pytest.mark.parametrize("to", [None, bytes(19) + b"\x04"], ids=["creation", "precompile"])
def test_a_transaction_that_calls_no_contract_has_no_selector(run, to):
    assert run("", to=to, data=bytes.fromhex("00deadbeef"), tracer="4byteTracer") == {}


def test_several_tracers_run_in_one_execution(run):
    options = {"callTracer": {"onlyTopCall": True}, "4byteTracer": None, "noopTracer": {}, "prestateTracer": {}}
    result = run("00", tracer="muxTracer", options=options, data=b"\x01\x02\x03\x04")
    assert list(result) == sorted(options)
    assert result["4byteTracer"] == {"0x01020304-0": 1}
    assert result["noopTracer"] == {}
    assert result["callTracer"] == run("00", data=b"\x01\x02\x03\x04")


def test_calls_are_flattened_with_their_places(run):
    inner = "6000600060006000600073" + "cc" * 20 + "5af100"
    others = {OTHER: GenesisAccount(nonce=1, code=bytes.fromhex(inner))}
    rows = run("6000600060006000600073" + OTHER.hex() + "5af1" + "33ff", others=others, tracer="flatCallTracer")
    assert [(row["type"], row["traceAddress"], row["subtraces"]) for row in rows] == [
        ("call", [], 2),
        ("call", [0], 1),
        ("call", [0, 0], 0),
        ("suicide", [1], 0),
    ]
    assert rows[3]["action"]["balance"] == "0x9"


def test_a_deposit_is_traced_with_what_it_mints(tools, open_chain, tracing):
    chain = open_chain(tools.op_genesis())
    sender, to = b"\x77" * 20, b"\x88" * 20
    deposit = DepositTransaction(keccak256(b"1"), sender, to, 1000, 400, 50_000, False, b"")
    failing = DepositTransaction(keccak256(b"2"), sender, to, 5, 10**18, 50_000, False, b"")
    block = tools.extend(chain, tuple(map(transaction_from_deposit, (deposit, failing))))
    top = tracing.trace(chain, block, 0, "callTracer")
    assert (top["from"], top["to"], top["value"], top["gas"]) == (
        "0x" + "77" * 20,
        "0x" + "88" * 20,
        "0x190",
        hex(50_000),
    )
    state = tracing.trace(chain, block, 0, "prestateTracer", diffMode=True)
    assert "0x" + "77" * 20 not in state["pre"]
    assert state["post"]["0x" + "77" * 20] == {"balance": hex(600), "nonce": 1}
    failed = tracing.trace(chain, block, 1, "callTracer")
    assert failed == {
        "from": "0x" + "00" * 20,
        "gas": "0x0",
        "gasUsed": hex(50_000),
        "input": "0x",
        "error": "failed deposit transaction",
        "type": "STOP",
    }
    assert tracing.trace(chain, block, 1)["structLogs"] == []
    assert tracing.trace(chain, block, 1, "prestateTracer", diffMode=True)["post"]["0x" + "77" * 20] == {
        "balance": hex(605),
        "nonce": 2,
    }


def test_limits_stop_a_trace_while_it_runs(tools, open_chain, tracing):
    genesis = tools.ethereum_genesis({CONTRACT: GenesisAccount(nonce=1, code=bytes.fromhex("5b5f56"))})
    chain = open_chain(genesis)
    block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, CONTRACT, gas=3_000_000),))
    with pytest.raises(TraceTooLarge, match="larger than 10000 bytes"):
        tracing.trace(chain, block, limit_bytes=10_000)
    replay = tracing.replay(chain, block, deadline=0.0)
    with pytest.raises(CallTimeout):
        replay.trace_next(new_tracer("callTracer", {}, Budget(1000)))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jsTracer", {}, "tracer not found"),
        ("callTracer", {"withLog": 1}, "withLog is true or false"),
        ("", {"limit": -1}, "limit is a number of rows"),
        ("muxTracer", {"muxTracer": {}}, "does not run itself"),
        ("muxTracer", {"callTracer": 3}, "an object or null"),
        ("muxTracer", {f"tracer{index}": None for index in range(9)}, "at most 8"),
    ],
)
def test_a_tracer_that_cannot_be_made_says_why(name, options, words):
    with pytest.raises(UnknownTracer, match=words):
        new_tracer(name, options, Budget(1000))
