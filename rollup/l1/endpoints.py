"""Several endpoints of one L1 as one: what is checked by hash comes from whoever answers, what is not needs a quorum.

A block's contents are held against its hash, so one honest answer is enough. Which block is canonical is an endpoint's word:
with a `quorum` of n, n endpoints must have the same block at a height before it is believed.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import structlog
import trio

from openledger.evm_ext.block import Header
from openledger.evm_ext.receipts import Receipt
from openledger.rollup.l1.client import L1Client
from openledger.rollup.l1.source import (
    Inclusion,
    L1DataInvalid,
    L1Error,
    L1Fees,
    L1TransactionRejected,
    L1Unavailable,
    Label,
)

log = structlog.get_logger(__name__)
Value = TypeVar("Value")


class L1EndpointsDisagree(L1Unavailable):
    """Fewer endpoints than the quorum say the same."""


class L1Endpoints:
    """An `L1Source` and `L1Submitter` over several clients of one chain. The first that works is asked until it fails."""

    def __init__(self, clients: Sequence[L1Client], quorum: int = 1) -> None:
        """Raises ValueError for a quorum that the clients cannot reach."""
        if not 1 <= quorum <= len(clients):
            raise ValueError(f"a quorum of {quorum} needs as many L1 endpoints, {len(clients)} are given")
        self._clients = list(clients)
        self._quorum = quorum

    # --- reading ---

    async def header_by_number(self, number: int) -> Header | None:
        """See `L1Source`. Raises `L1EndpointsDisagree`."""
        if self._quorum == 1:
            return await self._first(lambda client: client.header_by_number(number))
        answers = await self._all(lambda client: client.header_by_number(number))
        found = [header for header in answers if header is not None]
        header = self._agreed(found, lambda item: item.hash)
        if header is None and len({item.hash for item in found}) > 1:
            raise L1EndpointsDisagree(
                f"no {self._quorum} L1 endpoints have the same block {number}: "
                + ", ".join(sorted({"0x" + item.hash.hex() for item in found}))
            )
        return header

    async def header_by_hash(self, block_hash: bytes) -> Header:
        """See `L1Source`."""
        return await self._first(lambda client: client.header_by_hash(block_hash))

    async def header_by_label(self, label: Label) -> Header:
        """See `L1Source`. With a quorum: the highest block at that label that so many endpoints have reached."""
        if self._quorum == 1:
            return await self._first(lambda client: client.header_by_label(label))
        heights = sorted(header.number for header in await self._all(lambda client: client.header_by_label(label)))
        number = heights[-self._quorum]
        header = await self.header_by_number(number)
        if header is None:
            raise L1EndpointsDisagree(f"fewer than {self._quorum} L1 endpoints have block {number}")
        return header

    async def transactions(self, header: Header) -> tuple[bytes, ...]:
        """See `L1Source`."""
        return await self._first(lambda client: client.transactions(header))

    async def receipts(self, header: Header) -> tuple[Receipt, ...]:
        """See `L1Source`."""
        return await self._first(lambda client: client.receipts(header))

    # --- sending ---

    async def nonce(self, address: bytes, *, pending: bool) -> int:
        """See `L1Submitter`."""
        return await self._first(lambda client: client.nonce(address, pending=pending))

    async def fees(self) -> L1Fees:
        """See `L1Submitter`."""
        return await self._first(lambda client: client.fees())

    async def wants_cell_proofs(self) -> bool | None:
        """See `L1Submitter`."""
        return await self._first(lambda client: client.wants_cell_proofs())

    async def send_transaction(self, raw: bytes) -> bytes:
        """See `L1Submitter`. Handed to every endpoint; one that takes it is enough."""
        taken: list[bytes] = []
        refusals: list[L1Error] = []

        async def send(client: L1Client) -> None:
            try:
                taken.append(await client.send_transaction(raw))
            except L1Error as error:
                refusals.append(error)

        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(send, client)
        if taken:
            return taken[0]
        raise next((error for error in refusals if isinstance(error, L1TransactionRejected)), refusals[0])

    async def inclusion(self, transaction_hash: bytes) -> Inclusion | None:
        """See `L1Submitter`."""
        return await self._first(lambda client: client.inclusion(transaction_hash))

    async def call(self, to: bytes, calldata: bytes) -> bytes:
        """See `L1Submitter`. With a quorum so many endpoints must give the same answer."""
        if self._quorum == 1:
            return await self._first(lambda client: client.call(to, calldata))
        answers = await self._all(lambda client: client.call(to, calldata))
        answer = self._agreed(answers, lambda item: item)
        if answer is None:
            raise L1EndpointsDisagree(f"no {self._quorum} L1 endpoints answer a call of 0x{to.hex()} alike")
        return answer

    async def check_chain_id(self, expected: int) -> None:
        """Raises `WrongL1Chain` if an endpoint serves another chain; one that does not answer is passed over."""
        for client in self._clients:
            try:
                await client.check_chain_id(expected)
            except L1Unavailable as error:
                log.warning("L1 endpoint not checked", endpoint=client.name, problem=str(error))

    # --- choosing ---

    async def _first(self, ask: Callable[[L1Client], Awaitable[Value]]) -> Value:
        """The first answer; an endpoint that fails goes to the end of the line."""
        failure: L1Error | None = None
        for client in list(self._clients):
            try:
                return await ask(client)
            except L1TransactionRejected:
                raise
            except (L1Unavailable, L1DataInvalid) as error:
                failure = error
                if len(self._clients) > 1:
                    log.warning("asking another L1 endpoint", endpoint=client.name, problem=str(error))
                    self._clients.remove(client)
                    self._clients.append(client)
        assert failure is not None
        raise failure

    async def _all(self, ask: Callable[[L1Client], Awaitable[Value]]) -> list[Value]:
        """The answers of those that answer, at least a quorum of them."""
        answers: list[Value] = []
        failures: list[L1Error] = []

        async def one(client: L1Client) -> None:
            try:
                answers.append(await ask(client))
            except (L1Unavailable, L1DataInvalid) as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(one, client)
        if len(answers) < self._quorum:
            raise L1Unavailable(
                f"{len(answers)} of {len(self._clients)} L1 endpoints answer, {self._quorum} must: {failures[0]}"
            )
        return answers

    def _agreed(self, answers: Sequence[Value], key: Callable[[Value], bytes]) -> Value | None:
        counted = Counter(key(answer) for answer in answers)
        if not counted:
            return None
        common, count = counted.most_common(1)[0]
        return next(answer for answer in answers if key(answer) == common) if count >= self._quorum else None


@asynccontextmanager
async def open_l1(
    urls: Sequence[str], *, quorum: int = 1, requests_per_s: float = 0.0, deadline_s: float = 30.0
) -> AsyncIterator[L1Endpoints]:
    """Clients of the endpoints, closed with the block. `requests_per_s` bounds what each is asked; 0 does not.
    `deadline_s` bounds an answer as a whole."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(L1Client(url, requests_per_s=requests_per_s, deadline_s=deadline_s))
            for url in urls
        ]
        yield L1Endpoints(clients, quorum)
