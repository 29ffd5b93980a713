"""What a node says of its forks and of the data it has."""

from types import SimpleNamespace

import pytest

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.state.policy import StateHistory
from openledger.genesis.hardforks import HardforkSchedule
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.eth_config import EthConfig

_FROM_THE_START = ("homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul")

MAINNET = {
    "homesteadBlock": 1_150_000,
    "daoForkBlock": 1_920_000,
    "daoForkSupport": True,
    "eip150Block": 2_463_000,
    "eip155Block": 2_675_000,
    "eip158Block": 2_675_000,
    "byzantiumBlock": 4_370_000,
    "constantinopleBlock": 7_280_000,
    "petersburgBlock": 7_280_000,
    "istanbulBlock": 9_069_000,
    "muirGlacierBlock": 9_200_000,
    "berlinBlock": 12_244_000,
    "londonBlock": 12_965_000,
    "arrowGlacierBlock": 13_773_000,
    "grayGlacierBlock": 15_050_000,
    "terminalTotalDifficulty": 58_750_000_000_000_000_000_000,
    "shanghaiTime": 1_681_338_455,
    "cancunTime": 1_710_338_135,
    "pragueTime": 1_746_612_311,
}
HOODI = {
    **{f"{name}Block": 0 for name in (*_FROM_THE_START, "berlin", "london")},
    "mergeNetsplitBlock": 0,
    "terminalTotalDifficulty": 0,
    "shanghaiTime": 0,
    "cancunTime": 0,
    "pragueTime": 1_742_999_832,
}
MAINNET_GENESIS = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
HOODI_GENESIS = "bbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b"
HOODI_TIME = 1_742_212_800


@pytest.mark.parametrize(
    ("config", "genesis_hash", "genesis_time", "now", "expected"),
    [
        (MAINNET, MAINNET_GENESIS, 0, 1_681_338_455, "0xdce96c2d"),
        (MAINNET, MAINNET_GENESIS, 0, 1_710_338_135, "0x9f3d2254"),
        (MAINNET, MAINNET_GENESIS, 0, 1_746_612_311, "0xc376cf8b"),
        (HOODI, HOODI_GENESIS, HOODI_TIME, HOODI_TIME, "0xbef71d30"),
        (HOODI, HOODI_GENESIS, HOODI_TIME, 1_742_999_832, "0x0929e24e"),
    ],
)
def test_fork_ids_are_those_of_the_public_networks(config, genesis_hash, genesis_time, now, expected):
    schedule = HardforkSchedule.from_config({"chainId": 1, **config})
    chain = SimpleNamespace(
        genesis=SimpleNamespace(hardforks=schedule),
        genesis_hash=bytes.fromhex(genesis_hash),
        chain_id=1,
        rules=SimpleNamespace(is_op=False),
        head=lambda: SimpleNamespace(number=20_000_000, timestamp=now),
        header_by_number=lambda _: SimpleNamespace(timestamp=genesis_time),
    )
    shown = EthConfig(SimpleNamespace(chain=chain)).config()
    assert shown["current"]["forkId"] == expected
    assert shown["current"]["activationTime"] == max((time for time in schedule.fork_times() if time <= now), default=0)
    assert (shown["next"] is None) == (now >= schedule.fork_times()[-1])


def test_a_pruned_chain_says_what_it_does_not_have(tmp_path):
    chain = Chain.open(
        tmp_path, l1_genesis(DEVNET, 1_800_000_000), history=StateHistory("pruned", keep_blocks=16, keep_changes=20)
    )
    pool = TransactionPool(chain)
    try:
        for _ in range(60):
            head = chain.head()
            block = chain.build(head.hash, PayloadAttributes(head.timestamp + 2, bytes(32), bytes(20), bytes(32)))
            chain.set_heads(unsafe=block.hash, safe=block.hash, finalized=block.hash)
        shown = EthConfig(RpcBackend(chain, pool)).capabilities()
        states, proofs = chain.oldest_states()
        assert 0 < states < proofs
        assert shown["state"] == {
            "disabled": False,
            "oldestBlock": hex(states),
            "deleteStrategy": {"type": "window", "retentionBlocks": hex(20)},
        }
        assert shown["stateproofs"] == {
            "disabled": False,
            "oldestBlock": hex(proofs),
            "deleteStrategy": {"type": "window", "retentionBlocks": hex(16)},
        }
        assert shown["blocks"] == shown["logs"] == {"disabled": False, "oldestBlock": "0x0"}
        oldest, older = chain.header_by_number(states), chain.header_by_number(states - 1)
        assert chain.state(oldest.hash).nonce(bytes(20)) == 0
        with pytest.raises(Exception, match="is not available"):
            chain.state(older.hash).nonce(bytes(20))
    finally:
        pool.close()
        chain.close()
