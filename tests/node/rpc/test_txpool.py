"""txpool_*: what waits, as geth shows it; anvil, which follows geth here, is asked the same."""

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest
from eth_utils import to_checksum_address

from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import DEVNET

ALICE, BOB, CAROL = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1], DEV_ACCOUNTS[2]
PACKAGES = Path(__file__).parents[2] / "clients/node_modules/@foundry-rs"


def transfer(sender, nonce: int, **fields):
    values = {
        "gas": 60_000,
        "to": CAROL.address,
        "value": 5,
        "max_fee_per_gas": 10**10,
        "max_priority_fee_per_gas": 10**9,
        **fields,
    }
    return sign_transaction(sender.private_key, chain_id=DEVNET.l2_chain_id, nonce=nonce, **values)


WAITING = (
    transfer(ALICE, 0),
    transfer(ALICE, 1, data=b"\x01\x02"),
    transfer(ALICE, 3),
    transfer(BOB, 2, to=None, data=b"\x00", gas=100_000),
    transfer(CAROL, 0, type=0),
)


@pytest.fixture
def filled(still_rpc):
    for transaction in WAITING:
        still_rpc("eth_sendRawTransaction", "0x" + transaction.raw.hex())
    return still_rpc


def named(account) -> str:
    return to_checksum_address(account.address)


def test_pending_and_queued_are_told_apart_by_sender_and_nonce(filled):
    assert filled("txpool_status") == {"pending": "0x3", "queued": "0x2"}
    content = filled("txpool_content")
    assert {sender: list(own) for sender, own in content["pending"].items()} == {
        named(ALICE): ["0", "1"],
        named(CAROL): ["0"],
    }
    assert {sender: list(own) for sender, own in content["queued"].items()} == {named(ALICE): ["3"], named(BOB): ["2"]}
    shown = content["pending"][named(ALICE)]["1"]
    assert (shown["hash"], shown["blockHash"], shown["input"]) == ("0x" + WAITING[1].hash.hex(), None, "0x0102")


def test_one_sender_s_content_and_summaries(filled):
    own = filled("txpool_contentFrom", named(ALICE))
    assert (list(own["pending"]), list(own["queued"])) == (["0", "1"], ["3"])
    assert filled("txpool_contentFrom", "0x" + "99" * 20) == {"pending": {}, "queued": {}}
    summaries = filled("txpool_inspect")
    assert summaries["pending"][named(ALICE)]["0"] == f"{named(CAROL)}: 5 wei + 60000 gas × 10000000000 wei"
    assert summaries["queued"][named(BOB)]["2"] == "contract creation: 5 wei + 100000 gas × 10000000000 wei"


@pytest.mark.interop
def test_anvil_shows_the_same(filled):
    # The binary itself: npm's wrapper would leave it running.
    anvil = next(PACKAGES.glob("anvil-*/bin/anvil"), None)
    if anvil is None:
        pytest.skip("anvil is not installed: run `npm ci` in tests/clients")
    line = [str(anvil), "--port", "0", "--chain-id", str(DEVNET.l2_chain_id), "--no-mining", "--hardfork", "prague"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = next(item.split()[-1] for item in process.stdout if "Listening on" in item)

            def ask(method: str, *params: object):
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
                request = urllib.request.Request(f"http://{url}", body, {"content-type": "application/json"})
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(request, timeout=180) as response:
                    return json.load(response)["result"]

            for account in (ALICE, BOB, CAROL):
                ask("anvil_setBalance", named(account), hex(10**24))
            for transaction in WAITING:
                ask("eth_sendRawTransaction", "0x" + transaction.raw.hex())
            theirs, ours = ask("txpool_content"), filled("txpool_content")
            assert ask("txpool_status") == filled("txpool_status")
        finally:
            process.kill()
    for part in ("pending", "queued"):
        assert _places(ours[part]) == _places(theirs[part])
        for sender, nonces in ours[part].items():
            for nonce, shown in nonces.items():
                their = {key.lower(): own for key, own in theirs[part].items()}[sender.lower()][nonce]
                same = ("hash", "nonce", "value", "gas", "input", "type", "maxFeePerGas", "r", "s", "from", "to")
                assert {key: shown.get(key) for key in same} == {key: their.get(key) for key in same}


def _places(content: dict) -> set[tuple[str, str]]:
    return {(sender.lower(), nonce) for sender, own in content.items() for nonce in own}
