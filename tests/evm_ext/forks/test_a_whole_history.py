"""One chain through every fork, from a genesis file as the public RPC cases use it, built by one node and followed by another."""

from __future__ import annotations

from dataclasses import replace

from openledger.evm_ext.receipts import Receipt
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hardforks import Hardfork

# The forks of hive's chain of all forks, with Osaka and two changes of blobs behind.
CONFIG = {
    "chainId": 1337,
    "homesteadBlock": 0,
    "eip150Block": 3,
    "eip155Block": 6,
    "eip158Block": 6,
    "byzantiumBlock": 9,
    "constantinopleBlock": 12,
    "petersburgBlock": 15,
    "istanbulBlock": 18,
    "muirGlacierBlock": 21,
    "berlinBlock": 24,
    "londonBlock": 27,
    "arrowGlacierBlock": 30,
    "grayGlacierBlock": 33,
    "mergeNetsplitBlock": 36,
    "terminalTotalDifficulty": 4_718_592,
    "shanghaiTime": 390,
    "cancunTime": 420,
    "pragueTime": 450,
    "osakaTime": 480,
    "bpo1Time": 500,
    "bpo2Time": 510,
    "ethash": {},
}
LOGGER = b"\x10" * 20


def test_a_chain_through_every_fork_is_built_and_followed(tools, open_chain):
    document = {
        "config": CONFIG,
        "nonce": "0x0",
        "timestamp": "0x0",
        "extraData": "0x68697665636861696e",
        "gasLimit": "0x23f3e20",
        "difficulty": "0x20000",
        "alloc": {},
    }
    contract = GenesisAccount(code=bytes.fromhex("60003560005260016000 55 60206000a000"))
    genesis = replace(Genesis.from_json(document), alloc={**tools.ethereum_genesis().alloc, LOGGER: contract})
    chain, follower = open_chain(genesis), open_chain(genesis, "follower")
    seen: dict[Hardfork, int] = {}
    for number in range(1, 54):
        parent = chain.head()
        fork = chain.rules.after(replace(parent, timestamp=parent.timestamp + 9)).fork
        kind = 2 if fork >= Hardfork.LONDON else 1 if fork >= Hardfork.BERLIN else 0
        payment = tools.signed(
            number % 3, 1337 if fork >= Hardfork.SPURIOUS_DRAGON else None, (number - 1) // 3 if number % 3 else number // 3 - 1,
            LOGGER, type=kind, data=bytes([number]) * 32, gas=100_000, max_fee_per_gas=10**10,
            max_priority_fee_per_gas=10**9 if kind == 2 else None,
        )  # fmt: skip
        block = tools.extend(chain, (payment,), timestamp=parent.timestamp + 10)
        assert chain.rules.of(block.header).fork is fork
        seen.setdefault(fork, number)
        follower.import_block(type(block).decode(block.encode()))
        follower.set_heads(unsafe=block.hash)
        (receipt,) = follower.receipts(block.hash)
        assert Receipt.decode(receipt.encode()).logs == receipt.logs
        assert receipt.status == 1
    expected = {fork for fork in Hardfork if fork not in (Hardfork.FRONTIER, Hardfork.DAO_FORK)}
    assert set(seen) == expected
    assert seen[Hardfork.PARIS] == 36
    assert follower.total_difficulty(follower.head().hash) == 36 * 131_072
    assert {block.max for block in map(genesis.hardforks.blobs_at, (420, 450, 480, 500, 510)) if block} == {
        6,
        9,
        15,
        21,
    }
    assert Genesis.from_json(genesis.to_json()) == genesis
