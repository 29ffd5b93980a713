"""A contract that stores what it is told, and blocks that use it: states a plain dict can follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from openledger.evm_ext import Chain
from openledger.evm_ext.state.account import decode_account
from openledger.evm_ext.trie import Trie
from openledger.genesis.genesis import GenesisAccount

CHAIN_ID = 1337
WRITERS = (b"\xa1" * 20, b"\xa2" * 20)
# for (i = 0; i < calldatasize; i += 64) sstore(calldataload(i), calldataload(i + 32))
WRITER_CODE = bytes.fromhex("5f5b36811015601757806020013581355560400160015 65b00".replace(" ", ""))


@dataclass
class Model:
    """What the test knows of a state: words by (writer, slot), balances of recipients."""

    words: dict[tuple[bytes, int], int] = field(default_factory=dict)
    balances: dict[bytes, int] = field(default_factory=dict)

    def copy(self) -> Model:
        return Model(dict(self.words), dict(self.balances))


def recipient(number: int) -> bytes:
    return b"\xee" * 19 + bytes([number])


def writes_block(tools, chain: Chain, parent, writes, payments, salt: int):
    """A block on `parent` that stores `writes` ((writer, slot, value)…) and pays 1 wei to each of `payments`."""
    nonce = chain.state(parent.hash).nonce(tools.ADDRESSES[0])
    transactions = []
    for writer, slot, value in writes:
        data = slot.to_bytes(32, "big") + value.to_bytes(32, "big")
        transactions.append(tools.signed(0, CHAIN_ID, nonce + len(transactions), WRITERS[writer], data=data))
    for number in payments:
        transactions.append(tools.signed(0, CHAIN_ID, nonce + len(transactions), recipient(number), value=1))
    return chain.build(
        parent.hash,
        tools.attributes(
            parent, tuple(item.raw for item in transactions), suggested_fee_recipient=salt.to_bytes(20, "big")
        ),
    )


def flat_tables(chain: Chain) -> dict[bytes, bytes]:
    """All that the flat tables hold."""
    return {
        **dict(chain._store.database.items(b"a", b"b")),
        **dict(chain._store.database.items(b"s", b"t")),
    }


def trie_tables(chain: Chain, root: bytes) -> dict[bytes, bytes]:
    """What the flat tables of a state have to hold, from its tries."""
    found = {}
    node = chain._store.node
    for key, raw in Trie(node, root).entries():
        found[b"a" + key] = raw
        for slot, word in Trie(node, decode_account(raw).storage_root, owner=key).entries():
            found[b"s" + key + slot] = word
    return found


@pytest.fixture
def states(tools) -> SimpleNamespace:
    """The functions above."""
    return SimpleNamespace(
        Model=Model,
        WRITERS=WRITERS,
        CHAIN_ID=CHAIN_ID,
        recipient=recipient,
        writes_block=lambda *arguments, **named: writes_block(tools, *arguments, **named),
        flat_tables=flat_tables,
        trie_tables=trie_tables,
        genesis=lambda **changes: tools.ethereum_genesis(
            {writer: GenesisAccount(nonce=1, code=WRITER_CODE, storage={1: 7, 2: 8}) for writer in WRITERS},
            **changes,
        ),
    )
