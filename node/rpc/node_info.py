"""net, web3 and admin: the node itself."""

import platform
import sys
from importlib.metadata import version

from openledger.genesis.hashing import keccak256
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.formats import Json, hex_bytes
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import BYTES


class NodeInfo:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend

    @rpc_method("web3_clientVersion")
    def client_version(self) -> str:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return f"{self._backend.client_version}/v{version('openledger-node')}/{platform.system().lower()}-{platform.machine()}/{python}"

    @rpc_method("web3_sha3", BYTES)
    def sha3(self, data: bytes) -> str:
        """Keccak-256, whatever its old name says."""
        return hex_bytes(keccak256(data))

    @rpc_method("net_version")
    def net_version(self) -> str:
        return str(self._backend.chain.chain_id)

    @rpc_method("net_listening")
    def listening(self) -> bool:
        return True

    @rpc_method("net_peerCount")
    def peer_count(self) -> str:
        return hex(self._backend.peer_count())

    @rpc_method("admin_nodeInfo", trusted=True)
    def node_info(self) -> Json:
        chain = self._backend.chain
        return {
            "name": self.client_version(),
            "protocols": {
                "eth": {
                    "network": chain.chain_id,
                    "genesis": hex_bytes(chain.genesis_hash),
                    "head": hex_bytes(chain.head().hash),
                }
            },
        }
