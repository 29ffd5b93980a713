"""CREDIT at 0x…A700: splits every fee of a settlement exactly and credits each payee's slot once.

Input, from InferenceLedger alone: `u8 version = 1 | epoch u32 | provider 20 | budget u64 | settlement`, the
settlement in the form of proofs/settlement.py. Output: the number of payees credited, 32 bytes.

Each fee goes, in this order: the platform's basis points (floor); the rest to owner, trainer, stakers,
provider and contributors by the release's policy; the contributors' part by the record's weights, to a
contribution's contributor, or to its Datanet's treasury once it is retired. A record without weights pays
the treasuries of the release's Datanets by their token counts. Divisions are proofs/split.py's.

It fails, and takes all gas given to it, unless it is called by CALL from the ledger to its own address,
without value and outside a static call; and on anything malformed, unknown, or a budget that is not the
sum of the fees.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from eth.exceptions import VMError

from openledger.evm_ext.precompiles.payee import PayeeAccount
from openledger.evm_ext.precompiles.storage import MeteredState, ReleaseRecord
from openledger.evm_ext.proofs.datanet import ContributionStatus
from openledger.evm_ext.proofs.settlement import Entry, InvalidSettlement, Settlement, decode_settlement
from openledger.evm_ext.proofs.split import largest_remainder, split_fee
from openledger.genesis.predeploys import CREDIT, INFERENCE_LEDGER, REWARDS_DISTRIBUTOR

BASE_GAS = 1_000
RECORD_GAS = 650
ENTRY_GAS = 70
UPDATE_GAS = 600
"""Beside a payee's read and write, which cost what they cost the EVM."""

_HEADER = struct.Struct(">BI20sQ")
_VERSION = 1


class CreditRefused(VMError):  # type: ignore[misc]  # py-evm is untyped
    """CREDIT was called as it must not be, or with what it cannot pay; the call fails and its gas is gone."""


def credit(computation: Any) -> Any:
    """The precompile, on a py-evm computation. Raises CreditRefused or OutOfGas."""
    _check_caller(computation.msg)
    computation.consume_gas(BASE_GAS, "CREDIT")
    data = bytes(computation.msg.data)
    if len(data) < _HEADER.size:
        raise CreditRefused(f"{len(data)} bytes of input: the header is {_HEADER.size}")
    version, epoch, provider, budget = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise CreditRefused(f"input version {version}: only {_VERSION} is known")
    # A record is at least 6 bytes and an entry 6: this bounds the decoder's work before it starts.
    computation.consume_gas((len(data) - _HEADER.size) // 6 * ENTRY_GAS, "CREDIT: decode")
    try:
        settlement = decode_settlement(data[_HEADER.size :])
    except InvalidSettlement as problem:
        raise CreditRefused(f"the settlement: {problem}") from None
    if settlement.fees != budget:
        raise CreditRefused(f"the budget is {budget}, the fees sum to {settlement.fees}")
    computation.consume_gas(settlement.records * RECORD_GAS, "CREDIT: split")
    state = MeteredState(computation)
    amounts = _Splitter(state, provider).amounts(settlement)
    if sum(amounts.values()) != budget:
        raise CreditRefused("the parts do not sum to the budget")
    paid = 0
    for payee, amount in amounts.items():
        if amount:
            computation.consume_gas(UPDATE_GAS, "CREDIT: update")
            _add(state, payee, epoch, amount)
            paid += 1
    computation.output = paid.to_bytes(32, "big")
    return computation


def _check_caller(message: Any) -> None:
    if message.to != CREDIT or message.code_address != CREDIT:
        raise CreditRefused("CREDIT acts only at its own address")
    if message.sender != INFERENCE_LEDGER:
        raise CreditRefused(f"0x{message.sender.hex()} is not the ledger")
    if message.value or message.is_static or not message.should_transfer_value or message.is_delegation:
        raise CreditRefused("CREDIT takes no value and acts in no static or delegated call")


def _add(state: MeteredState, payee: bytes, epoch: int, amount: int) -> None:
    slot = state.payee_slot(payee)
    before = state.read(REWARDS_DISTRIBUTOR, slot)
    account = PayeeAccount.decode(before)
    if account.epoch > epoch:
        raise CreditRefused(f"epoch {epoch} is before the payee's {account.epoch}")
    try:
        word = account.credited(epoch, amount).encode()
    except OverflowError as problem:
        raise CreditRefused(str(problem)) from None
    state.write(REWARDS_DISTRIBUTOR, slot, before, word)


class _Splitter:
    """Adds up what each payee gets of a settlement, reading each record of state once."""

    def __init__(self, state: MeteredState, provider: bytes) -> None:
        self._state = state
        self._provider = provider
        self._platform, self._platform_bps, self._stakers = state.platform()
        self._contribution_payees: dict[int, bytes] = {}
        self._treasuries: dict[int, bytes] = {}
        self._fallbacks: dict[int, list[tuple[int, int]]] = {}
        self._releases: dict[int, ReleaseRecord] = {}

    def amounts(self, settlement: Settlement) -> dict[bytes, int]:
        """Micro-OPEN by payee, in the order in which payees first appear."""
        amounts: defaultdict[bytes, int] = defaultdict(int)
        for group in settlement.groups:
            release = self._release(group.release)
            for record in group.records:
                parts = split_fee(record.fee, self._platform_bps, release.policy_bps)
                amounts[self._platform] += parts.platform
                amounts[release.owner] += parts.owner
                amounts[release.trainer] += parts.trainer
                amounts[self._stakers] += parts.stakers
                amounts[self._provider] += parts.provider
                for payee, amount in self._contributors(group.release, release, record.entries, parts.contributors):
                    amounts[payee] += amount
        return amounts

    def _contributors(
        self, identity: int, release: ReleaseRecord, entries: tuple[Entry, ...], amount: int
    ) -> Iterable[tuple[bytes, int]]:
        if entries:
            payees = [self._payee(contribution) for contribution, _ in entries]
            return zip(payees, (part for _, part in largest_remainder(amount, entries)), strict=True)
        if not amount:
            return ()
        shares = self._fallback(identity, release)
        return [(self._treasury(datanet), part) for datanet, part in largest_remainder(amount, shares)]

    def _release(self, identity: int) -> ReleaseRecord:
        known = self._releases.get(identity)
        if known is None:
            known = self._state.release(identity)
            if known is None:
                raise CreditRefused(f"no release {identity}")
            self._releases[identity] = known
        return known

    def _payee(self, contribution: int) -> bytes:
        payee = self._contribution_payees.get(contribution)
        if payee is None:
            record = self._state.contribution(contribution)
            if record.status == ContributionStatus.APPROVED:
                payee = record.contributor
            elif record.status == ContributionStatus.RETIRED:
                payee = self._treasury(record.datanet)
            else:
                raise CreditRefused(f"contribution {contribution} is not approved")
            self._contribution_payees[contribution] = payee
        return payee

    def _treasury(self, datanet: int) -> bytes:
        treasury = self._treasuries.get(datanet)
        if treasury is None:
            treasury = self._treasuries[datanet] = self._state.treasury(datanet)
        return treasury

    def _fallback(self, identity: int, release: ReleaseRecord) -> list[tuple[int, int]]:
        shares = self._fallbacks.get(identity)
        if shares is None:
            shares = self._state.release_datanets(identity, release.datanets)
            if not shares:
                raise CreditRefused(f"release {identity} has no Datanets to pay")
            self._fallbacks[identity] = shares
        return shares
