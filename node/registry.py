"""What our contracts hold, read by calls at one block and given typed. Addresses and hashes are bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.proofs.datanet import ContributionStatus
from openledger.genesis.parameters import Split
from openledger.node.contracts import Contract
from openledger.node.predeploy_contracts import (
    datanet_registry,
    inference_ledger,
    model_registry,
    rewards_distributor,
    stake_manager,
)

Call = Callable[[bytes, bytes], bytes]
"""`call(to, data)`: what a call of the contract at `to` returns. Raises CallReverted."""

ACTIVE = 1


class CallReverted(Exception):
    """A call was reverted; `data` is what it returned."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"the call was reverted with 0x{data.hex()}")
        self.data = data


class NotRegistered(LookupError):
    """The contracts know nothing of that id; the message is theirs."""


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@dataclass(frozen=True)
class Datanet:
    """A Datanet as it stands. `metadata_hash` is the content hash of its description."""

    id: int
    owner: bytes
    treasury: bytes
    name: str
    metadata_hash: bytes
    is_public: bool
    approvals: int
    versions: int


@dataclass(frozen=True)
class ContributionRecord:
    """A contribution; `document_hash` and `metadata_hash` are content hashes, `size` the document's bytes."""

    id: int
    contributor: bytes
    datanet: int
    contributor_id: int
    status: ContributionStatus
    size: int
    commit_block: int
    reveal_block: int
    document_hash: bytes
    metadata_hash: bytes


@dataclass(frozen=True)
class Version:
    """A published version: the first `count` approved contributions, under `root`."""

    datanet: int
    number: int
    root: bytes
    count: int
    block_number: int


@dataclass(frozen=True)
class Corpus:
    """A version's tokens and vectors as its owner committed to them."""

    corpus_root: bytes
    retrieval_root: bytes
    information_root: bytes
    tokens: int
    block_number: int


@dataclass(frozen=True)
class Release:
    """A registered release. Prices are micro-OPEN per 1,000 tokens; `datanets` are (id, version, tokens)."""

    id: int
    name: str
    owner: bytes
    trainer: bytes
    split: Split
    active: bool
    price_in: int
    price_out: int
    release_hash: bytes
    manifest_hash: bytes
    adapter_hash: bytes
    tokenizer_hash: bytes
    training_record: bytes
    datanets: tuple[tuple[int, int, int], ...]
    block_number: int


@dataclass(frozen=True)
class Channel:
    """A payment channel; amounts in micro-OPEN, `withdraw_delay` and `withdrawable_at` in L2 blocks."""

    id: bytes
    payer: bytes
    receiver: bytes
    authorizer: bytes
    deposit: int
    total_claimed: int
    withdraw_delay: int
    withdrawable_at: int

    @property
    def closing(self) -> bool:
        """The payer asked for the rest back; a provider should take no more vouchers."""
        return self.withdrawable_at != 0


@dataclass(frozen=True)
class Settlement:
    """What the ledger remembers of a settlement."""

    number: int
    provider: bytes
    epoch: int
    block_number: int
    receipts_root: bytes
    payload_hash: bytes


@dataclass(frozen=True)
class Earnings:
    """A payee's credits in micro-OPEN: what can be claimed now, and what ripens in the next three epochs."""

    epoch: int
    claimable: int
    pending: tuple[int, int, int]


class Registry:
    """Typed reads of the economy's contracts, all at the block that `call` reads from."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def _read(self, contract: Contract, function: str, *arguments: Any) -> Any:
        try:
            values = contract.decode(function, self._call(contract.address, contract.encode(function, *arguments)))
        except CallReverted as error:
            raise NotRegistered(contract.explain(error.data)) from error
        return values[0] if len(values) == 1 else values

    # Datanets

    def datanet_count(self) -> int:
        return int(self._read(datanet_registry(), "datanetCount"))

    def contribution_count(self) -> int:
        return int(self._read(datanet_registry(), "contributionCount"))

    def datanet(self, identifier: int) -> Datanet:
        """Raises NotRegistered."""
        owner, treasury, name, metadata, public, approvals, versions = self._read(
            datanet_registry(), "getDatanet", identifier
        )
        return Datanet(
            identifier, _address(owner), _address(treasury), name, metadata, public, int(approvals), int(versions)
        )

    def contribution(self, identifier: int) -> ContributionRecord:
        """Raises NotRegistered."""
        who, datanet, who_id, status, size, committed, revealed, document, metadata = self._read(
            datanet_registry(), "getContribution", identifier
        )
        if status == ContributionStatus.NONE:
            raise NotRegistered(f"there is no contribution {identifier}")
        return ContributionRecord(
            identifier,
            _address(who),
            datanet,
            who_id,
            ContributionStatus(status),
            size,
            committed,
            revealed,
            document,
            metadata,
        )

    def contributions(self, datanet: int | None = None) -> Iterator[ContributionRecord]:
        """All contributions in id order, or those of one Datanet."""
        for identifier in range(1, self.contribution_count() + 1):
            found = self.contribution(identifier)
            if datanet is None or found.datanet == datanet:
                yield found

    def contributor(self, contributor_id: int) -> bytes:
        """The address of a contributor id; 20 zero bytes where there is none."""
        return _address(self._read(datanet_registry(), "contributors", contributor_id))

    def contribution_of(self, datanet: int, document_hash: bytes) -> int:
        """The contribution that holds this document in a Datanet; 0 where there is none."""
        return int(self._read(datanet_registry(), "contributionOf", datanet, document_hash))

    def version(self, datanet: int, number: int) -> Version:
        """Raises NotRegistered."""
        root, count, block_number = self._read(datanet_registry(), "getVersion", datanet, number)
        return Version(datanet, number, root, count, block_number)

    def corpus(self, datanet: int, version: int, tokenizer_hash: bytes) -> Corpus | None:
        """None where it was not set yet."""
        found = Corpus(*self._read(datanet_registry(), "getCorpus", datanet, version, tokenizer_hash))
        return found if found.tokens else None

    def reveal_limits(self) -> tuple[int, int]:
        """Fewest and most blocks between a commitment and its reveal."""
        registry = datanet_registry()
        return int(self._read(registry, "revealMinBlocks")), int(self._read(registry, "revealMaxBlocks"))

    def commit_deposit(self) -> int:
        """What a commitment deposits, in micro-OPEN."""
        return int(self._read(datanet_registry(), "commitDeposit"))

    # releases

    def release_count(self) -> int:
        return int(self._read(model_registry(), "releaseCount"))

    def release(self, identifier: int) -> Release:
        """Raises NotRegistered."""
        (
            owner,
            owner_bps,
            trainer_bps,
            stakers_bps,
            provider_bps,
            contributors_bps,
            status,
            trainer,
            _,
            block_number,
            price_in,
            price_out,
            release_hash,
            manifest_hash,
            adapter_hash,
            tokenizer_hash,
            training_record,
            datanets,
            name,
        ) = self._read(model_registry(), "getRelease", identifier)
        return Release(
            id=identifier,
            name=name,
            owner=_address(owner),
            trainer=_address(trainer),
            split=Split(owner_bps, trainer_bps, stakers_bps, provider_bps, contributors_bps),
            active=status == ACTIVE,
            price_in=price_in,
            price_out=price_out,
            release_hash=release_hash,
            manifest_hash=manifest_hash,
            adapter_hash=adapter_hash,
            tokenizer_hash=tokenizer_hash,
            training_record=training_record,
            datanets=tuple((d, v, t) for d, v, t in datanets),
            block_number=block_number,
        )

    def releases(self) -> Iterator[Release]:
        """All releases in id order."""
        for identifier in range(1, self.release_count() + 1):
            yield self.release(identifier)

    def prices(self, release: int) -> tuple[int, int]:
        """Prices of input and output, micro-OPEN per 1,000 tokens. Raises NotRegistered."""
        price_in, price_out = self._read(model_registry(), "getPrice", release)
        return int(price_in), int(price_out)

    # money

    def channel(self, channel_id: bytes) -> Channel | None:
        """None where there is no such channel."""
        try:
            payer, deposit, delay, receiver, claimed, authorizer, withdrawable = self._read(
                inference_ledger(), "getChannel", channel_id
            )
        except NotRegistered:
            return None
        return Channel(
            channel_id, _address(payer), _address(receiver), _address(authorizer), deposit, claimed, delay, withdrawable
        )

    def min_withdraw_delay(self) -> int:
        """The least delay of a new channel, in L2 blocks."""
        return int(self._read(inference_ledger(), "minWithdrawDelay"))

    def settlement_count(self) -> int:
        return int(self._read(inference_ledger(), "batchCount"))

    def settlement(self, number: int) -> Settlement:
        """Raises NotRegistered."""
        provider, epoch, block_number, root, payload_hash = self._read(inference_ledger(), "getBatch", number)
        if not block_number:
            raise NotRegistered(f"there is no settlement {number}")
        return Settlement(number, _address(provider), epoch, block_number, root, payload_hash)

    def settlement_with_root(self, receipts_root: bytes) -> Settlement | None:
        """The newest settlement under this root, or None."""
        for number in range(self.settlement_count(), 0, -1):
            found = self.settlement(number)
            if found.receipts_root == receipts_root:
                return found
        return None

    def earnings(self, payee: bytes) -> Earnings:
        epoch, claimable, pending = self._read(rewards_distributor(), "account", payee)
        return Earnings(int(epoch), int(claimable), (int(pending[0]), int(pending[1]), int(pending[2])))

    def epoch(self) -> int:
        return int(self._read(rewards_distributor(), "epoch"))

    def epoch_blocks(self) -> int:
        return int(self._read(rewards_distributor(), "epochBlocks"))

    def platform_bps(self) -> int:
        return int(self._read(rewards_distributor(), "platformBps"))

    def is_staked(self, provider: bytes) -> bool:
        return bool(self._read(stake_manager(), "isStaked", provider))

    def min_provider_stake(self) -> int:
        """The least stake of a provider, in wei."""
        return int(self._read(stake_manager(), "minProviderStake"))
