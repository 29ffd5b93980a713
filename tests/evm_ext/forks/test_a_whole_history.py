"""One chain through every fork, from a genesis file as the public RPC cases use it, built by one node and followed by another."""

from __future__ import annotations

from dataclasses import replace

from openledger.evm_ext.block import Block, Header, encode_uncles
from openledger.evm_ext.building import _results
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.processing import BlockProcessor
from openledger.evm_ext.proof_of_work import difficulty_after
from openledger.evm_ext.receipts import Receipt
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.hashing import keccak256

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


def uncle_of(chain: Chain, parent: Header, mark: int) -> Header:
    """A sibling of `parent` as hive's chains have them: a second younger, without transactions and without a seal."""
    grandparent = chain.header_by_hash(parent.parent_hash)
    timestamp = parent.timestamp + 1
    return replace(
        parent,
        timestamp=timestamp,
        fee_recipient=bytes(20),
        extra_data=b"uncle %d" % mark,
        difficulty=difficulty_after(chain.rules.of(parent), grandparent, timestamp),
        gas_used=0,
        state_root=bytes(32),
        prev_randao=bytes(32),
        nonce=bytes(8),
    )


def with_uncles(chain: Chain, block: Block, uncles: tuple[Header, ...]) -> Block:
    parent = chain.parent_state(block.header.parent_hash)
    processor = BlockProcessor(chain.rules, parent.reader, block.header, parent.ancestor_hash)
    processor.start()
    results = _results(processor.finish((), uncles))
    return Block(
        replace(block.header, **results, uncles_hash=keccak256(encode_uncles(uncles))), block.transactions, (), uncles
    )


def test_blocks_without_seals_name_uncles_across_every_fork_of_work(tools, open_chain):
    """Every block from the third on names two siblings of its parent, also where these are of the fork before."""
    document = {"config": CONFIG, "timestamp": "0x0", "gasLimit": "0x23f3e20", "difficulty": "0x20000", "alloc": {}}
    genesis = replace(Genesis.from_json(document), alloc=tools.ethereum_genesis().alloc)
    genesis = replace(genesis, hardforks=replace(genesis.hardforks, terminal_total_difficulty=None))
    chain, follower = open_chain(genesis), open_chain(genesis, "follower")
    forms = set()
    for number in range(1, 36):
        parent = chain.head()
        block = chain.build(parent.hash, tools.attributes(parent, timestamp=parent.timestamp + 10))
        if number >= 3:
            uncles = (uncle_of(chain, parent, 2 * number), uncle_of(chain, parent, 2 * number + 1))
            block = with_uncles(chain, block, uncles)
            chain.import_block(block)
            forms.add((block.header.form, uncles[0].form))
        chain.set_heads(unsafe=block.hash)
        assert block.header.difficulty > 0
        assert block.header.nonce == bytes(8)
        follower.import_block(Block.decode(block.encode()))
        follower.set_heads(unsafe=block.hash)
    assert follower.head().hash == chain.head().hash
    assert len(forms) == 3  # before London, at London with uncles from before, after
