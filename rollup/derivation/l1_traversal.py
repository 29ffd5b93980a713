"""Stage 1: walks the canonical L1 chain block by block and keeps the system configuration in force."""

import structlog

from openledger.evm_ext.block import Header
from openledger.rollup.blocks import successful_logs
from openledger.rollup.codec.system_config import SystemConfig, apply_updates
from openledger.rollup.config import RollupConfig
from openledger.rollup.derivation.errors import ResetRequired
from openledger.rollup.l1.source import L1Source

log = structlog.get_logger(__name__)


class L1Traversal:
    """Where on L1 the whole pipeline stands: `origin`, and `system_config` as of that block."""

    def __init__(self, config: RollupConfig, l1: L1Source, origin: Header, system_config: SystemConfig) -> None:
        self._config = config
        self._l1 = l1
        self.origin = origin
        self.system_config = system_config

    async def advance(self) -> bool:
        """Move to the next L1 block; False if there is none yet.

        Raises `ResetRequired` when the block at hand is no longer canonical, and what the L1 source raises.
        """
        following = await self._l1.header_by_number(self.origin.number + 1)
        if following is None:
            current = await self._l1.header_by_number(self.origin.number)
            if current is not None and current.hash != self.origin.hash:
                raise ResetRequired(f"L1 block {self.origin.number} is now 0x{current.hash.hex()}")
            return False
        if following.parent_hash != self.origin.hash:
            raise ResetRequired(f"L1 block {following.number} does not build on 0x{self.origin.hash.hex()}")
        receipts = await self._l1.receipts(following)
        updated, skipped = apply_updates(self.system_config, successful_logs(receipts), self._config.l1_system_config)
        for reason in skipped:
            log.warning("system config update skipped", l1_block=following.number, reason=reason)
        self.origin, self.system_config = following, updated
        return True
