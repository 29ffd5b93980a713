"""`openledger attribution`: why an answer paid whom."""

from __future__ import annotations

from typing import Annotated, Any, Final

import trio
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from openledger.genesis.counted import counted
from openledger.node.cli.channel import show_open
from openledger.node.cli.options import ApiUrl, ClientPortOffset
from openledger.node.cli.session import endpoints
from openledger.node.payer import Api

app = typer.Typer(help="Why an answer paid whom.", no_args_is_help=True)

_COLOURS: Final = ("green", "cyan", "magenta", "yellow", "blue", "red")
_KINDS: Final = {"spans": "words", "retrieval": "passages", "influence": "influence"}


@app.callback()
def group() -> None:
    """Why an answer paid whom."""


@app.command("explain")
def explain(
    receipt: Annotated[str, typer.Argument(help="The receipt's hash.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Show why each contributor got what: words of the answer that stand in the data, passages it was given, the split.

    Whether a receipt is true is another question: `openledger verify receipt` does all of it again.

    Example: `openledger attribution explain 0x12…`
    """

    async def run() -> dict[str, Any]:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            return dict(await node.get(f"/v1/receipts/{receipt}/explanation"))

    told = trio.run(run)
    console = Console(highlight=False, soft_wrap=True)
    if as_json:
        console.print_json(data=told)
        return
    colours = {c["contribution"]: _COLOURS[n % len(_COLOURS)] for n, c in enumerate(told["contributions"])}
    console.print(f"[bold]{escape(str(told['question']))}[/bold]")
    console.print(_answer(told, colours))
    console.print()
    _show_spans(console, told, colours)
    _show_passages(console, told, colours)
    _show_split(console, told, colours)


def _answer(told: dict[str, Any], colours: dict[int, str]) -> Text:
    """The answer, each span in the colour of the first contribution that holds it."""
    if not told["pieces"]:
        return Text(told["text"])
    text = Text()
    for piece in told["pieces"]:
        holders = [c for n in piece["spans"] for c in told["spans"][n]["contributions"] if c in colours]
        common = bool(piece["spans"]) and not holders
        text.append(piece["text"], f"underline {colours[holders[0]]}" if holders else "underline dim" if common else "")
    return text


def _show_spans(console: Console, told: dict[str, Any], colours: dict[int, str]) -> None:
    if not told["spans"]:
        console.print("No run of words of it stands in the data.")
        return
    table = Table("words", "bits", "stands in", title="words that stand in the data", title_justify="left", box=None)
    for number, span in enumerate(told["spans"]):
        words = "".join(p["text"] for p in told["pieces"] if number in p["spans"]).strip()
        words = words or counted(span["tokens"], "token")
        where = ", ".join(_numbered(c, colours) for c in span["contributions"])
        table.add_row(escape(words), f"{span['bits']:.1f}", where or "[dim]too many: common language[/dim]")
    console.print(table)


def _show_passages(console: Console, told: dict[str, Any], colours: dict[int, str]) -> None:
    if not told["passages"]:
        return
    table = Table("", "passage", "likeness", "from", title="passages it was given", title_justify="left", box=None)
    for passage in told["passages"]:
        table.add_row(
            f"\\[{passage['number']}]",
            escape(passage["title"]),
            f"{passage['likeness_ppm'] / 10_000:.0f} %",
            _numbered(passage["contribution"], colours),
        )
    console.print(table)


def _show_split(console: Console, told: dict[str, Any], colours: dict[int, str]) -> None:
    parts = told["parts_micro_open"]
    console.print(
        f"fee {show_open(told['fee_micro_open'])}: "
        + ", ".join(f"{name} {show_open(amount)}" for name, amount in parts.items())
    )
    if not told["contributions"]:
        console.print("Nothing was found: the contributors' part goes to the release's Datanets by their tokens.")
        return
    kinds = list(told["kind_weights_ppm"])
    table = Table(
        "contribution", *(_KINDS.get(kind, kind) for kind in kinds), "weight", "earned", "contributor", box=None
    )
    for share in told["contributions"]:
        title = (share["metadata"] or {}).get("title", "")
        table.add_row(
            f"{_numbered(share['contribution'], colours)} {escape(title)}",
            *(f"{share['by_kind_ppm'][kind] / 10_000:.1f} %" for kind in kinds),
            f"{share['weight'] / 100:.2f} %",
            show_open(share["micro_open"]),
            share["contributor"],
        )
    console.print(table)


def _numbered(contribution: int, colours: dict[int, str]) -> str:
    colour = colours.get(contribution)
    return f"[{colour}]{contribution}[/{colour}]" if colour else str(contribution)
