"""What a provider may do instead of what it was paid for, and that another node finds it: every lie is signed and consistent
in itself, told by the real engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace as changed

from openledger.evm_ext.proofs.receipt import ledger_domain
from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.messages import SCHEMA_DIALECT, Finished, Generate, Ready, Sampling
from openledger.node.inference import Answered
from openledger.node.records import AnswerBody, ChatRequest, Message, UsedAdapter
from openledger.node.wallet import Wallet

from .desk import CHAIN, PROVIDER, Desk, doctored

SCHEMA = '{"enum":["yes","no"]}'


def same(value: Any) -> Any:
    return value


@dataclass
class Cheat:
    """An engine that does something else than it is asked to, or says that something else came of it."""

    engine: EngineClient
    ask: Callable[[Generate], Generate] = same
    tell: Callable[[Finished], Finished] = same
    claimed: Ready = field(init=False)

    def __post_init__(self) -> None:
        assert self.engine.info is not None
        self.claimed = self.engine.info

    @property
    def info(self) -> Ready:
        return self.claimed

    def stop(self, request_id: str) -> None:
        self.engine.stop(request_id)

    async def generate(self, request: Generate) -> AsyncGenerator[Any, None]:
        async for event in self.engine.generate(self.ask(request)):
            yield self.tell(event) if isinstance(event, Finished) else event


def answer(desk: Desk, engine: Any, model: str = "lora", **fields: Any) -> bytes:
    """The hash of the receipt for one answer by that engine."""
    voucher = desk.voucher()
    settings: dict[str, Any] = {
        "messages": (Message("user", "ab"),),
        "max_tokens": 12,
        "sampling": Sampling(temperature_milli=900),
        **fields,
    }
    request = ChatRequest(
        release=desk.shelf.release(model).id,
        channel_id=voucher.voucher.channel_id,
        max_claimable=voucher.voucher.max_claimable,
        **settings,
    )
    asked, inference = desk.asked(request), desk.inference(engine)

    async def run() -> bytes:
        with trio.fail_after(500):
            prepared = await inference.prepare([asked])
            ended = [e async for e in inference.answer(prepared, voucher) if isinstance(e, Answered)]
        return ended[0].receipt_hash

    return desk.call(run)


def verdicts(desk: Desk, receipt: bytes) -> dict[str, str]:
    return {name: finding.verdict for name, finding in desk.audit(receipt).items()}


def adapter(desk: Desk, model: str) -> Any:
    return desk.shelf.release(model).adapter


def other_token(finished: Finished) -> Finished:
    tokens = list(finished.output_tokens)
    tokens[2] = (tokens[2] + 1) % 250
    return changed(finished, output_tokens=tokens)


LIES: dict[str, Callable[[Desk], Cheat]] = {
    "no adapter": lambda desk: Cheat(desk.engine, lambda r: changed(r, adapters=[])),
    "another adapter": lambda desk: Cheat(desk.engine, lambda r: changed(r, adapters=[adapter(desk, "theirs")])),
    "another seed": lambda desk: Cheat(desk.engine, lambda r: changed(r, seed=b"\x01" * 32)),
    "another temperature": lambda desk: Cheat(
        desk.engine, lambda r: changed(r, sampling=Sampling(temperature_milli=1900))
    ),
    "greedy": lambda desk: Cheat(desk.engine, lambda r: changed(r, sampling=Sampling())),
    "a cut at the likeliest": lambda desk: Cheat(
        desk.engine, lambda r: changed(r, sampling=Sampling(temperature_milli=900, top_k=2))
    ),
    "another prompt": lambda desk: Cheat(desk.engine, lambda r: changed(r, prompt_tokens=[*r.prompt_tokens, 32])),
    "fewer tokens": lambda desk: Cheat(
        desk.engine, tell=lambda f: changed(f, output_tokens=f.output_tokens[:-3], stop_reason="length")
    ),
    "an end that was none": lambda desk: Cheat(desk.engine, tell=lambda f: changed(f, stop_reason="stop")),
    "one token edited": lambda desk: Cheat(desk.engine, tell=other_token),
    "another fingerprint": lambda desk: Cheat(desk.engine, tell=lambda f: changed(f, fingerprint=b"\x01" * 32)),
}


def test_an_honest_answer_is_found_true(desk: Desk) -> None:
    for model in ("bare", "lora"):
        found = verdicts(desk, answer(desk, desk.engine, model))
        assert found.pop("settlement") == "unchecked"
        assert set(found.values()) == {"good"}, found


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_made_otherwise_is_found_false(desk: Desk, lie: str) -> None:
    receipt = answer(desk, LIES[lie](desk))
    found = desk.audit(receipt)
    assert found["tokens"].verdict == "false", found
    for name in ("signature", "request", "request terms", "prompt", "fee"):
        assert found[name].verdict == "good", found


@pytest.fixture(scope="module")
def open_other(desk: Desk) -> Iterator[Callable[..., EngineClient]]:
    """Engines of the same vocabulary over other weights, or over the same in fewer bits."""
    with ExitStack() as opened:

        def open_one(name: str, seed: int, **settings: Any) -> EngineClient:
            ready: list[EngineClient] = []
            stop = trio.Event()

            async def keep() -> None:
                async with desk.open_engine(name, seed, **settings) as engine:
                    await engine.ready()
                    ready.append(engine)
                    await stop.wait()

            async def start() -> EngineClient:
                trio.lowlevel.spawn_system_task(keep)
                with trio.fail_after(500):
                    while not ready:  # noqa: ASYNC110
                        await trio.sleep(0.05)
                return ready[0]

            async def end() -> None:
                stop.set()

            engine = desk.call(start)
            opened.callback(desk.call, end)
            return engine

        yield open_one


def test_another_base_model_is_found(desk: Desk, open_other: Callable[..., EngineClient]) -> None:
    cheat = Cheat(open_other("other", 2))
    assert desk.engine.info is not None
    assert cheat.claimed.weights_root != desk.engine.info.weights_root
    found = verdicts(desk, answer(desk, cheat))
    assert (found["model"], found["tokens"], found["fee"]) == ("good", "false", "good"), "it claims to be the release's"


def test_fewer_bits_of_the_same_weights_are_found(desk: Desk, open_other: Callable[..., EngineClient]) -> None:
    found = verdicts(desk, answer(desk, Cheat(open_other("model", 1, weight_bits=4))))
    assert (found["model"], found["tokens"], found["fee"]) == ("good", "false", "good")


def test_another_schema_and_none_at_all_are_found(desk: Desk) -> None:
    asked = {"schema": SCHEMA, "schema_dialect": SCHEMA_DIALECT}
    assert verdicts(desk, answer(desk, desk.engine, **asked))["tokens"] == "good"
    for schema in ("", '{"enum":["no","never"]}'):
        lie = Cheat(desk.engine, lambda r, schema=schema: changed(r, schema=schema))  # type: ignore[misc]
        assert verdicts(desk, answer(desk, lie, **asked))["tokens"] == "false"
    receipt = answer(desk, desk.engine, schema=SCHEMA, schema_dialect="another")
    assert verdicts(desk, receipt)["tokens"] == "unchecked"


def test_an_ensemble_of_other_weights_is_found(desk: Desk) -> None:
    used = (UsedAdapter(adapter(desk, "lora").digest, 500), UsedAdapter(adapter(desk, "theirs").digest, -250))
    found = verdicts(desk, answer(desk, desk.engine, adapters=used))
    assert found["tokens"] == "good"
    assert found["adapters"] == "false", "one of them is another owner's"
    own = (UsedAdapter(adapter(desk, "lora").digest, 500),)
    honest = answer(desk, desk.engine, adapters=own)
    assert (verdicts(desk, honest)["tokens"], verdicts(desk, honest)["adapters"]) == ("good", "good")
    lie = Cheat(desk.engine, lambda r: changed(r, adapters=[changed(a, weight_milli=400) for a in r.adapters]))
    assert verdicts(desk, answer(desk, lie, adapters=own))["tokens"] == "false"


def test_an_adapter_that_nobody_has_leaves_an_answer_unchecked(desk: Desk) -> None:
    receipt = answer(desk, desk.engine)
    body = AnswerBody.decode(desk.content.get_named(receipt) or b"")
    request = changed(body.request, adapters=(UsedAdapter(b"\x0c" * 32),))
    lied = sign(desk, changed(body, request=request), request_hash=request.hash)
    assert verdicts(desk, lied)["adapters"] == "unchecked"


# what is signed


def sign(desk: Desk, body: AnswerBody, key: Wallet = PROVIDER, **fields: Any) -> bytes:
    """The body under a receipt with other fields, signed and kept; the receipt's hash."""
    receipt = replace(body.signed_receipt(), **fields)
    digest = receipt.hash(ledger_domain(CHAIN))
    signed = changed(body, receipt=receipt.to_json(), signature=receipt.sign(ledger_domain(CHAIN), key.private_key))
    desk.content.put_named(digest, signed.encode())
    return digest


@pytest.mark.parametrize(
    ("finding", "fields"),
    [
        ("request", {"request_hash": b"\x01" * 32}),
        ("request terms", {"release": 1}),
        ("request terms", {"sampling_hash": b"\x01" * 32}),
        ("channel", {"channel_id": b"\x01" * 32}),
        ("price block", {"l2_block_hash": b"\x01" * 32}),
        ("model", {"numerics": "bf16"}),
        ("prompt", {"prompt_tokens_hash": b"\x01" * 32}),
        ("output", {"output_tokens_hash": b"\x01" * 32}),
        ("output", {"stop_reason": 3}),
        ("fingerprint", {"fingerprint": b"\x01" * 32}),
        ("passages", {"retrieval_root": b"\x01" * 32}),
        ("vector", {"vector_hash": b"\x01" * 32}),
        ("fee", {"cumulative_after": 1 << 40}),
        ("mode", {"mode": 1}),
    ],
)
def test_a_receipt_that_says_something_else_is_found(desk: Desk, finding: str, fields: dict[str, Any]) -> None:
    body = AnswerBody.decode(desk.content.get_named(answer(desk, desk.engine)) or b"")
    found = desk.audit(sign(desk, body, **fields))
    assert found[finding].verdict == "false", found


def test_a_receipt_by_somebody_else_is_found(desk: Desk) -> None:
    body = AnswerBody.decode(desk.content.get_named(answer(desk, desk.engine)) or b"")
    assert verdicts(desk, sign(desk, body, Wallet(b"\x33" * 32)))["signature"] == "false"


def test_a_text_that_the_tokens_do_not_have_is_found(desk: Desk) -> None:
    body = AnswerBody.decode(desk.content.get_named(answer(desk, desk.engine)) or b"")
    assert verdicts(desk, sign(desk, changed(body, text="Buy whales!")))["text"] == "false"


def test_a_release_of_another_adapter_is_found(desk: Desk) -> None:
    """The provider serves release 2 with what it says is its adapter."""
    listed = desk.shelf.listed
    desk.shelf.listed = [doctored(r, adapter=adapter(desk, "theirs")) if r.id == 2 else r for r in listed]
    try:
        receipt = answer(desk, desk.engine)
    finally:
        desk.shelf.listed = listed
    assert verdicts(desk, receipt)["tokens"] == "false"


def test_a_body_that_is_none_is_found(desk: Desk) -> None:
    desk.content.put_named(b"\x05" * 32, msgspec.msgpack.encode({"a": 1}))
    assert verdicts(desk, b"\x05" * 32) == {"body": "false"}
    assert verdicts(desk, b"\x06" * 32) == {"body": "unchecked"}


# attested answers


@pytest.fixture(scope="module")
def fast(desk: Desk, open_other: Callable[..., EngineClient]) -> Iterator[EngineClient]:
    """An engine in bf16, with a release of its own: number 4, of the same adapter as number 2."""
    engine = open_other("model", 1, numerics="bf16")
    listed = list(desk.shelf.listed)
    desk.shelf.listed.append(desk.release_of(4, "fast", adapter(desk, "lora").digest, b"\x0a" * 20, engine.info))
    yield engine
    desk.shelf.listed[:] = listed


def test_an_attested_answer_says_so_and_is_never_found_wholly_true(desk: Desk, fast: EngineClient) -> None:
    receipt = answer(desk, fast, "fast", max_tokens=40)
    shown = desk.get(f"/v1/receipts/0x{receipt.hex()}").json()
    assert shown["receipt"]["mode"] == 1
    assert shown["marks"]["tokens"] == "attested"
    assert desk.get("/v1/models/fast").json()["openledger"]["mode"] == "attested"
    found = desk.audit(receipt, fast)
    verdict = {name: finding.verdict for name, finding in found.items()}
    assert verdict["activations"] == verdict["fingerprint"] == verdict["mode"] == "good", found
    assert verdict["tokens"] == "unchecked"
    assert "not drawn again" in found["tokens"].detail
    body = AnswerBody.decode(desk.content.get_named(receipt) or b"")
    assert len(body.activations) % 258 == 0


@pytest.mark.parametrize(
    "lie",
    [
        lambda request: changed(request, adapters=[]),
        lambda request: changed(request, prompt_tokens=[*request.prompt_tokens, 32]),
    ],
    ids=["no adapter", "another prompt"],
)
def test_an_attested_answer_made_otherwise_is_found_false(desk: Desk, fast: EngineClient, lie: Any) -> None:
    found = desk.audit(answer(desk, Cheat(fast, lie), "fast", max_tokens=40), fast)
    assert found["activations"].verdict == "false", found
    assert found["signature"].verdict == "good"


def test_activations_that_are_not_the_receipts_are_found(desk: Desk, fast: EngineClient) -> None:
    body = AnswerBody.decode(desk.content.get_named(answer(desk, fast, "fast")) or b"")
    for activations in (b"", body.activations[:-1], bytes(258)):
        found = desk.audit(sign(desk, changed(body, activations=activations)), fast)
        assert found["fingerprint"].verdict == "false", found
    lied = sign(desk, body, mode=0)
    assert desk.audit(lied, fast)["mode"].verdict == "false"
