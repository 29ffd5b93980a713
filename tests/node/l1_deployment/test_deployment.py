"""The L1 contracts come to stand by transactions as the embedded L1's genesis has them, however often it is interrupted."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import OWNER, PROPOSER, USERS
from openledger.genesis.hashing import keccak256
from openledger.genesis.l1_contracts import l1_contracts
from openledger.genesis.parameters import OPEN_WEI
from openledger.genesis.predeploys import implementation_address
from openledger.genesis.preset import Roles
from openledger.genesis.presets import DEVNET, TESTNET
from openledger.genesis.storage import EIP1967_IMPLEMENTATION_SLOT
from openledger.node.cli.l1 import chosen_preset
from openledger.node.config import load_config
from openledger.node.daemon import network_of
from openledger.node.errors import StartupError, UserError
from openledger.node.l1_deployment import Deployment, DeploymentFailed, Terms, check_network, simulated_l1
from openledger.node.network import Network, join_network, read_network
from openledger.node.rollup_node import rollup_config_of
from openledger.node.rpc_client import RpcUnavailable
from openledger.node.wallet import Wallet
from openledger.rollup.blocks import header_id

TERMS = Terms(replace(DEVNET, l1_chain_id=31337, l1_contracts=None), OWNER.address)
STEPS = 24
OWN_KEY = b"\x07" * 32
OWN = Roles(owner=b"\x01" * 20, batcher=b"\x02" * 20, proposer=b"\x03" * 20, unsafe_block_signer=b"\x04" * 20)


class Unreliable:
    """Passes calls on; the n-th transaction is lost on the way there, or its answer on the way back."""

    def __init__(self, l1: Any) -> None:
        self.l1 = l1
        self.sent = 0
        self.fail_at = 0
        self.arrives = True

    async def call(self, method: str, *params: Any) -> Any:
        if method != "eth_sendRawTransaction":
            return await self.l1.call(method, *params)
        self.sent += 1
        if self.sent != self.fail_at:
            return await self.l1.call(method, *params)
        if self.arrives:
            await self.l1.call(method, *params)
        raise RpcUnavailable("the line is dead")


class HurriedClock:
    """Every wait is over at once."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += max(seconds, 1)


@asynccontextmanager
async def an_l1(terms: Terms = TERMS):
    async with simulated_l1(terms, nonce=0, timestamp=1_700_000_000, base_fee_wei=10**9) as l1:
        yield l1


def deployment(rpc: Any, terms: Terms = TERMS, **more: Any) -> Deployment:
    key = OWNER.private_key if terms.deployer == OWNER.address else OWN_KEY
    return Deployment(rpc, key, terms, poll_interval_s=0, clock=HurriedClock(), **more)


async def wrong(rpc: Any, network: Network) -> set[str]:
    return {check.name async for check in check_network(rpc, network) if not check.good}


async def test_what_transactions_built_is_what_a_genesis_would_hold() -> None:
    async with an_l1() as l1:
        taken: list[Any] = []
        network = await deployment(l1, on_step=taken.append, name="mine").run()
        assert len(taken) == STEPS
        proposer = PROPOSER.address.rjust(32, b"\0")
        held = CallRequest(to=network.preset.l1.open_token, data=keccak256(b"balanceOf(address)")[:4] + proposer)
        assert int.from_bytes(l1.chain.call(held, l1.chain.head().hash).output, "big") == 2_000 * OPEN_WEI
        assert await wrong(l1, network) == set()
        state = l1.chain.state(l1.chain.head().hash)
        locked = 10 * 1_000_000 * OPEN_WEI
        expected = l1_contracts(network.preset, network.timestamp_s, locked)
        system_config, token = network.preset.l1.system_config, network.preset.l1.open_token
        compared = 0
        for name, address in vars(network.preset.l1).items():
            account = expected[address]
            assert state.code(address) == account.code, name
            moved = {EIP1967_IMPLEMENTATION_SLOT}
            if address == network.preset.l1.portal:
                moved.add(1)  # ResourceMetering's price and block of the last deposit
            if address == system_config:
                moved.add(5)  # startBlock
            for slot, word in account.storage.items():
                if address == token and slot not in (2, 3, 4):
                    continue  # the development accounts' balances are the embedded L1's own
                if slot not in moved:
                    assert state.storage(address, slot) == word, (name, slot)
                    compared += 1
            if EIP1967_IMPLEMENTATION_SLOT in account.storage:
                behind = state.storage(address, EIP1967_IMPLEMENTATION_SLOT).to_bytes(20, "big")
                implementation = expected[implementation_address(address)]
                assert state.code(behind) == implementation.code
                for slot, word in implementation.storage.items():
                    if not (name == "portal" and slot == 1):
                        assert state.storage(behind, slot) == word, (name, slot)
        assert compared > 40
        # The rollup begins at a block that is there, and its genesis names the contracts of this L1.
        config = rollup_config_of(network)
        first = l1.chain.header_by_number(config.l1_genesis.number)
        assert (first.hash, first.timestamp) == (config.l1_genesis.hash, config.l2_genesis_time)
        assert config.deposit_contract == network.preset.l1.portal
        assert config.l1_chain_id == 31337
        assert Network.from_json(network.to_json()) == network


@pytest.mark.parametrize("arrives", [True, False], ids=["answer lost", "transaction lost"])
async def test_a_run_that_dies_at_any_transaction_is_gone_on_with(tmp_path, arrives: bool) -> None:
    file = tmp_path / "state"
    async with an_l1() as l1:
        line = Unreliable(l1)
        line.arrives = arrives
        for fail_at in (1, 5, 9, 16, 22):
            line.sent, line.fail_at = len(l1_transactions(l1)), fail_at
            with pytest.raises(RpcUnavailable):
                await deployment(line, state_file=file).run()
        line.fail_at = 0
        network = await deployment(line, state_file=file).run()
        assert await wrong(l1, network) == set()
        assert len(l1_transactions(l1)) == STEPS  # nothing was done twice
        before = l1.chain.head().hash
        assert await deployment(line, state_file=file).run() == network
        assert l1.chain.head().hash == before
        assert "genesis" in json.loads(file.read_text())


def l1_transactions(l1: Any) -> list[bytes]:
    head = l1.chain.head().number
    return [tx.hash for number in range(1, head + 1) for tx in l1.chain.block_by_number(number).transactions]


async def test_a_nonce_that_another_program_took_costs_nothing(tmp_path) -> None:
    async with an_l1() as l1:
        line = Unreliable(l1)
        line.fail_at, line.arrives = 8, False
        with pytest.raises(RpcUnavailable):
            await deployment(line, state_file=tmp_path / "state").run()
        other = sign_transaction(
            OWNER.private_key, chain_id=31337, nonce=7, gas=21_000, to=USERS[0].address, value=1, max_fee_per_gas=10**10
        )
        await l1.call("eth_sendRawTransaction", "0x" + other.raw.hex())
        network = await deployment(l1, state_file=tmp_path / "state").run()
        assert await wrong(l1, network) == set()
        assert len(l1_transactions(l1)) == STEPS + 1


async def test_an_l1_that_takes_blocks_back_meanwhile_gets_their_transactions_again(tmp_path) -> None:
    async with an_l1() as l1:
        line = Unreliable(l1)
        line.fail_at = 15
        with pytest.raises(RpcUnavailable):
            await deployment(line, state_file=tmp_path / "state").run()
        parent = l1.chain.header_by_number(l1.chain.head().number - 3)
        for _ in range(4):
            attributes = PayloadAttributes(parent.timestamp + 12, bytes(32), bytes(20), bytes(32))
            parent = l1.chain.build(parent.hash, attributes).header
        l1.chain.set_heads(safe=l1.chain.head("finalized").hash)
        l1.chain.set_heads(unsafe=parent.hash)
        assert len(l1_transactions(l1)) == 12
        network = await deployment(l1, state_file=tmp_path / "state").run()
        assert await wrong(l1, network) == set()
        assert len(l1_transactions(l1)) == STEPS


async def test_a_first_block_that_l1_took_back_is_not_built_on(tmp_path) -> None:
    async with an_l1() as l1:
        await deployment(l1, state_file=tmp_path / "state").run()
        parent = l1.chain.header_by_number(l1.chain.head().number - 3)
        for _ in range(4):
            attributes = PayloadAttributes(parent.timestamp + 13, bytes(32), bytes(20), bytes(32))
            parent = l1.chain.build(parent.hash, attributes).header
        l1.chain.set_heads(safe=l1.chain.head("finalized").hash)
        l1.chain.set_heads(unsafe=parent.hash)
        with pytest.raises(DeploymentFailed, match="not on L1 any more"):
            await deployment(l1, state_file=tmp_path / "state").run()


async def test_a_transaction_that_nobody_includes_is_offered_for_more_and_keeps_its_address() -> None:
    class Deaf(Unreliable):
        async def call(self, method: str, *params: Any) -> Any:
            if method == "eth_sendRawTransaction":
                self.sent += 1
                if self.sent == 2:
                    return "0x" + keccak256(bytes.fromhex(params[0][2:])).hex()
            return await self.l1.call(method, *params)

    async with an_l1() as l1:
        line = Deaf(l1)
        network = await deployment(line).run()
        assert line.sent == STEPS + 1
        assert await wrong(l1, network) == set()


async def test_a_public_network_opens_its_portal_after_the_first_block_and_belongs_to_its_owner() -> None:
    token = b"\x70" * 20
    preset = replace(TESTNET, l1_contracts=None).with_roles(OWN)
    with pytest.raises(UserError, match="whose key is public"):
        Terms(preset, OWNER.address, token)
    terms = Terms(preset, Wallet(OWN_KEY).address, token)
    async with an_l1(terms) as l1:
        taken: list[str] = []
        network = await deployment(l1, terms, on_step=lambda step: taken.append(step.step)).run()
        assert network.l1_genesis is not None
        assert taken[-3:] == ["initialise L2OutputOracle", "initialise OptimismPortal", "ProxyAdmin to the owner"]
        assert await wrong(l1, network) == set()
        portal = network.preset.l1.portal
        first = l1.chain.header_by_number(network.l1_genesis.number)
        closed = l1.chain.call(CallRequest(to=portal, data=keccak256(b"balance()")[:4]), first.hash)
        assert not closed.success
        with pytest.raises(UserError, match="key is of"):
            Deployment(l1, USERS[0].private_key, terms)


async def test_what_differs_is_named() -> None:
    async with an_l1() as l1:
        network = await deployment(l1).run()
        other = replace(network, preset=network.preset.with_roles(replace(network.preset.roles, proposer=b"\x09" * 20)))
        assert await wrong(l1, other) == {"L2OutputOracle.proposer"}
        assert await wrong(l1, replace(network, timestamp_s=5)) == {
            "first L1 block",
            "L2OutputOracle.startingTimestamp",
        }
        swapped = replace(network.preset.l1, standard_bridge=network.preset.l1.erc721_bridge)
        found = await wrong(l1, replace(network, preset=replace(network.preset, l1_contracts=swapped)))
        assert {"code of L1StandardBridge", "code of SystemConfig", "L1StandardBridge.otherBridge"} <= found


async def test_an_oracle_without_bonds_is_told_from_ours() -> None:
    async with an_l1() as l1:
        network = await deployment(l1).run()
        other = l1.chain.state(l1.chain.head().hash).storage(
            network.preset.l1.superchain_config, EIP1967_IMPLEMENTATION_SLOT
        )
        upgrade = keccak256(b"upgrade(address,address)")[:4] + network.preset.l1.output_oracle.rjust(32, b"\0")
        signed = sign_transaction(
            OWNER.private_key,
            chain_id=31337,
            nonce=STEPS,
            gas=100_000,
            to=network.preset.l1.proxy_admin,
            data=upgrade + other.to_bytes(32, "big"),
            max_fee_per_gas=10**10,
        )
        await l1.call("eth_sendRawTransaction", "0x" + signed.raw.hex())
        (check,) = [c async for c in check_network(l1, network) if c.name == "L2OutputOracle takes bonds"]
        assert not check.good
        assert "deployed before outputs had bonds" in check.detail


async def test_an_open_initialiser_is_noticed(tmp_path) -> None:
    async with an_l1() as l1:
        line = Unreliable(l1)
        line.fail_at = 16  # the proxies have no code behind them yet
        with pytest.raises(RpcUnavailable):
            await deployment(line, state_file=tmp_path / "state").run()
        half = deployment(line, state_file=tmp_path / "state")
        network = Network(TERMS.network_preset(half.addresses), 0, header_id(l1.chain.head()))
        found = await wrong(l1, network)
        assert "OptimismPortal is closed" in found
        assert "code of OptimismPortal" in found


async def test_a_state_file_of_other_terms_or_an_l1_of_another_chain_is_refused(tmp_path) -> None:
    file = tmp_path / "state"
    async with an_l1() as l1:
        line = Unreliable(l1)
        line.fail_at = 1
        with pytest.raises(RpcUnavailable):
            await deployment(line, state_file=file).run()
        changed = Terms(TERMS.preset.with_roles(OWN), OWNER.address)
        with pytest.raises(UserError, match="other roles"):
            deployment(l1, changed, state_file=file)
        elsewhere = Terms(replace(TERMS.preset, l1_chain_id=5), OWNER.address)
        with pytest.raises(DeploymentFailed, match="serves chain 31337"):
            await deployment(l1, elsewhere).run()
        file.write_text("{}")
        with pytest.raises(UserError, match="not a deployment's state"):
            deployment(l1, state_file=file)
    with pytest.raises(UserError, match="brings its own token"):
        Terms(TERMS.preset, OWNER.address, b"\x01" * 20)


async def test_dev_embeds_no_second_l1(tmp_path) -> None:
    async with an_l1() as l1:
        network = await deployment(l1).run()
    given = tmp_path / "given.json"
    given.write_text(network.to_json())
    with pytest.raises(StartupError, match="lives on L1 chain 31337"):
        network_of(load_config(role="dev", data_dir=tmp_path / "a", network_file=given))
    with pytest.raises(StartupError, match="has its own embedded L1"):
        network_of(load_config(role="dev", data_dir=tmp_path / "b", l1_rpc_url="http://127.0.0.1:1"))


async def test_a_network_file_says_which_chain_a_folder_belongs_to(tmp_path) -> None:
    async with an_l1() as l1:
        network = await deployment(l1, name="mine").run()
    given, own = tmp_path / "given.json", tmp_path / "own.json"
    given.write_text(network.to_json())
    assert join_network(own, given) == network
    assert read_network(own) == network
    given.write_text(Network(DEVNET, 1_700_000_000).to_json())
    with pytest.raises(StartupError, match="another chain"):
        join_network(own, given)
    assert read_network(given) == Network(DEVNET, 1_700_000_000)
    for broken, said in [
        (network.to_json().replace('"portal"', '"portall"'), "lacks 'portal'"),
        (network.to_json().replace(network.preset.l1.portal.hex(), "1234"), "has 2 bytes"),
        ("[]", "not a network file"),
    ]:
        given.write_text(broken)
        with pytest.raises(StartupError, match=said):
            read_network(given)


@pytest.mark.parametrize(
    ("name", "given", "l1_chain_id", "said"),
    [
        ("localnet", {}, 1, "no preset named"),
        ("testnet", {}, 1, "belongs on L1 chain 11155111"),
        ("testnet", {"owner": "0x" + "01" * 20}, 11_155_111, "give --batcher, --proposer, --unsafe-block-signer"),
        ("testnet", dict.fromkeys(vars(OWN), "0x" + OWNER.address.hex()), 11_155_111, "development account"),
        ("devnet", {"owner": "0x01"}, 31337, "--owner '0x01' is not an address"),
        ("devnet", {"owner": "0x" + "00" * 20}, 31337, "non-zero"),
    ],
)
def test_roles_that_cannot_be_are_refused_before_anything_is_sent(name, given, l1_chain_id, said) -> None:
    with pytest.raises(UserError, match=said):
        chosen_preset(name, dict.fromkeys(vars(OWN)) | given, l1_chain_id, None)


def test_a_development_chain_may_have_other_roles_and_another_chain_id() -> None:
    chosen = chosen_preset("devnet", {"owner": None, "batcher": "0x" + "02" * 20}, 31337, 777)
    assert (chosen.owner, chosen.batcher) == (OWNER.address, b"\x02" * 20)
    assert (chosen.l1_chain_id, chosen.l2_chain_id) == (31337, 777)
    assert chosen.batch_inbox.hex() == "ff" + f"{777:038d}"
