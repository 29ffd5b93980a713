"""The `openledger` command: puts its subcommands together and prints errors meant for people without a traceback."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version

import typer
from rich.console import Console

from openledger.node.cli import (
    account,
    accounts,
    ask,
    attribution,
    bridge,
    channel,
    config,
    da,
    datanet,
    db,
    dev,
    evm,
    finetune,
    health,
    l1,
    model,
    node,
    quickstart,
    receipt,
    release,
    rollup,
    rpc,
    verify,
)
from openledger.node.cli.said import meant_for_people
from openledger.node.errors import StartupError
from openledger.node.logging import configure_logging
from openledger.node.revert_words import in_words

app = typer.Typer(
    name="openledger",
    help="A rollup node for Openledger: chain, inference, attribution and payouts that anyone can recompute bit for bit.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="Begin with `openledger dev`, then in a second terminal `openledger quickstart`.",
)

app.command("dev")(dev.dev)
app.command("node")(node.node)
app.command("quickstart")(quickstart.quickstart)
app.command("accounts")(accounts.accounts)
app.command("health")(health.health)
app.command("ask")(ask.ask)
app.command("account")(account.show_account)
app.command("claim")(account.claim)
app.command("rpc")(rpc.rpc)
app.add_typer(datanet.app, name="datanet")
app.add_typer(finetune.app, name="finetune")
app.add_typer(release.app, name="release")
app.add_typer(channel.app, name="channel")
app.add_typer(receipt.app, name="receipt")
app.add_typer(attribution.app, name="attribution")
app.add_typer(verify.app, name="verify")
app.add_typer(bridge.app, name="bridge")
app.add_typer(l1.app, name="l1")
app.add_typer(rollup.app, name="rollup")
app.add_typer(da.app, name="da")
app.add_typer(evm.app, name="evm")
app.add_typer(model.app, name="model")
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")


@app.command()
def version() -> None:
    """Print the installed version. Example: `openledger version`"""
    print(installed_version("openledger-node"))


def main() -> None:
    """Run the command line. Exit status 0 done, 1 the request failed, 2 it could not be started as asked."""
    configure_logging("warning", "console")  # a node's own command sets what it was asked for
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:
        said = meant_for_people(error)
        if said is None:
            raise
        Console(stderr=True).print(f"[red]error:[/red] {in_words(str(said))}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(said, StartupError) else 1)


if __name__ == "__main__":
    main()
