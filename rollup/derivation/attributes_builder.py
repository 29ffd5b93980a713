"""Stage 7: everything of an L2 block that L1 decides: the L1 attributes deposit, user deposits, limits (derivation.md,
"Building individual payload attributes"). The sequencer builds its blocks on the same attributes."""

import structlog

from openledger.evm_ext.block import Header
from openledger.evm_ext.payload import PayloadAttributes
from openledger.genesis.predeploys import SEQUENCER_FEE_VAULT
from openledger.rollup.blocks import L2BlockRef, successful_logs
from openledger.rollup.codec.deposits import InvalidDeposit, deposits_in_block
from openledger.rollup.codec.l1_info import L1Info, l1_info_deposit
from openledger.rollup.codec.system_config import SystemConfig, apply_updates
from openledger.rollup.config import RollupConfig
from openledger.rollup.derivation.errors import CriticalDerivationError, ResetRequired
from openledger.rollup.l1.blob_fee import blob_base_fee
from openledger.rollup.l1.source import L1Source

log = structlog.get_logger(__name__)


class AttributesBuilder:
    """Builds payload attributes without the sequencer's transactions."""

    def __init__(self, config: RollupConfig, l1: L1Source) -> None:
        self._config = config
        self._l1 = l1

    async def build(
        self,
        parent: L2BlockRef,
        parent_config: SystemConfig,
        epoch: Header,
        transactions: tuple[bytes, ...] = (),
        *,
        no_tx_pool: bool = True,
    ) -> PayloadAttributes:
        """Attributes of the block after `parent` in epoch `epoch`; `transactions` follow the deposits.

        `parent_config` is the system configuration as of `parent`. Raises `ResetRequired` if `epoch` does not
        continue `parent`'s origin or is later than the block, and what the L1 source raises.
        """
        timestamp = parent.timestamp + self._config.block_time
        config, sequence_number = parent_config, parent.sequence_number + 1
        deposits: tuple[bytes, ...] = ()
        if epoch.number != parent.l1_origin.number:
            if epoch.parent_hash != parent.l1_origin.hash:
                raise ResetRequired(f"L1 block {epoch.number} does not follow the origin of L2 block {parent.number}")
            logs = successful_logs(await self._l1.receipts(epoch))
            config, _ = apply_updates(parent_config, logs, self._config.l1_system_config)
            sequence_number = 0
            try:
                deposits = tuple(
                    deposit.encode() for deposit in deposits_in_block(logs, self._config.deposit_contract, epoch.hash)
                )
            except InvalidDeposit as error:
                raise CriticalDerivationError(f"deposit in L1 block {epoch.number}: {error}") from error
        elif epoch.hash != parent.l1_origin.hash:
            raise ResetRequired(f"L1 block {epoch.number} is no longer the origin of L2 block {parent.number}")
        if timestamp < epoch.timestamp:
            raise ResetRequired(f"L2 time {timestamp} is before the time of its L1 origin {epoch.timestamp}")
        info = L1Info(
            number=epoch.number,
            timestamp=epoch.timestamp,
            base_fee=epoch.base_fee_per_gas,
            blob_base_fee=blob_base_fee(self._config.l1_chain_id, epoch),
            block_hash=epoch.hash,
            sequence_number=sequence_number,
            batcher=config.batcher,
            base_fee_scalar=config.base_fee_scalar,
            blob_base_fee_scalar=config.blob_base_fee_scalar,
            operator_fee_scalar=config.operator_fee_scalar,
            operator_fee_constant=config.operator_fee_constant,
        )
        return PayloadAttributes(
            timestamp=timestamp,
            prev_randao=epoch.prev_randao,
            suggested_fee_recipient=SEQUENCER_FEE_VAULT,
            parent_beacon_block_root=epoch.parent_beacon_block_root,
            transactions=(l1_info_deposit(info).encode(), *deposits, *transactions),
            no_tx_pool=no_tx_pool,
            gas_limit=config.gas_limit,
            eip_1559_params=config.eip_1559_params,
        )
