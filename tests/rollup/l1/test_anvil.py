"""anvil, an L1 that we did not write: what it answers hashes, and a rollup runs on it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from openledger.evm_ext.blobs import decode_network
from openledger.evm_ext.block import Header
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import sign_authorization, sign_transaction
from openledger.evm_ext.trie import ordered_root
from openledger.genesis.dev_accounts import USERS
from openledger.rollup.clock import WallClock
from openledger.rollup.codec.blobs import encode_blob
from openledger.rollup.derivation.l1_retrieval import L1Retrieval
from openledger.rollup.l1.beacon import BeaconClient
from openledger.rollup.l1.blob_transaction import TravellingBlobs
from openledger.rollup.l1.client import L1Client
from openledger.rollup.l1.source import L1DataInvalid
from openledger.rollup.l1.transactions import L1Sender, calldata_gas

pytestmark = pytest.mark.interop

ANVIL = Path(__file__).parents[2] / "clients/node_modules/.bin/anvil"


@pytest.fixture
async def anvil(request: pytest.FixtureRequest) -> AsyncIterator[L1Client]:
    """anvil with a block a second; parametrise indirectly for another fork than Prague."""
    if not ANVIL.exists() or shutil.which("node") is None:
        pytest.skip("anvil is not installed: run `npm ci` in tests/clients")
    async with trio.open_nursery() as nursery:
        command = [
            str(ANVIL),
            "--port",
            "0",
            "--hardfork",
            getattr(request, "param", "prague"),
            "--block-time",
            "1",
            "--chain-id",
            "900",
        ]
        process = await trio.lowlevel.open_process(command, stdout=-1, stderr=-1)
        try:
            output = b""
            assert process.stdout is not None
            with trio.fail_after(120):
                while b"Listening on" not in output or not output.endswith(b"\n"):
                    output += await process.stdout.receive_some()
            address = output.split(b"Listening on ")[1].split()[0].decode()
            nursery.start_soon(_drain, process.stdout)
            async with L1Client(f"http://{address}") as client:
                yield client
        finally:
            process.terminate()
            await process.wait()
            nursery.cancel_scope.cancel()


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass


async def test_blocks_transactions_and_receipts_of_anvil_hash_to_their_headers(anvil: L1Client) -> None:
    key = USERS[0].private_key
    authorization = sign_authorization(USERS[1].private_key, chain_id=900, address=b"\x16" * 20, nonce=0)
    common = {"chain_id": 900, "gas": 200_000, "max_fee_per_gas": 10**11, "to": b"\x01" * 20}
    for nonce, extra in enumerate(
        [
            {"type": 0},
            {"type": 1, "access_list": ((b"\x02" * 20, (1, 2)),)},
            {"type": 2, "data": b"\x00\x01", "max_priority_fee_per_gas": 10**9},
            {"type": 4, "authorization_list": (authorization,), "max_priority_fee_per_gas": 10**9},
            # init code that emits a log: LOG1(topic 7)
            {"type": 2, "to": None, "data": bytes.fromhex("600760006000a100"), "max_priority_fee_per_gas": 10**9},
        ]
    ):
        await anvil.send_transaction(sign_transaction(key, **{**common, "nonce": nonce, **extra}).raw)
    for _ in range(100):
        if (await anvil.header_by_label("latest")).number >= 3:
            break
        await trio.sleep(0.2)
    found, logs = 0, 0
    for number in range((await anvil.header_by_label("latest")).number + 1):
        header = await anvil.header_by_number(number)
        assert header is not None
        found += len(await anvil.transactions(header))
        logs += sum(len(receipt.logs) for receipt in await anvil.receipts(header))
    assert (found, logs) == (5, 1)


async def test_a_sender_pays_the_exact_gas_of_its_calldata(anvil: L1Client) -> None:
    key = USERS[2].private_key
    sender = L1Sender(anvil, 900, key, WallClock(), poll_interval_s=0.2)
    for data in (b"", bytes(100), bytes(range(256))):
        included = await sender.send(b"\xff" * 20, data)
        header = await anvil.header_by_hash(included.block_hash)
        receipts = await anvil.receipts(header)
        assert [receipt.cumulative_gas_used for receipt in receipts] == [calldata_gas(data)]
    assert await anvil.nonce(address_of(key), pending=False) == 3


@pytest.mark.parametrize("anvil", ["prague", "osaka"], indirect=True)
async def test_blobs_that_anvil_took_come_back_through_its_beacon_api(
    anvil: L1Client, request: pytest.FixtureRequest
) -> None:
    key, inbox = USERS[3].private_key, b"\xff" * 20
    pieces = [b"\x00one", b"\x00" + bytes(range(256)) * 400]
    cells = request.node.callspec.params["anvil"] == "osaka"
    sent: list[bytes] = []
    send = anvil.send_transaction

    async def recorded(raw: bytes) -> bytes:
        sent.append(raw)
        return await send(raw)

    anvil.send_transaction = recorded  # type: ignore[method-assign]
    blobs = TravellingBlobs([encode_blob(piece) for piece in pieces])
    included = await L1Sender(anvil, 900, key, WallClock(), poll_interval_s=0.2).send(inbox, b"", blobs=blobs)
    signed, sidecar = decode_network(sent[-1])
    assert sidecar is not None
    assert sidecar.has_cells == cells
    header = await anvil.header_by_hash(included.block_hash)
    assert header.blob_gas_used == 2 * 131_072
    # anvil 1.7 hashes blob transactions into the transactions root with their sidecars, which no L1 does.
    assert ordered_root([sent[-1]]) == header.transactions_root
    with pytest.raises(L1DataInvalid, match="transactions root"):
        await anvil.transactions(header)
    async with BeaconClient([anvil.url]) as beacon:
        retrieval = L1Retrieval(_OneBlock(signed.raw), _NoDA(), inbox, beacon)  # type: ignore[arg-type]
        found = []
        while (data := await retrieval.next_data(header, address_of(key))) is not None:
            found.append(data)
    assert found == pieces


class _OneBlock:
    def __init__(self, *transactions: bytes) -> None:
        self._transactions = transactions

    async def transactions(self, header: Header) -> tuple[bytes, ...]:
        return self._transactions


class _NoDA:
    async def get(self, commitment: bytes, l1_inclusion_block: int | None) -> bytes:
        raise AssertionError("nothing here lies behind a commitment")
