"""A world for the economy's contracts: the devnet's alloc on stock py-evm (Prague) with our precompiles in it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any, ClassVar

import pytest
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState
from eth.vm.message import Message
from eth_abi.abi import decode, encode

from openledger.evm_ext import CallRequest
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


def _function(contract: str, name: str) -> Mapping[str, Any]:
    return next(e for e in artifact(contract).abi if e["type"] == "function" and e["name"] == name)


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
        computation = self.raw(sender, PREDEPLOY_OF[contract], self._calldata(contract, function, arguments), value)
        if computation.is_error:
            raise self._reverted(contract, computation)
        return Result(
            self._outputs(contract, function, computation.output),
            tuple(self._decoded(computation.get_log_entries())),
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

    def _calldata(self, contract: str, function: str, arguments: tuple[Any, ...]) -> bytes:
        entry = _function(contract, function)
        return _selector(entry)[:4] + bytes(encode(_types(entry["inputs"]), arguments))

    def _outputs(self, contract: str, function: str, output: bytes) -> tuple[Any, ...]:
        values: tuple[Any, ...] = _plain(decode(_types(_function(contract, function)["outputs"]), output))
        return values

    def _decoded(self, logs: Any) -> Any:
        for address, topics, data in logs:
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


# Where a transaction's result shows in its events, for functions whose return value a receipt does not hold.
_RESULT_EVENTS = {
    "create": ("DatanetCreated", "datanet"),
    "reveal": ("Contributed", "contribution"),
    "publishVersion": ("VersionPublished", "version"),
    "register": ("ReleaseRegistered", "release"),
    "open": ("ChannelOpened", "channelId"),
    "settle": ("Settled", "batch"),
    "claim": ("Claimed", "amount"),
}


class ChainWorld(World):
    """The same over our own client: each `send` is a signed transaction in a block of its own."""

    def __init__(self, chain: Any, tools: Any) -> None:
        self.chain, self.tools, self.parties = chain, tools, iter(tools.KEYS)
        self.blocks: list[Any] = []

    @property
    def block(self) -> int:  # type: ignore[override]
        return int(self.chain.head().number) + 1

    @property
    def timestamp(self) -> int:  # type: ignore[override]
        return int(self.chain.head().timestamp) + 2

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.blocks.append(self.tools.extend(self.chain))

    def party(self, balance_open: int = 0) -> Party:
        return Party(next(self.parties))

    def balance(self, address: bytes) -> int:
        return int(self.chain.state(self.chain.head().hash).balance(address))

    def send(self, party: Party | bytes, contract: str, function: str, *arguments: Any, value: int = 0) -> Result:
        assert isinstance(party, Party)
        data = self._calldata(contract, function, arguments)
        key = self.tools.KEYS.index(party.key)
        nonce = self.chain.state(self.chain.head().hash).nonce(party.address)
        transaction = self.tools.signed(
            key, CHAIN_ID, nonce, PREDEPLOY_OF[contract], data=data, value=value, gas=5_000_000
        )
        block = self.tools.extend(self.chain, (transaction,))
        self.blocks.append(block)
        (receipt,) = self.chain.receipts(block.hash)
        if receipt.status != 1:
            raise Reverted(f"{contract}.{function}")
        logs = [(log.address, [int.from_bytes(t, "big") for t in log.topics], log.data) for log in receipt.logs]
        events = tuple(self._decoded(logs))
        values: tuple[Any, ...] = ()
        if function in _RESULT_EVENTS:
            name, argument = _RESULT_EVENTS[function]
            values = (next(event.arguments[argument] for event in events if event.name == name),)
        return Result(values, events, receipt.gas_used)

    def view(self, contract: str, function: str, *arguments: Any) -> Any:
        request = CallRequest(to=PREDEPLOY_OF[contract], data=self._calldata(contract, function, arguments))
        result = self.chain.call(request, self.chain.head().hash)
        assert result.success, result.error
        values = self._outputs(contract, function, result.output)
        return values[0] if len(values) == 1 else values


def shares(total: int, weights: dict) -> dict:
    """Largest remainder by fractions, ties to the lower key: written apart from the code under test."""
    whole = sum(weights.values())
    exact = {key: Fraction(total * weight, whole) for key, weight in weights.items()}
    out = {key: int(value) for key, value in exact.items()}
    for key in sorted(exact, key=lambda key: (out[key] - exact[key], key))[: total - sum(out.values())]:
        out[key] += 1
    return out


class Story:
    """Two Datanets, three contributors, one release, one staked provider, two channels."""

    def __init__(self, world, split=SPLIT):
        self.world = world
        self.owner, self.trainer, self.provider = (world.party() for _ in range(3))
        self.payer, self.authorizer = world.party(), world.party()
        self.contributors = [world.party() for _ in range(3)]
        self.treasuries = [world.party() for _ in range(2)]
        first, ids = world.datanet(self.owner, self.contributors[:2], tokens=3_000)
        second, more = world.datanet(self.owner, self.contributors[2:], tokens=1_000)
        self.nets, self.ids = [first, second], ids + more
        for net, treasury in zip(self.nets, self.treasuries, strict=True):
            world.send(self.owner, "DatanetRegistry", "setTreasury", net, treasury.address)
        self.release = world.release(self.owner, self.trainer, self.nets, split)
        world.stake(self.provider)
        self.channels = [
            world.channel(self.payer, self.provider, self.authorizer, 1_000_000, salt) for salt in range(2)
        ]
        self.split = split
        self.retired: set[int] = set()

    def group(self, channel, records, maximum=None):
        return self.world.group(self.channels[channel], self.release, self.authorizer, records, maximum)

    def expected(self, records) -> dict[bytes, int]:
        owed: defaultdict[bytes, int] = defaultdict(int)
        payee = dict(zip(self.ids, (c.address for c in self.contributors), strict=True))
        net_of = dict(zip(self.ids, (0, 0, 1), strict=True))
        for record in records:
            platform = record.fee * DEVNET.economy.platform_bps // 10_000
            owed[DEVNET.owner] += platform
            parts = shares(record.fee - platform, dict(enumerate(self.split)))
            roles = (self.owner.address, self.trainer.address, predeploys.STAKE_MANAGER, self.provider.address)
            for role, amount in zip(roles, (parts[i] for i in range(4)), strict=True):
                owed[role] += amount
            if record.entries:
                for contribution, amount in shares(parts[4], dict(record.entries)).items():
                    if contribution in self.retired:
                        owed[self.treasuries[net_of[contribution]].address] += amount
                    else:
                        owed[payee[contribution]] += amount
            else:
                for net, amount in shares(parts[4], {0: 3_000, 1: 1_000}).items():
                    owed[self.treasuries[net].address] += amount
        return {payee: amount for payee, amount in owed.items() if amount}

    def everyone(self) -> list[bytes]:
        named = [self.owner, self.trainer, self.provider, *self.contributors, *self.treasuries]
        return [party.address for party in named] + [DEVNET.owner, predeploys.STAKE_MANAGER]

    def credited(self) -> dict[bytes, int]:
        return {payee: amount for payee in self.everyone() if (amount := self.world.credits(payee))}


@pytest.fixture
def make_story() -> type[Story]:
    return Story


@pytest.fixture
def story(world: World) -> Story:
    return Story(world)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def chain_world(tools: Any, open_chain: Any) -> ChainWorld:
    return ChainWorld(open_chain(tools.op_genesis()), tools)
