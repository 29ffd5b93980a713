"""The facade: one libp2p node that gossips blocks, answers peers, and keeps this node's chain up with theirs."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog
import trio
from libp2p.peer.id import ID

from openledger.evm_ext.block import block_from_payload
from openledger.evm_ext.errors import InvalidBlock, UnknownParent
from openledger.evm_ext.payload import ExecutionPayload
from openledger.genesis.hashing import keccak256
from openledger.p2p.backend import PeerBackend
from openledger.p2p.envelope import (
    Envelope,
    InvalidBlockSignature,
    encode_envelope,
    payload_body,
    sign_body,
)
from openledger.p2p.gossip import BlockGossip
from openledger.p2p.host import StaticPeer, connected_peers, keep_connected, load_identity, open_host
from openledger.p2p.messages import Status
from openledger.p2p.protocols import InvalidAnswer, PeerClient, RequestRefused, RequestServer
from openledger.p2p.scoring import BAN_S, PeerScores, Penalty
from openledger.p2p.streams import PeerUnresponsive
from openledger.p2p.sync import RangeSync, SyncFailed, Target
from openledger.p2p.validation import BlockValidator, Verdict

_GOSSIP_WAITING = 64

Found = TypeVar("Found")

log = structlog.get_logger(__name__)


class NotSequencer(Exception):
    """This node has no key to sign blocks with."""


@dataclass(frozen=True)
class P2PConfig:
    """`folder` keeps the identity. `sequencer_address` signs blocks; without it nothing gossiped is believed and the
    best head a peer claims is synced to. `sequencer_key` (32 bytes) is there on the sequencer alone."""

    chain_id: int
    genesis_hash: bytes
    folder: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = 9222
    static_peers: tuple[str, ...] = ()
    sequencer_address: bytes | None = None
    sequencer_key: bytes | None = None
    status_interval_s: float = 4.0


@dataclass(frozen=True)
class PeerInformation:
    """A connected peer. The head is None for peers that do not speak our protocols, such as an op-node."""

    peer_id: str
    head_number: int | None
    head_hash: bytes | None
    gossiping: bool
    penalty: float


@dataclass(frozen=True)
class _Signed:
    """A block the sequencer signed."""

    number: int
    block_hash: bytes
    signature: bytes


class P2PService:
    """Peer-to-peer networking of one node. `run` is the service; what asks peers waits until it is up."""

    def __init__(self, config: P2PConfig, backend: PeerBackend) -> None:
        """Raises InvalidPeerAddress for a static peer that is no address."""
        self._config = config
        self._backend = backend
        self._static = [StaticPeer.parse(address) for address in config.static_peers]
        self._scores = PeerScores(self._ban)
        self._validator = BlockValidator(config.chain_id, config.sequencer_address)
        self._up = trio.Event()
        self._wake = trio.Event()
        self._importing = trio.Lock()
        self._signed: _Signed | None = None
        self._statuses: dict[ID, Status] = {}
        self._send, self._receive = trio.open_memory_channel[Verdict](_GOSSIP_WAITING)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens, connects, gossips and syncs until cancelled. Raises CannotListen, InvalidIdentity."""
        config = self._config
        identity = load_identity(config.folder)
        async with open_host(identity, config.listen_host, config.listen_port) as host:
            self._host = host
            self._client = PeerClient(host, config.chain_id)
            self._sync = RangeSync(self._backend, self._client, self._scores)
            RequestServer(config.chain_id, self._backend, self._scores, self._own_status).register(host)
            self._gossip = BlockGossip(host, config.chain_id, self._validator, self._scores, self._deliver)
            try:
                async with self._gossip.running(), trio.open_nursery() as nursery:
                    self._nursery = nursery
                    for peer in self._static:
                        nursery.start_soon(keep_connected, host, peer, self._scores.is_banned)
                    nursery.start_soon(self._import_gossiped)
                    nursery.start_soon(self._follow_peers)
                    self._up.set()
                    log.info("p2p listening", addresses=self._addresses())
                    task_status.started()
                    await trio.sleep_forever()
            finally:
                self._up = trio.Event()
                self._statuses.clear()

    async def addresses(self) -> list[str]:
        """Where peers reach this node, with its peer id: what goes into their `static_peers`."""
        await self._up.wait()
        return self._addresses()

    async def publish(self, payload: ExecutionPayload) -> None:
        """Signs a block and gossips it; while `run` is not up it is only signed, and peers will ask for it later.

        Raises NotSequencer, and ValueError for a payload that does not fit.
        """
        if self._config.sequencer_key is None:
            raise NotSequencer("publishing blocks takes the sequencer's p2p key")
        envelope = sign_body(self._config.sequencer_key, self._config.chain_id, payload_body(payload))
        message = await trio.to_thread.run_sync(encode_envelope, envelope)
        self._remember(_Signed(payload.block_number, payload.block_hash, envelope.signature))
        if self._up.is_set():
            await self._gossip.publish(message)

    async def request_payload(self, number: int) -> ExecutionPayload | None:
        """The block with that number from any peer, its hash checked; None when nobody has it.

        Which block stands at a number is the peer's word: the caller checks how it links.
        """
        await self._up.wait()

        async def ask(peer: ID) -> ExecutionPayload | None:
            payload = await self._client.payload(peer, number)
            if payload is not None:
                await trio.to_thread.run_sync(_check_hash, payload)
            return payload

        return await self._ask_each(self._asked(), ask)

    async def fetch_content(self, digest: bytes, check: Callable[[bytes], bool] | None = None) -> bytes | None:
        """The object with that hash from any peer, or None when nobody has it.

        `check` tells whether bytes are the object; without it their keccak256 must be `digest`.
        """
        await self._up.wait()

        async def ask(peer: ID) -> bytes | None:
            data = await self._client.content(peer, digest)
            if data is not None and not (check(data) if check else keccak256(data) == digest):
                raise InvalidAnswer(f"other bytes than those of object {digest.hex()}")
            return data

        return await self._ask_each(self._speaking(), ask)

    def peers(self) -> list[PeerInformation]:
        """The peers connected now."""
        if not self._up.is_set():
            return []
        gossiping = set(self._gossip.topic_peers())
        return [
            PeerInformation(
                str(peer),
                status.head_number if (status := self._statuses.get(peer)) else None,
                status.head_hash if status else None,
                peer in gossiping,
                self._scores.penalty(str(peer)),
            )
            for peer in connected_peers(self._host)
        ]

    def wake(self) -> None:
        """Look for newer blocks now rather than at the next interval."""
        self._wake.set()

    # --- gossip -----------------------------------------------------------------------------------------

    async def _deliver(self, verdict: Verdict) -> None:
        try:
            self._send.send_nowait(verdict)
        except trio.WouldBlock:
            log.warning("gossiped block dropped: imports lag behind; range sync will fetch it")

    async def _import_gossiped(self) -> None:
        async for verdict in self._receive:
            payload, envelope = verdict.payload, verdict.envelope
            assert payload is not None
            assert envelope is not None
            try:
                async with self._importing:
                    await self._backend.import_payload(payload)
                log.debug("gossiped block imported", number=payload.block_number)
            except UnknownParent:
                self.wake()
            except InvalidBlock as error:
                log.error("the sequencer signed an invalid block", number=payload.block_number, error=str(error))
                continue
            except Exception:
                # The node's own trouble; peers are still to be served, and the block is asked for again.
                log.exception("gossiped block not imported", number=payload.block_number)
            self._remember(_Signed(payload.block_number, payload.block_hash, envelope.signature))

    def _remember(self, signed: _Signed) -> None:
        if self._signed is None or signed.number >= self._signed.number:
            self._signed = signed

    # --- following --------------------------------------------------------------------------------------

    async def _follow_peers(self) -> None:
        while True:
            self._wake = trio.Event()
            try:
                await self._follow_once()
            except SyncFailed as error:
                log.warning("range sync stopped", error=str(error))
            except InvalidBlock as error:
                log.error("the sequencer's chain is invalid here", error=str(error))
            except Exception:
                log.exception("following peers failed; trying again")
            with trio.move_on_after(self._config.status_interval_s):
                await self._wake.wait()

    async def _follow_once(self) -> None:
        await self._update_statuses()
        target = await self._target()
        if target is None:
            return
        able = [peer for peer, status in self._statuses.items() if status.head_number >= target.number]
        random.shuffle(able)
        async with self._importing:
            await self._sync.run(target, able)

    async def _update_statuses(self) -> None:
        own = await self._own_status()
        self._statuses = {peer: status for peer, status in self._statuses.items() if peer in set(self._asked())}

        async def update(peer: ID) -> None:
            try:
                status = await self._client.status(peer, own)
            except (PeerUnresponsive, RequestRefused):
                self._statuses.pop(peer, None)  # an op-node does not speak this protocol
                return
            except InvalidAnswer as error:
                self._scores.penalise(str(peer), Penalty.MALFORMED, str(error))
                return
            if (status.chain_id, status.genesis_hash) != (own.chain_id, own.genesis_hash):
                log.warning("peer is on another chain", peer=str(peer), chain_id=status.chain_id)
                self._scores.penalise(str(peer), Penalty.INVALID, "another chain")
                return
            self._statuses[peer] = status

        async with trio.open_nursery() as nursery:
            for peer in self._speaking():
                nursery.start_soon(update, peer)

    async def _target(self) -> Target | None:
        """The best block to sync to that this node does not have."""
        head = await self._backend.head()
        if self._config.sequencer_address is None:
            best = max(self._statuses.values(), key=lambda status: status.head_number, default=None)
            if best is None or best.head_number <= head.number:
                return None
            return Target(best.head_number, best.head_hash, trusted=False)
        known = self._signed.number if self._signed else 0
        for peer, status in sorted(self._statuses.items(), key=lambda item: -item[1].signed_number):
            if status.signature and status.signed_number > max(known, head.number):
                signed = await self._verified(peer, status)
                if signed is not None:
                    self._remember(signed)
                    break
        signed = self._signed
        if signed is None or await self._backend.has_block(signed.block_hash):
            return None
        return Target(signed.number, signed.block_hash, trusted=True)

    async def _verified(self, peer: ID, status: Status) -> _Signed | None:
        """The block a peer says the sequencer signed, when the sequencer did."""
        try:
            payload = await self._client.payload(peer, status.signed_number)
            if payload is None:
                return None
            envelope = Envelope(status.signature, await trio.to_thread.run_sync(payload_body, payload))
            if envelope.signer(self._config.chain_id) != self._config.sequencer_address:
                # May be honest: its chain may have changed between status and payload.
                return None
            await trio.to_thread.run_sync(_check_hash, payload)
        except (PeerUnresponsive, RequestRefused, InvalidAnswer, InvalidBlockSignature) as error:
            log.debug("signed head not verified", peer=str(peer), error=str(error))
            return None
        return _Signed(payload.block_number, payload.block_hash, status.signature)

    # --- peers ------------------------------------------------------------------------------------------

    async def _own_status(self) -> Status:
        head = await self._backend.head()
        signed = self._signed
        # A peer asks for the payload that was signed, so it must be one this node has.
        if signed is not None and (signed.number > head.number or not await self._backend.has_block(signed.block_hash)):
            signed = None
        return Status(
            self._config.chain_id,
            self._config.genesis_hash,
            head.number,
            head.hash,
            signed.number if signed else 0,
            signed.signature if signed else b"",
        )

    def _asked(self) -> list[ID]:
        return [peer for peer in connected_peers(self._host) if not self._scores.is_banned(str(peer))]

    def _speaking(self) -> list[ID]:
        return [peer for peer in self._asked() if self._client.speaks_our_protocols(peer)]

    async def _ask_each(self, peers: list[ID], ask: Callable[[ID], Awaitable[Found | None]]) -> Found | None:
        random.shuffle(peers)
        for peer in peers:
            try:
                answer = await ask(peer)
            except (PeerUnresponsive, RequestRefused) as error:
                log.debug("peer did not answer", peer=str(peer), error=str(error))
                continue
            except InvalidAnswer as error:
                self._scores.penalise(str(peer), Penalty.INVALID, str(error))
                continue
            if answer is not None:
                return answer
        return None

    def _ban(self, peer: str) -> None:
        if self._up.is_set():
            self._nursery.start_soon(self._keep_out, ID.from_string(peer))

    async def _keep_out(self, peer: ID) -> None:
        self._gossip.ban(peer)
        self._statuses.pop(peer, None)
        with trio.move_on_after(5):
            await self._host.disconnect(peer)
        await trio.sleep(BAN_S)
        self._gossip.unban(peer)

    def _addresses(self) -> list[str]:
        peer_id = str(self._host.get_id())
        plain = [str(address).split("/p2p/")[0] for address in self._host.get_addrs()]
        return [f"{address}/p2p/{peer_id}" for address in plain]


def _check_hash(payload: ExecutionPayload) -> None:
    try:
        block_from_payload(payload)
    except InvalidBlock as error:
        raise InvalidAnswer(f"payload {payload.block_number}: {error}") from error
