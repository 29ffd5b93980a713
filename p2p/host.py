"""The libp2p host: TCP, noise and yamux only, an identity that stays, and connections to the static peers kept up."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.auto_connector import AutoConnector
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

_IDENTITY_FILE = "p2p-identity.key"
_DIAL_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0
_REDIAL_FIRST_S = 0.5
_REDIAL_MOST_S = 15.0
_CONNECTION_CHECK_S = 2.0

log = structlog.get_logger(__name__)


class InvalidPeerAddress(ValueError):
    """A configured peer address cannot be dialled."""


class InvalidIdentity(ValueError):
    """The identity file does not hold a key."""


class CannotListen(OSError):
    """The listening address cannot be used."""


@dataclass(frozen=True)
class StaticPeer:
    """A peer to stay connected to."""

    info: PeerInfo

    @classmethod
    def parse(cls, address: str) -> "StaticPeer":
        """From a multiaddress such as /ip4/10.0.0.7/tcp/9222/p2p/12D3Koo… . Raises InvalidPeerAddress."""
        try:
            return cls(info_from_p2p_addr(Multiaddr(address)))
        except Exception as error:  # multiaddr raises whatever its parts raise
            raise InvalidPeerAddress(
                f"{address!r} is not a peer address; write /ip4/<address>/tcp/<port>/p2p/<peer id> ({error})"
            ) from error


def load_identity(folder: Path) -> KeyPair:
    """The Ed25519 key in the data folder, made at the first call. Raises InvalidIdentity."""
    path = folder / _IDENTITY_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = create_new_key_pair().private_key.to_bytes()
        staged = path.with_suffix(f".{os.getpid()}.new")
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    try:
        seed = bytes.fromhex(path.read_text().strip())
        if len(seed) != 32:
            raise ValueError(f"{len(seed)} bytes instead of 32")
        return create_new_key_pair(seed)
    except ValueError as error:
        raise InvalidIdentity(f"{path} does not hold a key ({error}); delete it to get a new identity") from error


@asynccontextmanager
async def open_host(identity: KeyPair, listen_host: str, listen_port: int) -> AsyncIterator[Any]:
    """A host listening on TCP until the block ends; port 0 takes a free one. Raises CannotListen."""
    address = Multiaddr(f"/ip{6 if ':' in listen_host else 4}/{listen_host}/tcp/{listen_port}")
    await _check_free(listen_host, listen_port)
    host = new_host(
        key_pair=identity,
        # The library's defaults offer unencrypted connections too.
        sec_opt={
            TProtocol(NOISE_PROTOCOL): NoiseTransport(identity, noise_privkey=create_noise_key_pair().private_key)
        },
        muxer_opt={TProtocol(YAMUX_PROTOCOL): Yamux},
        listen_addrs=[address],
    )
    host.get_network().auto_connector = _NoDialling(host.get_network())
    async with host.run(listen_addrs=[address]):
        try:
            yield host
        finally:
            # Leaving `run` alone keeps the port bound.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_TIMEOUT_S):
                await host.close()


class _NoDialling(AutoConnector):  # type: ignore[misc]
    """The library's own would dial whomever it ever heard of, banned peers too, until it has 200 connections."""

    async def maybe_connect(self) -> None:
        return


async def _check_free(listen_host: str, listen_port: int) -> None:
    # The library goes on without a listener when it cannot have its address.
    family = trio.socket.AF_INET6 if ":" in listen_host else trio.socket.AF_INET
    with trio.socket.socket(family) as probe:
        probe.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        try:
            await probe.bind((listen_host, listen_port))
        except OSError as error:
            raise CannotListen(
                f"cannot listen on {listen_host}:{listen_port}: {error.strerror}; is another node running?"
            ) from error


async def keep_connected(host: Any, peer: StaticPeer, is_banned: Callable[[str], bool]) -> None:
    """Dials the peer, and again whenever the connection is lost, until cancelled."""
    if peer.info.peer_id == host.get_id():
        log.warning("a static peer is this node itself", peer=str(peer.info.peer_id))
        return
    wait_s = _REDIAL_FIRST_S
    while True:
        if host.is_peer_connected(peer.info.peer_id):
            wait_s = _REDIAL_FIRST_S
            await trio.sleep(_CONNECTION_CHECK_S)
            continue
        if not is_banned(str(peer.info.peer_id)):
            try:
                with trio.fail_after(_DIAL_TIMEOUT_S):
                    await host.connect(peer.info)
                log.info("peer connected", peer=str(peer.info.peer_id))
                continue
            except (BaseLibp2pError, OSError, trio.TooSlowError) as error:
                log.debug("peer not reached", peer=str(peer.info.peer_id), error=str(error))
        await trio.sleep(wait_s)
        wait_s = min(2 * wait_s, _REDIAL_MOST_S)


def connected_peers(host: Any) -> list[ID]:
    """The peers with a live connection."""
    return list(host.get_connected_peers())
