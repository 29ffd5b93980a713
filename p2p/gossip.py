"""Blocks on the gossip topic `/optimism/<chain>/3/blocks`, spoken as op-node speaks it.

py-libp2p 0.8.1 needs help to do so; each override below says with what. Gossip is a hint: what it loses,
request/response fetches.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from openledger.p2p.envelope import MAX_MESSAGE_BYTES, message_id
from openledger.p2p.scoring import PeerScores, Penalty
from openledger.p2p.validation import BlockValidator, Outcome, Reason, Verdict

MESH_DEGREE = 8
MESH_DEGREE_LOW = 6
MESH_DEGREE_HIGH = 12
HEARTBEAT_S = 0.5
SEEN_S = 65
_HISTORY_LENGTH = 12
_HISTORY_GOSSIP = 3
_MAX_RPC_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
_PROTOCOLS = (TProtocol("/meshsub/1.1.0"), TProtocol("/meshsub/1.0.0"))
_PENALTIES = {Reason.TOO_OLD: Penalty.CLOCK, Reason.TOO_NEW: Penalty.CLOCK}

log = structlog.get_logger(__name__)


def blocks_topic(chain_id: int) -> str:
    """The topic of version 4 blocks (Isthmus)."""
    return f"/optimism/{chain_id}/3/blocks"


class _UnsignedPubsub(Pubsub):  # type: ignore[misc]
    """StrictNoSign: messages carry data and topic only; ones with an author, number or signature are refused."""

    def __init__(self, *args: Any, on_stamped: Callable[[ID], None], **settings: Any) -> None:
        super().__init__(*args, strict_signing=False, **settings)
        self._on_stamped = on_stamped

    async def publish(self, topic_id: str | list[str], data: bytes) -> None:
        topics = [topic_id] if isinstance(topic_id, str) else topic_id
        await self.push_msg(self.my_id, rpc_pb2.Message(data=data, topicIDs=topics))

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        if msg.from_id or msg.seqno or msg.signature or msg.key:
            self._on_stamped(msg_forwarder)
            return
        await super().push_msg(msg_forwarder, msg)


class _ContentCache(MessageCache):  # type: ignore[misc]
    """The library's cache keys messages by author and number, which under StrictNoSign are all the same."""

    def __init__(self, name: Callable[[rpc_pb2.Message], bytes]) -> None:
        super().__init__(_HISTORY_GOSSIP, _HISTORY_LENGTH)
        self._name = name

    def put(self, msg: rpc_pb2.Message) -> None:
        name = self._name(msg)
        if name not in self.msgs:
            self.msgs[name] = msg
            self.history[0].append(CacheEntry(name, msg.topicIDs))


class _BlocksRouter(GossipSub):  # type: ignore[misc]
    """gossipsub without the checks that assume authors, and with outbound queues that take a whole block."""

    def __init__(self, name: Callable[[rpc_pb2.Message], bytes]) -> None:
        super().__init__(
            protocols=_PROTOCOLS,
            degree=MESH_DEGREE,
            degree_low=MESH_DEGREE_LOW,
            degree_high=MESH_DEGREE_HIGH,
            gossip_window=_HISTORY_GOSSIP,
            gossip_history=_HISTORY_LENGTH,
            # The library's own type is int; it only sleeps for it.
            heartbeat_interval=HEARTBEAT_S,
            adaptive_gossip_enabled=False,  # would stretch the heartbeat to a minute
            spam_protection_enabled=False,  # drops above ten blocks a second; validation limits by height instead
            eclipse_protection_enabled=False,  # wants three subnets, which a private network does not have
        )
        self.mcache = _ContentCache(name)

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        return True

    async def flush_pending_messages(self, peer_id: ID) -> None:
        # Called right after the peer's queue was made, whose limit is 1 MiB and is not a setting.
        queue = self.pubsub.peer_queues.get(peer_id)
        if queue is not None:
            queue.max_message_size = _MAX_RPC_BYTES
        await super().flush_pending_messages(peer_id)


class BlockGossip:
    """Publishes and receives blocks on a host. `deliver` is called for each accepted block of others."""

    def __init__(
        self,
        host: Any,
        chain_id: int,
        validator: BlockValidator,
        scores: PeerScores,
        deliver: Callable[[Verdict], Awaitable[None]],
    ) -> None:
        self.topic = blocks_topic(chain_id)
        self._validator = validator
        self._scores = scores
        self._deliver = deliver
        self._router = _BlocksRouter(self._name)
        self._pubsub = _UnsignedPubsub(
            host,
            self._router,
            seen_ttl=SEEN_S,
            msg_id_constructor=self._name,
            max_inbound_rpc_size=_MAX_RPC_BYTES,
            allowed_topics={self.topic},
            on_stamped=lambda peer: scores.penalise(str(peer), Penalty.CLOCK, "gossip message with an author"),
        )
        self._pubsub.set_topic_validator(self.topic, self._validate, is_async_validator=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Joined to the topic until the block ends."""
        async with (
            background_trio_service(self._pubsub),
            background_trio_service(self._router),
            trio.open_nursery() as nursery,
        ):
            await self._pubsub.wait_until_ready()
            nursery.start_soon(_drain, await self._pubsub.subscribe(self.topic))
            try:
                yield
            finally:
                self._pubsub.seen_messages.stop()  # a thread that nothing else ends
                nursery.cancel_scope.cancel()

    async def publish(self, message: bytes) -> None:
        """Sends a message (envelope.encode_envelope) to the mesh."""
        await self._pubsub.publish(self.topic, message)

    def ban(self, peer: ID) -> None:
        """No longer takes anything from the peer or sends it anything."""
        self._pubsub.add_to_blacklist(peer)

    def unban(self, peer: ID) -> None:
        """Takes the ban back."""
        self._pubsub.remove_from_blacklist(peer)

    def topic_peers(self) -> list[ID]:
        """Peers that are subscribed to the topic."""
        return list(self._pubsub.peer_topics.get(self.topic, ()))

    def _name(self, message: rpc_pb2.Message) -> bytes:
        return message_id(self.topic, message.data)

    async def _validate(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        if forwarder == self._pubsub.my_id:
            return True
        verdict = await trio.to_thread.run_sync(self._validator.validate, message.data)
        if verdict.outcome is Outcome.ACCEPT:
            await self._deliver(verdict)
            return True
        log.debug("gossip not taken", peer=str(forwarder), reason=verdict.reason, detail=verdict.detail)
        if verdict.outcome is Outcome.REJECT and verdict.reason is not None:
            penalty = _PENALTIES.get(verdict.reason, Penalty.INVALID)
            self._scores.penalise(str(forwarder), penalty, f"{verdict.reason.value}: {verdict.detail}")
        return False


async def _drain(subscription: Any) -> None:
    # Blocks are delivered by the validator; a subscription nobody reads fills and complains.
    async for _ in subscription:
        pass
