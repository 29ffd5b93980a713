"""Payloads come back from relays, else out of operators' chunks, and nothing is believed that was not committed to."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from openledger.rollup.da import BlobNotFound, BlobWorker, DAUnavailable, InvalidCommitment, open_blob_worker
from openledger.rollup.da.certificate import Certificate, encode_generic_commitment
from openledger.rollup.da.direct import DirectDA
from openledger.rollup.da.disperser import open_disperser
from openledger.rollup.da.retrieval import ConfiguredRelays, PayloadReader, open_payload_reader

from .eigenda_network import PAYER, PAYLOAD, SETTINGS, Network, OperatorServices, served

RELAYS = (2, 5)
"""What certificates of the network name."""


@pytest.fixture
async def worker() -> AsyncIterator[BlobWorker]:
    async with open_blob_worker(development=True) as running:
        yield running


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def target(network: Network) -> Iterator[str]:
    with served(network) as address:
        yield address


@pytest.fixture
def services(network: Network) -> Iterator[OperatorServices]:
    services = OperatorServices(network)
    with services.served():
        yield services


@pytest.fixture
async def certificate(worker: BlobWorker, target: str) -> Certificate:
    async with open_disperser(target, worker, PAYER, SETTINGS, plaintext=True) as client:
        return await client.disperse(PAYLOAD)


class Registry:
    """A RelayDirectory that tells what it was asked."""

    def __init__(self, **targets: str) -> None:
        self.asked: list[int] = []
        self._targets = targets

    async def relay(self, key: int) -> str | None:
        self.asked.append(key)
        return self._targets.get(f"relay{key}")


async def read(worker: BlobWorker, relays: Any, certificate: Certificate, **options: Any) -> bytes:
    async with open_payload_reader(worker, relays, plaintext=True, **options) as reader:
        return await reader.get(encode_generic_commitment(certificate))


async def test_the_first_relay_that_gives_the_blob_is_enough(
    worker: BlobWorker, network: Network, target: str, certificate: Certificate
) -> None:
    registry = Registry(relay5=target)
    assert await read(worker, ConfiguredRelays({2: "127.0.0.1:1"}, registry), certificate) == PAYLOAD
    assert registry.asked == [5]
    assert await read(worker, ConfiguredRelays({2: target}, registry), certificate) == PAYLOAD
    assert registry.asked == [5]
    network.blobs.clear()
    with pytest.raises(BlobNotFound, match="relay 2 is not known; relay 5"):
        await read(worker, registry, certificate)
    network.fault = "relay"
    with pytest.raises(DAUnavailable, match=r"relay 2: 127\.0\.0\.1:1 cannot be reached"):
        await read(worker, ConfiguredRelays({2: "127.0.0.1:1"}, registry), certificate)


async def test_any_number_of_relays_is_asked_over_a_few_connections(
    worker: BlobWorker, target: str, certificate: Certificate
) -> None:
    port = target.rpartition(":")[2]
    async with open_payload_reader(worker, Registry(relay2=target), plaintext=True) as reader:
        for number in range(20):
            await reader._relay(f"127.0.0.{number + 2}:{port}")
        assert await reader.get(encode_generic_commitment(certificate)) == PAYLOAD
        assert len(reader._open) == 16


async def test_without_relays_the_operators_chunks_give_the_blob_back(
    worker: BlobWorker, network: Network, services: OperatorServices, target: str, certificate: Certificate
) -> None:
    parameters = {0: network.operators.parameters.chunks}
    options = {"operators": services, "chunks": parameters}
    nowhere = ConfiguredRelays({})
    assert await read(worker, nowhere, certificate, **options) == PAYLOAD
    assert sorted(services.asked) == [0, 1, 2, 3]
    # A relay that lies is passed over.
    network.fault = "relay"
    assert await read(worker, ConfiguredRelays({2: target}), certificate, **options) == PAYLOAD
    # One operator alone has enough; that others lie about theirs does not matter.
    network.operators.online = [True, False, True, True]
    services.spoilt = {2, 3}
    assert await read(worker, nowhere, certificate, **options) == PAYLOAD
    services.spoilt.add(0)
    with pytest.raises(DAUnavailable, match=r"3 of 4 operators answer.*0 chunks are left"):
        await read(worker, nowhere, certificate, **options)
    network.operators.online = [False] * 4
    with pytest.raises(DAUnavailable, match="0 of 4 operators answer"):
        await read(worker, nowhere, certificate, **options)


async def test_a_certificate_that_does_not_hold_is_dropped_before_anybody_is_asked(
    worker: BlobWorker, target: str, certificate: Certificate
) -> None:
    registry = Registry(relay2=target)
    forged = replace(certificate, batch_header=replace(certificate.batch_header, reference_block_number=4_000_001))
    with pytest.raises(InvalidCommitment) as caught:
        await read(worker, registry, forged)
    assert caught.value.status_code == 3
    async with open_payload_reader(worker, registry, plaintext=True) as reader:
        for commitment, block, status in (
            (encode_generic_commitment(certificate), 4_014_401, 2),
            (b"\x01\x00\x03\x80", 0, 1),
            (b"\x07", 0, 0),
        ):
            with pytest.raises(InvalidCommitment) as caught:
                await reader.get(commitment, block)
            assert caught.value.status_code == status
    assert registry.asked == []


class Contract:
    def __init__(self, *, valid: bool) -> None:
        self.valid = valid

    async def is_valid(self, certificate: Certificate) -> bool:
        return self.valid


async def test_what_the_contract_on_l1_refuses_is_neither_read_nor_given_out(
    worker: BlobWorker, network: Network, target: str, certificate: Certificate
) -> None:
    contract = Contract(valid=False)
    with pytest.raises(InvalidCommitment, match="contract on L1"):
        await read(worker, ConfiguredRelays({2: target}), certificate, verifier=contract)
    async with (
        open_payload_reader(worker, ConfiguredRelays({2: target}), plaintext=True, verifier=contract) as reader,
        open_disperser(target, worker, PAYER, SETTINGS, plaintext=True) as disperser,
    ):
        da = DirectDA(reader, disperser, on_demand=True, verifier=contract)
        with pytest.raises(DAUnavailable, match="not valid"):
            await da.put(PAYLOAD)
        contract.valid = True
        assert await da.get(await da.put(PAYLOAD)) == PAYLOAD
        assert all(payment.cumulative_payment for payment in network.payments[1:])
        # What a disperser refuses is no reason to stop for good.
        network.fault = "PERMISSION_DENIED"
        with pytest.raises(DAUnavailable, match="refused"):
            await da.put(PAYLOAD)


async def test_a_node_without_an_account_reads_only(worker: BlobWorker) -> None:
    async with open_payload_reader(worker, ConfiguredRelays({})) as reader:
        assert isinstance(reader, PayloadReader)
        with pytest.raises(Exception, match=r"\[eigenda\] key"):
            await DirectDA(reader).put(PAYLOAD)
