"""`openledger accounts`: the development accounts."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from openledger.genesis.dev_accounts import (
    BATCHER,
    DEV_ACCOUNTS,
    DEV_MNEMONIC,
    OWNER,
    PROPOSER,
    PROVIDER,
    SEQUENCER_P2P,
)

_USED_AS = {
    PROVIDER.index: "provider: serves, signs receipts",
    BATCHER.index: "batcher: posts to L1",
    PROPOSER.index: "proposer",
    SEQUENCER_P2P.index: "sequencer: signs gossiped blocks",
    OWNER.index: "owner of the system contracts",
}


def accounts() -> None:
    """List the development accounts, their keys and what the devnet uses them for.

    They are public knowledge: never send anything of value to them. Example: `openledger accounts`
    """
    table = Table(title=f"mnemonic: {DEV_MNEMONIC}", title_justify="left")
    for column in ("#", "address", "private key", "used as"):
        table.add_column(column, no_wrap=True)
    for account in DEV_ACCOUNTS:
        table.add_row(
            str(account.index),
            "0x" + account.address.hex(),
            "0x" + account.private_key.hex(),
            _USED_AS.get(account.index, "yours"),
        )
    Console(width=190).print(table)
