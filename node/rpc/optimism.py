"""optimism and opp2p: what an op-node's RPC tells of the rollup, from this node's own derivation."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Final, Literal

from openledger.evm_ext.block import Header
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.formats import Json, hex_bytes
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import QUANTITY
from openledger.p2p.service import P2PService
from openledger.rollup.codec.outputs import OUTPUT_VERSION_0, output_root
from openledger.rollup.driver import Driver
from openledger.rollup.engine import Engine
from openledger.rollup.sync_status import l2_block_json

_LABELS: Final[tuple[Literal["unsafe", "safe", "finalized"], ...]] = ("unsafe", "safe", "finalized")


class OptimismRpc:
    def __init__(self, engine: Engine, driver: Driver, p2p: P2PService) -> None:
        self._engine = engine
        self._driver = driver
        self._p2p = p2p

    @rpc_method("optimism_syncStatus")
    def sync_status(self) -> Json:
        """L1 as derivation last saw it, L2's heads as they are now: a sequencer builds on while derivation waits."""
        heads = {label: self._engine.ref(self._engine.chain.head(label)) for label in _LABELS}
        return replace(
            self._driver.status, unsafe_l2=heads["unsafe"], safe_l2=heads["safe"], finalized_l2=heads["finalized"]
        ).to_json()

    @rpc_method("optimism_safeHeadAtL1Block", QUANTITY)
    def safe_head_at_l1_block(self, number: int) -> Json:
        """Which L2 block was safe once an L1 block was read: no history of that is kept here, as an op-node keeps none
        unless told to. Raises ServerError in its words, always."""
        raise ServerError("safe head database not enabled")

    @rpc_method("optimism_rollupConfig")
    def rollup_config(self) -> Json:
        return self._engine.config.to_json()

    @rpc_method("optimism_version")
    def version(self) -> str:
        return f"openledger-{version('openledger-node')}"

    @rpc_method("optimism_outputAtBlock", QUANTITY)
    def output_at_block(self, number: int) -> Json:
        """Raises ServerError for a block that is not there yet."""
        header: Header | None = self._engine.chain.header_by_number(number)
        if header is None:
            raise ServerError(f"L2 block {number} is not known here")
        assert header.withdrawals_root is not None
        root = output_root(header.state_root, header.withdrawals_root, header.hash)
        return {
            "version": hex_bytes(OUTPUT_VERSION_0),
            "outputRoot": hex_bytes(root),
            "blockRef": l2_block_json(self._engine.ref(header)),
            "withdrawalStorageRoot": hex_bytes(header.withdrawals_root),
            "stateRoot": hex_bytes(header.state_root),
            "syncStatus": self.sync_status(),
        }

    @rpc_method("opp2p_self", trusted=True)
    async def own_addresses(self) -> Json:
        return {"addresses": await self._p2p.addresses()}

    @rpc_method("opp2p_peers", trusted=True)
    def peers(self) -> Json:
        return {
            "totalConnected": len(peers := self._p2p.peers()),
            "peers": {
                peer.peer_id: {
                    "headNumber": peer.head_number,
                    "headHash": hex_bytes(peer.head_hash) if peer.head_hash else None,
                    "gossipBlocks": peer.gossiping,
                    "penalty": peer.penalty,
                }
                for peer in peers
            },
        }
