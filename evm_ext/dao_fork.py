"""The one irregular change of state in Ethereum's history: what the DAO held goes to a contract that pays it back.

The accounts are those of EIP-779, as py-evm lists them.
"""

from __future__ import annotations

from typing import Final

from eth.vm.forks.homestead.headers import dao_drain_list, dao_refund_contract

from openledger.evm_ext.state.world import WorldState

DRAINED: Final = tuple(bytes.fromhex(account.removeprefix("0x")) for account in dao_drain_list)
REFUND_CONTRACT: Final = bytes(dao_refund_contract)


def move_dao_balances(state: WorldState) -> None:
    """Before the transactions of the fork's block."""
    for account in DRAINED:
        balance = state.get_balance(account)
        state.set_balance(account, 0)
        state.delta_balance(REFUND_CONTRACT, balance)
    state.end_transaction()
