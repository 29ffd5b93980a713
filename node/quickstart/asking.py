"""Chapter 3: a question without payment, a channel, a paid answer with its evidence, and two answers in one batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import trio

from openledger.evm_ext.proofs.receipt import Receipt, ledger_domain
from openledger.genesis.counted import counted
from openledger.node.cli.ask import print_evidence
from openledger.node.cli.channel import show_open
from openledger.node.errors import UserError
from openledger.node.payer import Payer
from openledger.node.quickstart import openai_client
from openledger.node.quickstart.memory import Told
from openledger.node.quickstart.scene import Scene
from openledger.node.quickstart.texts import PAYER_ACCOUNT, TOPICS

DEPOSIT_MICRO_OPEN = 5_000_000
LEAST_DEPOSIT_MICRO_OPEN = 1_000_000
MAX_TOKENS = 96
PASSAGES = 2
"""A small model answers from few better than from many."""


def _body(scene: Scene, topic: str, question: str) -> dict[str, Any]:
    return {
        "model": scene.story.name(topic),
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0.0,
        "openledger": {"passages": PASSAGES},
    }


async def _payer(scene: Scene) -> Payer:
    return Payer.of(await scene.quiet(PAYER_ACCOUNT), await scene.node.provider())


async def be_refused(scene: Scene) -> None:
    """Without a voucher the endpoint says what the call costs and how to pay."""
    topic = TOPICS[0]
    refused = await openai_client.ask_unpaid(scene.node, _body(scene, topic.name, topic.questions[0]))
    (offer,) = refused.answer["accepts"]
    scene.narrator.done(f"unpaid: 402, {refused}")
    scene.narrator.say(
        f"  the answer offers: {offer['scheme']} on {offer['network']}, pay to {offer['payTo']}, "
        f"at most {show_open(offer['extra']['minimumMaxClaimable'])}, voucher in the {offer['extra']['header']} header"
    )


async def open_channel(scene: Scene) -> None:
    """Account 3 opens its channel with the provider, or fills it up."""
    payer = await _payer(scene)
    state = await payer.state(scene.node)
    left = 0 if state is None else state["deposit_micro_open"] - state["owed_micro_open"]
    if left < LEAST_DEPOSIT_MICRO_OPEN:
        await payer.fund(scene.rpc, scene.node, DEPOSIT_MICRO_OPEN)
    scene.narrator.command(f"channel open {DEPOSIT_MICRO_OPEN // 1_000_000} --account {PAYER_ACCOUNT}")
    scene.narrator.done(
        f"channel 0x{payer.terms.id.hex()[:16]}… from 0x{payer.wallet.address.hex()[:8]}… "
        f"to the provider 0x{payer.terms.receiver.hex()[:8]}…"
    )


def _check_signature(scene: Scene, payer: Payer, end: dict[str, Any]) -> None:
    """The receipt must be the provider's own word. Raises UserError."""
    receipt = Receipt.from_json(end["receipt"])
    domain = ledger_domain(payer.chain_id)
    signer = receipt.recover(domain, bytes.fromhex(end["signature"][2:]))
    if signer != payer.terms.receiver or "0x" + receipt.hash(domain).hex() != end["receipt_hash"]:
        raise UserError("the receipt is not signed by the provider: do not use this node")


def _remember(scene: Scene, topic: str, question: str, end: dict[str, Any]) -> None:
    if all(told.receipt != end["receipt_hash"] for told in scene.story.answers):
        scene.story.answers.append(Told(topic=topic, question=question, receipt=end["receipt_hash"]))
    scene.memory.save()


async def ask_one(scene: Scene) -> None:
    """A streamed answer, paid by a voucher, and what proves it."""
    topic, question = TOPICS[0].name, TOPICS[0].questions[0]
    payer = await _payer(scene)
    client = "the openai package" if openai_client.is_installed() else "this package's client (openai is not installed)"
    scene.narrator.command(f'ask "{question}" --model {scene.story.name(topic)} --account {PAYER_ACCOUNT}')
    scene.narrator.say(f"asked with {client}:")
    scene.narrator.say(f"Q  {question}")
    scene.narrator.write("  A  ")
    end = await openai_client.ask(payer, scene.node, _body(scene, topic, question), scene.narrator.write)
    scene.narrator.console.print()
    print_evidence(scene.narrator.console, end)
    _check_signature(scene, payer, end)
    scene.narrator.done("the receipt is signed by the provider (EIP-712)")
    _remember(scene, topic, question, end)


async def ask_both(scene: Scene) -> None:
    """A question to each adapter at once: the engine decodes them together."""
    payer = await _payer(scene)
    asked = [(topic.name, topic.questions[-1]) for topic in TOPICS]
    texts: dict[str, list[str]] = {topic: [] for topic, _ in asked}
    order: list[str] = []
    ends: dict[str, dict[str, Any]] = {}

    def hear(topic: str) -> Callable[[str], None]:
        def heard(text: str) -> None:
            texts[topic].append(text)
            order.append(topic)
            bars.update(rows[topic], completed=len(texts[topic]), note=counted(len(texts[topic]), "piece"))

        return heard

    async def ask(topic: str, question: str) -> None:
        ends[topic] = await openai_client.ask(payer, scene.node, _body(scene, topic, question), hear(topic))

    with scene.narrator.bars() as bars:
        rows = {topic: bars.add_task(f"{topic}: {question}", total=MAX_TOKENS, note="") for topic, question in asked}
        async with trio.open_nursery() as nursery:
            for topic, question in asked:
                nursery.start_soon(ask, topic, question)
    for topic, question in asked:
        scene.narrator.say(f"Q  ({scene.story.name(topic)}) {question}")
        scene.narrator.say(f"A  {''.join(texts[topic]).strip()}")
        scene.narrator.say(f"   {_evidence(ends[topic])}")
        _check_signature(scene, payer, ends[topic])
        _remember(scene, topic, question, ends[topic])
    together, turns = _overlap(order)
    scene.narrator.done(
        f"both streamed together: {together} of {len(order)} pieces while the other was running, {counted(turns, 'turn')}"
    )


def _evidence(end: dict[str, Any]) -> str:
    shares = ", ".join(f"contribution {entry['contribution']} {entry['weight'] / 100:.2f} %" for entry in end["vector"])
    return f"{shares or 'nothing found'}; fee {show_open(end['fee_micro_open'])}; receipt {end['receipt_hash'][:18]}…"


def _overlap(order: list[str]) -> tuple[int, int]:
    """How many pieces came while both answers were under way, and how often the turn changed."""
    if len(set(order)) < 2:
        return 0, 0
    first = max(order.index(topic) for topic in set(order))
    last = min(len(order) - 1 - order[::-1].index(topic) for topic in set(order))
    turns = sum(a != b for a, b in pairwise(order))
    return max(0, last - first + 1), turns
