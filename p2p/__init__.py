"""Peers: block gossip as op-node speaks it, request/response, range sync. Knows nothing of L1 and of models.

The names here are the package's face. They are loaded when first used: libp2p is large, and the codecs of this
package are useful without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openledger.p2p.backend import ChainBackend, PeerBackend
    from openledger.p2p.host import CannotListen, InvalidIdentity, InvalidPeerAddress
    from openledger.p2p.service import NotSequencer, P2PConfig, P2PService, PeerInformation

_HOMES = {
    "backend": ("ChainBackend", "PeerBackend"),
    "host": ("CannotListen", "InvalidIdentity", "InvalidPeerAddress"),
    "service": ("NotSequencer", "P2PConfig", "P2PService", "PeerInformation"),
}

__all__ = [
    "CannotListen",
    "ChainBackend",
    "InvalidIdentity",
    "InvalidPeerAddress",
    "NotSequencer",
    "P2PConfig",
    "P2PService",
    "PeerBackend",
    "PeerInformation",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
