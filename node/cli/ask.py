"""`openledger ask`: a question, paid from a channel, its answer as it comes, and who is paid for it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

import trio
import typer
from rich.console import Console

from openledger.node.cli.channel import show_open
from openledger.node.cli.options import Account, ApiUrl, ClientPortOffset, KeyFile
from openledger.node.cli.session import endpoints, wallet
from openledger.node.payer import Api, Payer


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A release's name, or release-N; see `release list`.")],
    account: Account = None,
    key_file: KeyFile = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    passages: Annotated[int, typer.Option(min=0, max=8, help="Passages to put before the model.")] = 4,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Ask a release a question and see whom the answer pays.

    Example: `openledger ask "Where do whales sleep?" --model whales --account 2`
    """
    where, signer = endpoints(api=api, port_offset=port_offset), wallet(account, key_file)
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "openledger": {"passages": passages},
    }
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> dict[str, Any]:
        end: dict[str, Any] = {}
        async with Api(where.api) as node:
            payer = Payer.of(signer, await node.provider())
            async with aclosing(payer.ask(node, body)) as chunks:
                async for chunk in chunks:
                    for choice in chunk["choices"]:
                        console.print(choice["delta"].get("content", ""), end="", markup=False)
                    end = chunk.get("openledger", end)
        return end

    end = trio.run(run)
    console.print()
    print_evidence(console, end)


def print_evidence(console: Console, end: dict[str, Any]) -> None:
    """Citations, vector, fee and receipt of an answer, for people."""
    console.rule("evidence", align="left")
    for citation in end["citations"]:
        console.print(
            f"[bold]\\[{citation['number']}][/bold] {citation['title']} (contribution {citation['contribution']})"
        )
    for entry in end["vector"]:
        console.print(f"contribution {entry['contribution']}: {entry['weight'] / 100:.2f} % of the contributors' part")
    if not end["vector"]:
        console.print("nothing was found: the contributors' part goes to the release's Datanets")
    console.print(f"fee {show_open(end['fee_micro_open'])}")
    console.print(f"receipt {end['receipt_hash']}")
