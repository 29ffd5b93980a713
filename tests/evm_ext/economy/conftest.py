"""A world for the economy's contracts: the devnet's alloc on stock py-evm (Prague) with our precompiles in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import pytest
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState
from eth.vm.message import Message
from eth_abi.abi import decode, encode

from openledger.evm_ext.precompiles import PRECOMPILES
from openledger.evm_ext.proofs.datanet import Contribution, registry_domain
from openledger.evm_ext.proofs.eip712 import address_of
from openledger.evm_ext.proofs.merkle import StandardTree
from openledger.evm_ext.proofs.receipt import ChannelTerms, Voucher, ledger_domain
from openledger.evm_ext.proofs.settlement import Group, Record, Settlement, encode_settlement
from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.economy_alloc import economy_alloc
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import MICRO_OPEN_WEI, OPEN_WEI
from openledger.genesis.presets import DEVNET

BLANK_ROOT = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
CHAIN_ID = DEVNET.l2_chain_id
GENESIS_TIME = 1_700_000_000
NAMES = {
    predeploys.DATANET_REGISTRY: "DatanetRegistry",
    predeploys.MODEL_REGISTRY: "ModelRegistry",
    predeploys.INFERENCE_LEDGER: "InferenceLedger",
    predeploys.REWARDS_DISTRIBUTOR: "RewardsDistributor",
    predeploys.STAKE_MANAGER: "StakeManager",
}
PREDEPLOY_OF = {name: address for address, name in NAMES.items()}
TOKENIZER = keccak256(b"tokenizer")
SPLIT = DEVNET.economy.split.parts


class EconomyComputation(PragueComputation):
    _precompiles: ClassVar = {**PragueComputation.get_precompiles(), **PRECOMPILES}


class EconomyState(PragueState):
    computation_class = EconomyComputation


class Reverted(Exception):
    """A call failed; `name` is the contract's error, or what the VM said."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        super().__init__(f"{name}{arguments}")
        self.name = name
        self.arguments = arguments


@dataclass(frozen=True)
class Event:
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    values: tuple[Any, ...]
    events: tuple[Event, ...]
    gas_used: int

    @property
    def value(self) -> Any:
        return self.values[0]


@dataclass(frozen=True)
class Party:
    key: bytes

    @property
    def address(self) -> bytes:
        return address_of(self.key)


def _type(parameter: Mapping[str, Any]) -> str:
    kind = str(parameter["type"])
    if kind.startswith("tuple"):
        return f"({','.join(map(_type, parameter['components']))}){kind[5:]}"
    return kind


def _types(parameters: list[Any]) -> list[str]:
    return [_type(parameter) for parameter in parameters]


def _selector(entry: Mapping[str, Any]) -> bytes:
    return keccak256(f"{entry['name']}({','.join(_types(entry['inputs']))})".encode())


def _plain(value: Any) -> Any:
    """eth_abi gives addresses as hex text: bytes here."""
    if isinstance(value, str) and len(value) == 42 and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    if isinstance(value, tuple | list):
        return tuple(_plain(inner) for inner in value)
    return value


@dataclass
class World:
    """Contracts by name, blocks by number; every `send` is a transaction of its own."""

    block: int = 1
    timestamp: int = GENESIS_TIME
    parties: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.state = EconomyState(AtomicDB(), self._context(), BLANK_ROOT)
        for address, account in economy_alloc(DEVNET).items():
            self.state.set_balance(address, account.balance)
            self.state.set_nonce(address, account.nonce)
            self.state.set_code(address, account.code)
            for slot, value in account.storage.items():
                self.state.set_storage(address, slot, value)
        self.state.persist()

    def _context(self) -> ExecutionContext:
        return ExecutionContext(
            coinbase=bytes(20),
            timestamp=self.timestamp,
            block_number=self.block,
            difficulty=0,
            mix_hash=bytes(32),
            gas_limit=60_000_000,
            prev_hashes=(),
            chain_id=CHAIN_ID,
            base_fee_per_gas=0,
            excess_blob_gas=0,
        )

    def mine(self, blocks: int = 1) -> None:
        self.block += blocks
        self.timestamp += 2 * blocks
        self.state.execution_context = self._context()

    def party(self, balance_open: int = 10_000) -> Party:
        party = Party(keccak256(b"party" + next(self.parties).to_bytes(4, "big")))
        self.state.set_balance(party.address, balance_open * OPEN_WEI)
        self.state.persist()
        return party

    def balance(self, address: bytes) -> int:
        return int(self.state.get_balance(address))

    def code(self, runtime: bytes) -> bytes:
        """A new account with this runtime code."""
        address = keccak256(runtime + next(self.parties).to_bytes(4, "big"))[12:]
        self.state.set_code(address, runtime)
        self.state.persist()
        return address

    def raw(self, sender: bytes, to: bytes, data: bytes = b"", value: int = 0, gas: int = 50_000_000) -> Any:
        """One message as a transaction of its own: py-evm's computation."""
        code, delegate = self.state.get_transaction_executor().get_code_at_address(to)
        message = Message(
            gas=gas,
            to=to,
            sender=sender,
            value=value,
            data=data,
            code=code,
            code_address=delegate or to,
            is_delegation=delegate is not None,
        )
        context = self.state.transaction_context_class(gas_price=0, origin=sender)
        computation = EconomyComputation.apply_message(self.state, message, context)
        self.state.clear_transient_storage()
        self.state.persist()
        return computation

    def send(self, party: Party | bytes, contract: str, function: str, *arguments: Any, value: int = 0) -> Result:
        """Calls a predeploy's function; raises Reverted."""
        sender = party if isinstance(party, bytes) else party.address
        entry = next(e for e in artifact(contract).abi if e["type"] == "function" and e["name"] == function)
        data = _selector(entry)[:4] + encode(_types(entry["inputs"]), arguments)
        computation = self.raw(sender, PREDEPLOY_OF[contract], data, value)
        if computation.is_error:
            raise self._reverted(contract, computation)
        return Result(
            _plain(decode(_types(entry["outputs"]), computation.output)),
            tuple(self._events(computation)),
            computation.get_gas_used(),
        )

    def view(self, contract: str, function: str, *arguments: Any) -> Any:
        values = self.send(bytes(20), contract, function, *arguments).values
        return values[0] if len(values) == 1 else values

    def _reverted(self, contract: str, computation: Any) -> Reverted:
        output = computation.output
        for entry in artifact(contract).abi:
            if entry["type"] == "error" and output[:4] == _selector(entry)[:4]:
                return Reverted(entry["name"], _plain(decode(_types(entry["inputs"]), output[4:])))
        return Reverted(f"{type(computation.error).__name__} {output.hex()}")

    def _events(self, computation: Any) -> Any:
        for address, topics, data in computation.get_log_entries():
            if address not in NAMES:
                continue
            for entry in artifact(NAMES[address]).abi:
                if entry["type"] != "event" or int.from_bytes(_selector(entry), "big") != topics[0]:
                    continue
                indexed = [i for i in entry["inputs"] if i["indexed"]]
                others = [i for i in entry["inputs"] if not i["indexed"]]
                words = [topic.to_bytes(32, "big") for topic in topics[1:]]
                values = dict(zip([i["name"] for i in others], _plain(decode(_types(others), data))))
                for parameter, word in zip(indexed, words, strict=True):
                    values[parameter["name"]] = _plain(decode([_type(parameter)], word)[0])
                yield Event(entry["name"], values)

    # --- the story, step by step -------------------------------------------------------------------

    def contribution(self, datanet: int, contributor: Party, document: bytes) -> Contribution:
        return Contribution(
            datanet=datanet,
            contributor=contributor.address,
            document_hash=keccak256(document),
            metadata_hash=keccak256(b"metadata"),
            size=len(document),
            salt=keccak256(b"salt" + document),
            deadline=self.timestamp + 1_000_000,
        )

    def commit(self, message: Contribution, payer: Party) -> None:
        self.send(payer, "DatanetRegistry", "commit", message.datanet, message.commitment(CHAIN_ID))

    def reveal(self, message: Contribution, contributor: Party, relayer: Party | None = None) -> int:
        signature = message.sign(registry_domain(CHAIN_ID), contributor.key)
        values = tuple(getattr(message, name) for name in message.TYPES)
        return int(self.send(relayer or contributor, "DatanetRegistry", "reveal", values, signature).value)

    def contribute(self, datanet: int, contributor: Party, document: bytes) -> int:
        message = self.contribution(datanet, contributor, document)
        self.commit(message, contributor)
        self.mine()
        return self.reveal(message, contributor)

    def datanet(self, owner: Party, contributors: list[Party], tokens: int = 1_000) -> tuple[int, list[int]]:
        """A Datanet with one approved document of each contributor, version 1 and its corpus."""
        net = self.send(owner, "DatanetRegistry", "create", "poems", bytes(32), bytes(20), True).value
        ids = [
            self.contribute(net, contributor, b"document %d of %d" % (i, net))
            for i, contributor in enumerate(contributors)
        ]
        self.send(owner, "DatanetRegistry", "approve", net, ids)
        version = self.send(owner, "DatanetRegistry", "publishVersion", net).value
        roots = (keccak256(b"corpus"), keccak256(b"vectors"), keccak256(b"information"))
        self.send(owner, "DatanetRegistry", "setCorpus", net, version, TOKENIZER, *roots, tokens)
        return net, ids

    def release(
        self, owner: Party, trainer: Party, datanets: list[int], split: tuple[int, ...] = SPLIT, name: str = "poet"
    ) -> int:
        registration = (
            keccak256(name.encode()),
            keccak256(b"manifest"),
            keccak256(b"adapter"),
            TOKENIZER,
            keccak256(b"training"),
            trainer.address,
            500,
            1_500,
            split,
            [(net, 1) for net in datanets],
            name,
        )
        return int(self.send(owner, "ModelRegistry", "register", registration).value)

    def stake(self, provider: Party) -> None:
        self.send(provider, "StakeManager", "stake", value=int(DEVNET.economy.min_provider_stake_wei))

    def channel(self, payer: Party, provider: Party, authorizer: Party, deposit: int, salt: int = 0) -> bytes:
        delay = self.view("InferenceLedger", "minWithdrawDelay")
        terms = ChannelTerms(payer.address, provider.address, authorizer.address, delay, salt.to_bytes(32, "big"))
        opened = self.send(
            payer,
            "InferenceLedger",
            "open",
            terms.receiver,
            terms.authorizer,
            terms.withdraw_delay,
            terms.salt,
            value=deposit * MICRO_OPEN_WEI,
        ).value
        assert opened == terms.id
        return bytes(opened)

    def group(
        self, channel: bytes, release: int, authorizer: Party, records: list[Record], maximum: int | None = None
    ) -> Group:
        if maximum is None:
            claimed = self.view("InferenceLedger", "getChannel", channel)[4]
            maximum = claimed + sum(record.fee for record in records)
        signature = Voucher(channel, maximum).sign(ledger_domain(CHAIN_ID), authorizer.key)
        return Group(channel, release, maximum, signature, tuple(records))

    def settle(self, provider: Party, groups: list[Group]) -> Result:
        records = sum(len(group.records) for group in groups)
        root = StandardTree.of_receipts([keccak256(b"receipt %d" % i) for i in range(records)]).root
        payload = encode_settlement(Settlement(root, tuple(groups)))
        return self.send(provider, "InferenceLedger", "settle", payload)

    def credits(self, payee: bytes) -> int:
        """Everything a payee has, ripe or not, in micro-OPEN."""
        _, claimable, pending = self.view("RewardsDistributor", "account", payee)
        return int(claimable + sum(pending))


@pytest.fixture
def world() -> World:
    return World()
