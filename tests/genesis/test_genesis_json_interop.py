"""Our genesis.json in the hands of a node that is not ours (anvil)."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis

ANVIL = Path(__file__).parents[1] / "clients" / "node_modules" / ".bin" / "anvil"
TIMESTAMP = 1_700_000_000


def rpc(url, *requests):
    body = [
        {"jsonrpc": "2.0", "id": index, "method": method, "params": list(params)}
        for index, (method, *params) in enumerate(requests)
    ]
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=180) as response:
        answers = sorted(json.load(response), key=lambda answer: answer["id"])
    return [answer["result"] for answer in answers]


@pytest.mark.interop
@pytest.mark.parametrize("make", [l1_genesis, l2_genesis], ids=["L1", "L2"])
def test_anvil_starts_from_our_genesis_and_finds_the_same_accounts(make, tmp_path):
    if not ANVIL.exists():
        pytest.skip("needs `npm ci` in tests/clients")
    genesis = make(DEVNET, TIMESTAMP)
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(genesis.to_json()))
    process = subprocess.Popen(
        [ANVIL, "--init", path, "--port", "0", "--accounts", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = None
        for line in process.stdout:
            if line.startswith("Listening on "):
                url = "http://" + line.split()[-1]
                break
        assert url, "anvil refused the genesis"
        deadline = time.monotonic() + 60
        while True:
            try:
                ((chain_id,), (block,)) = rpc(url, ("eth_chainId",)), rpc(url, ("eth_getBlockByNumber", "0x0", False))
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert int(chain_id, 16) == genesis.chain_id
        assert int(block["timestamp"], 16) == TIMESTAMP
        assert int(block["baseFeePerGas"], 16) == genesis.base_fee_per_gas
        addresses = sorted(genesis.alloc)
        codes = rpc(url, *(("eth_getCode", "0x" + a.hex(), "latest") for a in addresses))
        balances = rpc(url, *(("eth_getBalance", "0x" + a.hex(), "latest") for a in addresses))
        nonces = rpc(url, *(("eth_getTransactionCount", "0x" + a.hex(), "latest") for a in addresses))
        words = [(a, slot, value) for a in addresses for slot, value in genesis.alloc[a].storage.items()]
        stored = rpc(url, *(("eth_getStorageAt", "0x" + a.hex(), hex(slot), "latest") for a, slot, _ in words))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
    for address, code, balance, nonce in zip(addresses, codes, balances, nonces, strict=True):
        account = genesis.alloc[address]
        assert bytes.fromhex(code[2:]) == account.code, address.hex()
        assert (int(balance, 16), int(nonce, 16)) == (account.balance, account.nonce), address.hex()
    assert [int(word, 16) for word in stored] == [value for _, _, value in words]
