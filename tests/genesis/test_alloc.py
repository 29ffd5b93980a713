"""What stands in block 0, checked by replaying constructors and initialisers on an EVM that is not ours."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest

from openledger.genesis import dev_accounts, predeploys
from openledger.genesis.artifact import ARTIFACTS_FOLDER, artifact
from openledger.genesis.parameters import TOTAL_SUPPLY_WEI
from openledger.genesis.predeploys import implementation_address
from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis
from openledger.genesis.storage import EIP1967_ADMIN_SLOT, EIP1967_IMPLEMENTATION_SLOT, mapping_slot, named_slot

TIMESTAMP = 1_700_000_000
L2, L1 = l2_genesis(DEVNET, TIMESTAMP), l1_genesis(DEVNET, TIMESTAMP)
NOT_IN_THE_ALLOC = {
    # no code: a caller, and precompiles
    *("DEPOSITOR_ACCOUNT", "SYSTEM_ADDRESS", "CREDIT", "SPANS", "SCORES", "STEP", "BN254_KZG", "P256VERIFY"),
    *(name for name, value in vars(predeploys).items() if isinstance(value, bytes) and value[:18] == bytes(18)),
}
ON_L1_ONLY = {"WITHDRAWAL_REQUESTS", "CONSOLIDATION_REQUESTS"}
ECONOMY = {"DATANET_REGISTRY", "MODEL_REGISTRY", "INFERENCE_LEDGER", "REWARDS_DISTRIBUTOR", "STAKE_MANAGER"}
ADDRESSES = {name: value for name, value in vars(predeploys).items() if name.isupper() and not name.startswith("_")}
# Variables that live outside of solc's layout.
NAMED_SLOTS = [
    EIP1967_IMPLEMENTATION_SLOT,
    EIP1967_ADMIN_SLOT,
    *map(named_slot, ("opstack.gaspayingtoken", "opstack.gaspayingtokenname", "opstack.gaspayingtokensymbol")),
    *map(named_slot, ("superchainConfig.guardian", "superchainConfig.paused")),
    # as OpenZeppelin's sources have them
    0xF0C57E16840DF040F15088DC2F81FE391C3923BEC73E23A9662EFC9C229C6A00,
    0x9B779B17422D0DF92223018B32B4D1FA46E071723D6817E2486D003BECC55F00,
]


@dataclass(frozen=True)
class Contract:
    """How a contract would have come to stand where the alloc puts it."""

    name: str
    address: bytes
    genesis: Any
    constructor: tuple[str, list[Any]] = ("()", [])
    initialise: tuple[str, list[Any]] | None = None
    extra: tuple[int, ...] = field(default=())
    """Slots of mappings to look at besides."""


def on_l2(name, address, **how):
    return Contract(name, address, L2, **how)


def on_l1(name, address, **how):
    return Contract(name, address, L1, **how)


VAULT = ("(address,uint256,uint8)", [DEVNET.owner, 10**15, 1])
PROXIED = [
    on_l2("WETH", predeploys.WETH),
    on_l2(
        "L2CrossDomainMessenger",
        predeploys.L2_CROSS_DOMAIN_MESSENGER,
        initialise=("initialize(address)", [predeploys.L1_CROSS_DOMAIN_MESSENGER]),
    ),
    on_l2("GasPriceOracle", predeploys.GAS_PRICE_ORACLE),
    on_l2(
        "L2StandardBridge",
        predeploys.L2_STANDARD_BRIDGE,
        initialise=("initialize(address)", [predeploys.L1_STANDARD_BRIDGE]),
    ),
    on_l2(
        "OptimismMintableERC20Factory",
        predeploys.OPTIMISM_MINTABLE_ERC20_FACTORY,
        initialise=("initialize(address)", [predeploys.L2_STANDARD_BRIDGE]),
    ),
    on_l2(
        "OptimismMintableERC721Factory",
        predeploys.OPTIMISM_MINTABLE_ERC721_FACTORY,
        constructor=("(address,uint256)", [predeploys.L2_ERC721_BRIDGE, DEVNET.l1_chain_id]),
    ),
    on_l2(
        "L2ERC721Bridge",
        predeploys.L2_ERC721_BRIDGE,
        initialise=("initialize(address)", [predeploys.L1_ERC721_BRIDGE]),
    ),
    on_l2("L2ToL1MessagePasser", predeploys.L2_TO_L1_MESSAGE_PASSER),
    on_l2("SequencerFeeVault", predeploys.SEQUENCER_FEE_VAULT, constructor=VAULT),
    on_l2("BaseFeeVault", predeploys.BASE_FEE_VAULT, constructor=VAULT),
    on_l2("L1FeeVault", predeploys.L1_FEE_VAULT, constructor=VAULT),
    on_l2("OperatorFeeVault", predeploys.OPERATOR_FEE_VAULT, constructor=VAULT),
    on_l1(
        "OptimismPortal",
        predeploys.L1_PORTAL,
        initialise=(
            "initialize(address,address,address)",
            [predeploys.L1_OUTPUT_ORACLE, predeploys.L1_SYSTEM_CONFIG, predeploys.L1_SUPERCHAIN_CONFIG],
        ),
    ),
    on_l1(
        "L2OutputOracle",
        predeploys.L1_OUTPUT_ORACLE,
        initialise=(
            "initialize(uint256,uint256,uint256,uint256,address,address,uint256,(address,uint96,uint96,uint64))",
            [
                *(30, 2, 0, TIMESTAMP, DEVNET.proposer, DEVNET.owner, 60),
                (predeploys.L1_OPEN_TOKEN, 1_000 * 10**18, 500 * 10**18, 60),
            ],
        ),
    ),
    on_l1(
        "SuperchainConfig",
        predeploys.L1_SUPERCHAIN_CONFIG,
        initialise=("initialize(address,bool)", [DEVNET.owner, False]),
    ),
    on_l1(
        "L1CrossDomainMessenger",
        predeploys.L1_CROSS_DOMAIN_MESSENGER,
        initialise=(
            "initialize(address,address,address)",
            [predeploys.L1_SUPERCHAIN_CONFIG, predeploys.L1_PORTAL, predeploys.L1_SYSTEM_CONFIG],
        ),
    ),
    on_l1(
        "L1StandardBridge",
        predeploys.L1_STANDARD_BRIDGE,
        initialise=(
            "initialize(address,address,address)",
            [predeploys.L1_CROSS_DOMAIN_MESSENGER, predeploys.L1_SUPERCHAIN_CONFIG, predeploys.L1_SYSTEM_CONFIG],
        ),
    ),
    on_l1(
        "L1ERC721Bridge",
        predeploys.L1_ERC721_BRIDGE,
        initialise=(
            "initialize(address,address)",
            [predeploys.L1_CROSS_DOMAIN_MESSENGER, predeploys.L1_SUPERCHAIN_CONFIG],
        ),
    ),
]
DIRECT = [
    on_l1(
        "ProxyAdmin",
        predeploys.L1_PROXY_ADMIN,
        constructor=("(address)", [DEVNET.owner]),
    ),
    on_l1(
        "SystemConfig",
        predeploys.L1_SYSTEM_CONFIG,
        constructor=(
            "(address,bytes32,address,uint64,uint32,uint32,uint32,uint32,uint32,uint64,"
            "(address,address,address,address,address,address))",
            [
                DEVNET.owner,
                DEVNET.batcher.rjust(32, b"\0"),
                DEVNET.unsafe_block_signer,
                60_000_000,
                1_368,
                810_949,
                250,
                6,
                DEVNET.operator_fee_scalar,
                DEVNET.operator_fee_constant,
                (
                    predeploys.L1_OPEN_TOKEN,
                    predeploys.L1_PORTAL,
                    predeploys.L1_CROSS_DOMAIN_MESSENGER,
                    predeploys.L1_STANDARD_BRIDGE,
                    predeploys.L1_ERC721_BRIDGE,
                    DEVNET.batch_inbox,
                ),
            ],
        ),
    ),
]


def state_of(evm, address, extra=()):
    slots = chain(range(300), NAMED_SLOTS, extra)
    return {slot: value for slot in slots if (value := evm.storage(address, slot))}


def test_every_named_address_has_code_where_it_belongs():
    for name, address in ADDRESSES.items():
        on_l1_side = name.startswith("L1_") and name not in ("L1_BLOCK", "L1_FEE_VAULT")
        if name in NOT_IN_THE_ALLOC:
            assert address not in L2.alloc, name
            assert address not in L1.alloc, name
        elif on_l1_side or name in ON_L1_ONLY:
            assert L1.alloc[address].code, name
        else:
            assert L2.alloc[address].code, name


def test_no_two_names_share_an_address():
    assert len(set(ADDRESSES.values())) == len(ADDRESSES)


@pytest.mark.parametrize("genesis", [L1, L2], ids=["L1", "L2"])
def test_every_proxy_leads_to_code_and_belongs_to_the_admin(genesis):
    admin = predeploys.L1_PROXY_ADMIN if genesis is L1 else predeploys.PROXY_ADMIN
    proxies = [
        address for address, account in genesis.alloc.items() if account.code == artifact("Proxy").deployed_bytecode
    ]
    assert len(proxies) >= 6
    for address in proxies:
        storage = genesis.alloc[address].storage
        implementation = storage[EIP1967_IMPLEMENTATION_SLOT].to_bytes(20, "big")
        assert implementation == implementation_address(address)
        assert genesis.alloc[implementation].code
        assert storage[EIP1967_ADMIN_SLOT].to_bytes(20, "big") == admin


def test_every_contract_is_replayed_below():
    """So that a new predeploy cannot be left out of the checks that follow."""
    replayed = {contract.address for contract in PROXIED}
    for genesis in (L1, L2):
        for address, account in genesis.alloc.items():
            if address in (ADDRESSES[name] for name in ECONOMY):
                continue  # tests/genesis/test_economy_alloc.py
            if account.code == artifact("Proxy").deployed_bytecode and address not in replayed:
                # L1Block's only state is the gas token's; ProxyAdmin's is its owner. Each has a test of its own.
                assert address in (predeploys.L1_BLOCK, predeploys.PROXY_ADMIN), address.hex()


@pytest.mark.parametrize("contract", PROXIED, ids=lambda c: c.name)
def test_an_implementation_is_as_its_constructor_leaves_it(contract, machine):
    evm = machine(contract.genesis.chain_id)
    deployed = evm.deploy(artifact(contract.name).bytecode, contract.constructor[0], *contract.constructor[1])
    account = contract.genesis.alloc[implementation_address(contract.address)]
    assert account.code.rstrip(b"\0") == evm.code(deployed)
    wanted = state_of(evm, deployed)
    if contract.name == "OptimismPortal":  # deployed in block 1 here, in block 0 there
        wanted[1] &= (1 << 192) - 1
    assert dict(account.storage) == wanted


@pytest.mark.parametrize("contract", [c for c in PROXIED if c.initialise], ids=lambda c: c.name)
def test_a_proxy_is_as_its_initialiser_would_have_left_it(contract, machine):
    alloc = dict(contract.genesis.alloc)
    account = alloc[contract.address]
    links = {slot: account.storage[slot] for slot in (EIP1967_IMPLEMENTATION_SLOT, EIP1967_ADMIN_SLOT)}
    alloc[contract.address] = type(account)(nonce=1, code=account.code, storage=links)
    evm = machine(contract.genesis.chain_id, alloc)
    evm.call(contract.address, contract.initialise[0], *contract.initialise[1])
    wanted = state_of(evm, contract.address)
    if contract.name == "OptimismPortal":
        wanted[1] &= (1 << 192) - 1  # initialised in block 1 here, in block 0 there
        wanted[artifact("OptimismPortal").slot("_balance")] = sum(a.balance for a in L2.alloc.values())
    assert dict(account.storage) == wanted


@pytest.mark.parametrize("contract", DIRECT, ids=lambda c: c.name)
def test_a_contract_without_proxy_is_as_its_constructor_leaves_it(contract, machine):
    evm = machine(contract.genesis.chain_id)
    deployed = evm.deploy(artifact(contract.name).bytecode, contract.constructor[0], *contract.constructor[1])
    account = contract.genesis.alloc[contract.address]
    wanted = state_of(evm, deployed)
    if contract.name == "SystemConfig":
        assert wanted.pop(artifact("SystemConfig").slot("startBlock")) == 1
    assert account.code.rstrip(b"\0") == evm.code(deployed)
    assert dict(account.storage) == wanted


def initialisers():
    """Every function of any artifact whose name says that it initialises."""
    for path in sorted(ARTIFACTS_FOLDER.glob("*.json")):
        for entry in artifact(path.stem).abi:
            if entry["type"] == "function" and "initiali" in entry["name"].lower():
                if entry["stateMutability"] in ("view", "pure"):
                    continue
                yield entry["name"], [_type(i) for i in entry["inputs"]]


def _type(parameter):
    if not parameter["type"].startswith("tuple"):
        return parameter["type"]
    inside = ",".join(map(_type, parameter["components"]))
    return f"({inside}){parameter['type'][5:]}"


def _some(kind):
    if kind.startswith("("):
        return tuple(map(_some, kind[1:-1].split(",")))
    return {"address": b"\x66" * 20, "bool": False, "bytes": b"", "string": ""}.get(kind, 1)


@pytest.mark.parametrize("genesis", [L1, L2], ids=["L1", "L2"])
def test_nothing_in_the_alloc_can_be_initialised_again(genesis, machine, reverted):
    calls = {(name, tuple(types)) for name, types in initialisers()}
    assert len(calls) >= 5
    evm = machine(genesis.chain_id, genesis.alloc)
    for address, account in genesis.alloc.items():
        if not account.code:
            continue
        before = state_of(evm, address)
        for name, types in sorted(calls):
            try:
                evm.call(address, f"{name}({','.join(types)})", *map(_some, types))
            except reverted:
                continue
            # A contract without this function may accept any call (WETH's fallback); it must not change.
            assert state_of(evm, address) == before, (address.hex(), name)


@pytest.mark.parametrize("genesis", [L1, L2], ids=["L1", "L2"])
def test_only_the_admin_can_upgrade_a_proxy(genesis, machine, reverted):
    admin = predeploys.L1_PROXY_ADMIN if genesis is L1 else predeploys.PROXY_ADMIN
    evm = machine(genesis.chain_id, genesis.alloc)
    new = predeploys.MULTICALL3
    for address, account in genesis.alloc.items():
        if account.code != artifact("Proxy").deployed_bytecode:
            continue
        with pytest.raises(reverted):
            evm.call(admin, "upgrade(address,address)", address, new)
        try:
            evm.call(address, "upgradeTo(address)", new)
        except reverted:
            pass
        assert evm.storage(address, EIP1967_IMPLEMENTATION_SLOT) == account.storage[EIP1967_IMPLEMENTATION_SLOT]
        if address == admin:
            continue
        evm.call(admin, "upgrade(address,address)", address, new, caller=DEVNET.owner)
        assert evm.storage(address, EIP1967_IMPLEMENTATION_SLOT) == int.from_bytes(new, "big")


def test_all_open_of_the_l2_is_locked_in_the_portal(machine):
    evm = machine(L1.chain_id, L1.alloc)
    locked = evm.call(predeploys.L1_OPEN_TOKEN, "balanceOf(address)", predeploys.L1_PORTAL, returns="(uint256)")
    assert locked == sum(account.balance for account in L2.alloc.values()) > 0
    assert evm.call(predeploys.L1_PORTAL, "balance()", returns="(uint256)") == locked


def test_the_supply_is_one_billion_and_all_of_it_is_held():
    token = L1.alloc[predeploys.L1_OPEN_TOKEN].storage
    held = artifact("OpenToken").slot("_balances")
    holders = {predeploys.L1_PORTAL, *(account.address for account in dev_accounts.DEV_ACCOUNTS)}
    assert token[artifact("OpenToken").slot("_totalSupply")] == TOTAL_SUPPLY_WEI == 10**27
    assert sum(token[mapping_slot(held, holder)] for holder in holders) == TOTAL_SUPPLY_WEI


@pytest.mark.parametrize("genesis", [L1, L2], ids=["L1", "L2"])
def test_development_accounts_are_rich_and_no_stored_word_is_zero(genesis):
    for account in dev_accounts.DEV_ACCOUNTS:
        assert genesis.alloc[account.address].balance >= 10**23
    assert all(all(account.storage.values()) for account in genesis.alloc.values())


def test_code_behind_the_l2s_addresses_fits_the_code_size_limit():
    assert all(len(account.code) <= 24_576 for account in (*L1.alloc.values(), *L2.alloc.values()))


SPEAKERS = [
    pytest.param(genesis, address, id=name)
    for genesis, address, name in (
        (L1, predeploys.L1_OPEN_TOKEN, "OpenToken"),
        (L2, predeploys.DATANET_REGISTRY, "DatanetRegistry"),
        (L2, predeploys.INFERENCE_LEDGER, "InferenceLedger"),
    )
    if address in genesis.alloc
]


@pytest.mark.parametrize(("genesis", "address"), SPEAKERS)
def test_a_contract_names_its_own_typed_data_domain(genesis, address, machine):
    """EIP-5267: what wallets ask before they show what is to be signed."""
    evm = machine(genesis.chain_id, genesis.alloc)
    answer = evm.call(address, "eip712Domain()", returns="(bytes1,string,string,uint256,address,bytes32,uint256[])")
    assert answer == (b"\x0f", "Openledger", "1", genesis.chain_id, "0x" + address.hex(), bytes(32), ())
