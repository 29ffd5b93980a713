"""Every message gets the answer JSON-RPC 2.0 and geth give it, and none can hurt the node."""

import json
import threading

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.node.rpc.dispatcher import Caller, Dispatcher, DispatchLimits
from openledger.node.rpc.errors import RpcError
from openledger.node.rpc.methods import Parameter, TakesLonger, rpc_method
from openledger.node.rpc.parameters import ADDRESS, BLOCK, QUANTITY


class Sample:
    @rpc_method("test_add", QUANTITY, QUANTITY.optional(5))
    def add(self, left: int, right: int) -> str:
        return hex(left + right)

    @rpc_method("test_thread", blocking=True)
    def thread(self) -> str:
        return threading.current_thread().name

    @rpc_method("test_tried", QUANTITY, slow=True, at_once="tried_at_once")
    def tried(self, value: int) -> str:
        return threading.current_thread().name

    def tried_at_once(self, value: int) -> str:
        if value == 0:
            raise TakesLonger
        if value == 1:
            raise RpcError(3, "no")
        return threading.current_thread().name

    @rpc_method("test_async", QUANTITY)
    async def later(self, value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value + 1

    @rpc_method("test_fail")
    def fail(self) -> None:
        raise RpcError(3, "execution reverted: no", "0x08c379a0")

    @rpc_method("test_bug")
    def bug(self) -> None:
        raise KeyError("secret")

    @rpc_method("test_large", QUANTITY)
    def large(self, size: int) -> str:
        return "x" * size

    @rpc_method("test_trusted", trusted=True)
    def trusted(self) -> bool:
        return True

    @rpc_method("test_caller", with_caller=True)
    def caller(self, caller: Caller) -> bool:
        return caller.trusted

    @rpc_method("test_address", ADDRESS, BLOCK.optional())
    def address(self, address: bytes, block: object) -> str:
        return address.hex()


def build(**limits: int) -> Dispatcher:
    dispatcher = Dispatcher(DispatchLimits(**limits))
    dispatcher.register(Sample())
    return dispatcher


async def ask(dispatcher: Dispatcher, message: object, caller: Caller | None = None):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    answer = await dispatcher.handle(body, caller or Caller())
    return None if answer is None else json.loads(answer)


def call(method: str, *params: object, identifier: object = 1) -> dict:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": list(params)}


async def result(dispatcher: Dispatcher, method: str, *params: object):
    answer = await ask(dispatcher, call(method, *params))
    assert "error" not in answer, answer
    return answer["result"]


async def error(dispatcher: Dispatcher, method: str, *params: object) -> tuple[int, str]:
    answer = await ask(dispatcher, call(method, *params))
    return answer["error"]["code"], answer["error"]["message"]


async def test_calls_are_answered_with_their_own_id():
    dispatcher = build()
    for identifier in (1, 0, -5, "a", "", 1.5, None, 2**70):
        answer = await ask(dispatcher, call("test_add", "0x1", "0x2", identifier=identifier))
        assert answer == {"jsonrpc": "2.0", "id": identifier, "result": "0x3"}


async def test_parameters_may_be_left_out_or_null_where_optional():
    dispatcher = build()
    assert await result(dispatcher, "test_add", "0x1") == "0x6"
    assert await result(dispatcher, "test_add", "0x1", None) == "0x6"
    assert await ask(dispatcher, {"jsonrpc": "2.0", "id": 1, "method": "test_trusted"}, Caller(trusted=True)) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": True,
    }


async def test_blocking_methods_run_in_threads_and_async_ones_are_awaited():
    dispatcher = build()
    assert await result(dispatcher, "test_thread") != threading.current_thread().name
    assert await result(dispatcher, "test_async", "0x1") == 2


async def test_what_may_be_quick_is_tried_before_a_thread_is_asked():
    dispatcher = build()
    here = threading.current_thread().name
    assert await result(dispatcher, "test_tried", "0x2") == here
    assert await error(dispatcher, "test_tried", "0x1") == (3, "no")
    assert await result(dispatcher, "test_tried", "0x0") != here
    answers = await ask(dispatcher, [call("test_tried", value, identifier=value) for value in ("0x2", "0x0", "0x1")])
    assert [answer["id"] for answer in answers] == ["0x2", "0x0", "0x1"]
    assert [answer.get("result") == here for answer in answers] == [True, False, False]


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("eth_fillTransaction", [], -32601, "the method eth_fillTransaction does not exist/is not available"),
        ("test_trusted", [], -32601, "the method test_trusted does not exist/is not available"),
        ("test_add", [], -32602, "missing value for required argument 0"),
        ("test_add", ["0x1", "0x2", "0x3"], -32602, "too many arguments, want at most 2"),
        ("test_add", ["1"], -32602, "invalid argument 0: hex string without 0x prefix"),
        ("test_add", ["0x01"], -32602, "invalid argument 0: hex number with leading zero digits"),
        ("test_add", ["0x"], -32602, 'invalid argument 0: hex string "0x" has no digits; zero is "0x0"'),
        ("test_add", ["0x" + "f" * 65], -32602, "invalid argument 0: hex number > 256 bits"),
        ("test_add", [7], -32602, "invalid argument 0: expected a hex string, got a number"),
        ("test_add", ["0x1\n"], -32602, "invalid argument 0: invalid hex string"),
        ("test_address", ["0x12"], -32602, "invalid argument 0: hex string has length 2, want 40 for an address"),
        (
            "test_address",
            ["0x" + "11" * 20, "newest"],
            -32602,
            "invalid argument 1: hex string without 0x prefix: 'newest' is no block; use a number in hex, a hash, "
            "or latest, safe, finalized, pending, earliest",
        ),
        ("test_fail", [], 3, "execution reverted: no"),
        ("test_bug", [], -32603, "test_bug failed inside; the node's log says why"),
    ],
)
async def test_what_is_wrong_is_said_with_its_code(method, params, code, message):
    assert await error(build(), method, *params) == (code, message)


async def test_a_revert_carries_its_data():
    answer = await ask(build(), call("test_fail"))
    assert answer["error"] == {"code": 3, "message": "execution reverted: no", "data": "0x08c379a0"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"test_add","params":[}', -32700),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"test_add","params":' + b"[" * 50_000 + b"]" * 50_000 + b"}", None),
        (b"[" + b"[]," * 300_000 + b"[]]", -32700),
        (b"1", -32600),
        (b"null", -32600),
        (b"[]", -32600),
        (b'{"id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"test_add"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"test_add"}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"test_add"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"test_add","params":{"a":1}}', -32602),
    ],
)
async def test_malformed_messages_get_their_codes(body, code):
    answer = await ask(build(), body)
    assert answer["jsonrpc"] == "2.0"
    if code is None:
        assert answer["error"]["code"] in (-32700, -32602)
    else:
        assert answer["error"]["code"] == code


async def test_notifications_are_not_answered():
    dispatcher = build()
    assert await ask(dispatcher, {"jsonrpc": "2.0", "method": "test_add", "params": ["0x1"]}) is None
    assert await ask(dispatcher, [{"jsonrpc": "2.0", "method": "test_bug"}]) is None


async def test_a_batch_answers_each_of_its_calls_and_only_those():
    answers = await ask(
        build(),
        [
            call("test_add", "0x1", "0x1", identifier="a"),
            7,
            {"jsonrpc": "2.0", "method": "test_add", "params": ["0x1"]},
            call("test_none", identifier=2),
        ],
    )
    assert [answer.get("id") for answer in answers] == ["a", None, 2]
    assert answers[0]["result"] == "0x2"
    assert [answer["error"]["code"] for answer in answers[1:]] == [-32600, -32601]


async def test_batches_and_answers_have_limits():
    dispatcher = build(batch=3, response=1000)
    too_many = await ask(dispatcher, [call("test_add", "0x1")] * 4)
    assert (too_many["error"]["code"], too_many["error"]["message"]) == (
        -32600,
        "batch too large: 4 calls, at most 3",
    )
    assert (await error(dispatcher, "test_large", "0x400"))[0] == -32003
    answers = await ask(dispatcher, [call("test_large", "0x200")] * 3)
    assert "result" in answers[0]
    assert [answer["error"]["code"] for answer in answers[1:]] == [-32003, -32003]


async def test_more_blocking_calls_than_may_wait_are_told_busy():
    release = threading.Event()
    dispatcher = Dispatcher(DispatchLimits(threads=1, waiting=2))
    dispatcher.add("test_wait", release.wait, blocking=True)
    answers = []
    async with trio.open_nursery() as nursery:

        async def one() -> None:
            answers.append(await ask(dispatcher, call("test_wait")))
            release.set()

        for _ in range(5):
            nursery.start_soon(one)
    busy = [answer["error"] for answer in answers if "error" in answer]
    assert len(busy) == 2
    assert busy[0] == {"code": -32005, "message": "the node is busy; try again later"}


def test_a_name_is_registered_once():
    dispatcher = build()
    with pytest.raises(ValueError, match="test_add is registered already"):
        dispatcher.add("test_add", lambda: 1)


async def test_plain_functions_can_be_added_with_decoders_of_their_own():
    def even(value: object) -> int:
        if not isinstance(value, int) or value % 2:
            raise ValueError("expected an even number")
        return value

    dispatcher = build()
    dispatcher.add("openledger_half", lambda value: value // 2, Parameter(even))
    assert await result(dispatcher, "openledger_half", 6) == 3
    assert await error(dispatcher, "openledger_half", 5) == (
        -32602,
        "invalid argument 0: expected an even number",
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(
    st.one_of(
        st.binary(max_size=60),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {"jsonrpc": st.just("2.0"), "id": json_values, "method": st.sampled_from(["test_add", "test_address"])},
            optional={"params": json_values},
        ).map(lambda value: json.dumps(value).encode()),
    )
)
@settings(max_examples=200, deadline=None)
def test_any_message_gets_a_well_formed_answer(body):
    async def run() -> bytes | None:
        return await build().handle(body, Caller())

    answer = trio.run(run)
    if answer is not None:
        decoded = json.loads(answer)
        for one in decoded if isinstance(decoded, list) else [decoded]:
            assert one["jsonrpc"] == "2.0"
            assert ("result" in one) != ("error" in one)
