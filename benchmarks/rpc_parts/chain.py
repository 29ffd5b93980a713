"""What is served: a token that logs each transfer, and blocks of its transfers."""

from __future__ import annotations

from openledger.evm_ext import Block, Chain, PayloadAttributes, decode_transaction, sign_transaction
from openledger.evm_ext.signatures import address_of
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.system_contracts import system_contracts

CHAIN_ID = 1337
GWEI = 10**9
KEYS = [keccak256(b"rpc benchmark %d" % number) for number in range(50)]
ADDRESSES = [address_of(key) for key in KEYS]
TOKEN = b"\x70" * 20
TRANSFER = keccak256(b"Transfer(address,address,uint256)")
PER_BLOCK = 800
BLOCKS_WITH_LOGS = 10
LOGS_PER_BLOCK = 20


def token_code() -> bytes:
    """transfer with calldata `to` and `amount` as words; one word alone is balanceOf. Logs each transfer."""
    return b"".join(
        bytes.fromhex(part.replace(" ", ""))
        for part in (
            "6020 36 11 6011 57",  # calldata of more than a word: transfer
            "5f35 54 5f52 6020 5f f3 00 5b",  # else the balance of the word
            "33 54 6020 35 90 03 33 55",  # balance of the sender less the amount
            "5f35 54 6020 35 01 5f35 55",  # that of the recipient
            "6020 35 5f52 5f35 33 7f" + TRANSFER.hex() + " 60205f a3",
            "60015f52 60205ff3",
        )
    )


def genesis() -> Genesis:
    return Genesis(
        rules="ethereum",
        chain_id=CHAIN_ID,
        timestamp=1_700_000_000,
        gas_limit=60_000_000,
        base_fee_per_gas=GWEI,
        alloc={
            **system_contracts(with_requests=True),
            **{address: GenesisAccount(balance=10**24) for address in ADDRESSES},
            TOKEN: GenesisAccount(
                nonce=1, code=token_code(), storage={int.from_bytes(item, "big"): 10**30 for item in ADDRESSES}
            ),
        },
    )


def transfers(first_nonce: int, number: int) -> list[bytes]:
    """Encodings of token transfers, senders in turns from a nonce on."""
    return [
        sign_transaction(
            KEYS[index % len(KEYS)],
            chain_id=CHAIN_ID,
            nonce=first_nonce + index // len(KEYS),
            gas=70_000,
            to=TOKEN,
            data=bytes(12) + ADDRESSES[(index * 7 + 1) % len(KEYS)] + (5).to_bytes(32, "big"),
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
        ).raw
        for index in range(number)
    ]


def extend(chain: Chain, raw: list[bytes]) -> Block:
    head = chain.head()
    attributes = PayloadAttributes(head.timestamp + 2, bytes(32), b"\xfe" * 20, bytes(32))
    block = chain.build(head.hash, attributes, [decode_transaction(item) for item in raw])
    assert len(block.transactions) == len(raw), "the builder left transactions out"
    chain.set_heads(unsafe=block.hash)
    return block


def logged_blocks() -> list[list[bytes]]:
    """Small blocks for eth_getLogs, whose transfers go round the senders."""
    nonces = [0] * len(KEYS)
    blocks = []
    for number in range(BLOCKS_WITH_LOGS):
        raw = []
        for index in range(LOGS_PER_BLOCK):
            key = (number * LOGS_PER_BLOCK + index) % len(KEYS)
            raw.append(
                sign_transaction(
                    KEYS[key],
                    chain_id=CHAIN_ID,
                    nonce=nonces[key],
                    gas=70_000,
                    to=TOKEN,
                    data=bytes(12) + ADDRESSES[(key + 1) % len(KEYS)] + (5).to_bytes(32, "big"),
                    max_fee_per_gas=100 * GWEI,
                    max_priority_fee_per_gas=GWEI,
                ).raw
            )
            nonces[key] += 1
        blocks.append(raw)
    return blocks
