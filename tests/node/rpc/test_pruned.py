"""What a pruned node answers when it is asked for states it no longer has: geth's words, so that clients go elsewhere."""

from __future__ import annotations

import httpx
import pytest

from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.state.policy import StateHistory
from openledger.genesis.presets import DEVNET, l2_genesis
from tests.node.rpc.chain_thread import ChainThread

BLOCKS = 46
HISTORY = StateHistory("pruned", keep_blocks=16, keep_changes=20)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A node whose finalized head is its newest block."""
    genesis = l2_genesis(DEVNET, 1_700_000_000)
    with ChainThread(tmp_path_factory.mktemp("pruned"), genesis, automine=False, history=HISTORY) as node:
        for _ in range(BLOCKS):
            head = node.chain.head()
            attributes = PayloadAttributes(head.timestamp + 1, bytes(32), b"\x01" * 20, bytes(32))
            block = node.chain.build(head.hash, attributes)
            node.chain.set_heads(unsafe=block.hash, safe=block.hash, finalized=block.hash)
        yield node.url


def ask(url, method, *params):
    answer = httpx.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()
    return answer.get("result"), answer.get("error")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBalance", ["0x" + "01" * 20]),
        ("eth_getTransactionCount", ["0x" + "01" * 20]),
        ("eth_getCode", ["0x" + "01" * 20]),
        ("eth_getStorageAt", ["0x" + "01" * 20, "0x0"]),
        ("eth_getProof", ["0x" + "01" * 20, []]),
        ("eth_call", [{"to": "0x" + "01" * 20}]),
        ("eth_estimateGas", [{"to": "0x" + "01" * 20}]),
    ],
)
def test_a_pruned_state_is_refused_in_geths_words(url, method, params):
    for number in (0, BLOCKS - HISTORY.keep_changes - 1):
        result, error = ask(url, method, *params, hex(number))
        assert result is None
        assert error["code"] == -32000
        assert error["message"].startswith("missing trie node ")
        assert "archive node" in error["message"]
    assert ask(url, method, *params, hex(BLOCKS - HISTORY.keep_blocks))[1] is None
    changes_only = ask(url, method, *params, hex(BLOCKS - HISTORY.keep_changes))[1]
    assert (changes_only is not None) is (method == "eth_getProof")


@pytest.mark.parametrize(
    ("method", "params", "needs_tries"),
    [
        ("debug_traceBlockByNumber", ["{}"], False),
        ("debug_executionWitness", ["{}"], True),
    ],
)
def test_blocks_are_traced_as_far_as_changes_are_kept_and_witnessed_as_far_as_tries_are(
    url, method, params, needs_tries
):
    def error(number):
        return ask(url, method, *(item.format(hex(number)) for item in params))[1]

    assert error(BLOCKS - HISTORY.keep_blocks + 1) is None
    assert (error(BLOCKS - HISTORY.keep_changes + 1) is not None) is needs_tries
    refused = error(BLOCKS - HISTORY.keep_changes - 1)
    assert refused["code"] == -32000
    assert refused["message"].startswith("missing trie node ")
