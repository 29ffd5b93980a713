"""Whether what stands on L1 is what a network's description says: code, links, roles, locked OPEN, closed initialisers.

Everything is asked of L1 anew, from the description alone; whoever joins a network can hold it against L1 too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from eth_abi.exceptions import DecodingError

from openledger.genesis.alloc import l2_genesis, l2_supply_wei
from openledger.genesis.artifact import artifact
from openledger.genesis.eip712 import domain_immutables
from openledger.genesis.hashing import keccak256
from openledger.genesis.op_predeploys import GAS_TOKEN_DECIMALS, GAS_TOKEN_NAME
from openledger.genesis.predeploys import L2_CROSS_DOMAIN_MESSENGER, L2_ERC721_BRIDGE, L2_STANDARD_BRIDGE
from openledger.genesis.preset import Preset
from openledger.genesis.storage import EIP1967_ADMIN_SLOT, EIP1967_IMPLEMENTATION_SLOT
from openledger.node.contracts import Contract
from openledger.node.l1_deployment.deployment import Rpc
from openledger.node.l1_deployment.plan import PROXIED, initialiser
from openledger.node.network import Network
from openledger.node.rpc_client import RpcError
from openledger.rollup.l1.output_oracle import WITH_BONDS

STRANGER = b"\x5a" * 20
"""Whom initialisers must refuse; nobody's account."""

_NOBODY = bytes(20)
_ADDRESS_ARGUMENTS = {"superchain_config": (STRANGER, False), "erc721_bridge": (STRANGER, STRANGER)}
_ORACLE_ARGUMENTS = (1, 1, 0, 0, STRANGER, STRANGER, 1, (STRANGER, 1, 1, 1))
_CLOSED = (b"already initialized", keccak256(b"InvalidInitialization()")[:4])
"""What initialisers that are closed say: the OP-Stack's contracts, and ours."""


@dataclass(frozen=True)
class Check:
    """One question with its answer; `detail` says what was found where it is not what it should be."""

    name: str
    good: bool
    detail: str = ""


async def check_network(rpc: Rpc, network: Network) -> AsyncIterator[Check]:
    """Every check of a network with contracts on an L1 of its own choice, in order. Raises RpcUnavailable."""
    asked = _Asked(rpc, network)
    for found in (
        asked.first_block(),
        asked.code(),
        asked.proxies(),
        asked.values(),
        asked.lock(),
        asked.initialisers(),
    ):
        async for check in found:
            yield check


class _Asked:
    def __init__(self, rpc: Rpc, network: Network) -> None:
        assert network.l1_genesis is not None, "an embedded L1 begins with its contracts"
        self._rpc = rpc
        self._preset: Preset = network.preset
        self._timestamp = network.timestamp_s
        self._genesis = network.l1_genesis

    async def first_block(self) -> AsyncIterator[Check]:
        chain_id = int(await self._rpc.call("eth_chainId"), 16)
        yield _equal("L1 chain id", chain_id, self._preset.l1_chain_id)
        block = await self._rpc.call("eth_getBlockByNumber", hex(self._genesis.number), False)
        found = None if block is None else (block["hash"], int(block["timestamp"], 16))
        yield _equal("first L1 block", found, ("0x" + self._genesis.hash.hex(), self._timestamp))

    async def code(self) -> AsyncIterator[Check]:
        l1 = self._preset.l1
        if self._preset.development:
            domain = domain_immutables(GAS_TOKEN_NAME, "1", self._preset.l1_chain_id, l1.open_token)
            yield await self._has_code("OpenToken", l1.open_token, artifact("OpenToken").with_immutables(**domain))
        config = artifact("SystemConfig").with_immutables(
            GAS_PAYING_TOKEN=l1.open_token,
            optimismPortal=l1.portal,
            l1CrossDomainMessenger=l1.cross_domain_messenger,
            l1StandardBridge=l1.standard_bridge,
            l1ERC721Bridge=l1.erc721_bridge,
            batchInbox=self._preset.batch_inbox,
        )
        yield await self._has_code("SystemConfig", l1.system_config, config)
        yield await self._has_code("ProxyAdmin", l1.proxy_admin, artifact("ProxyAdmin").deployed_bytecode)

    async def proxies(self) -> AsyncIterator[Check]:
        for field, name in PROXIED.items():
            address: bytes = getattr(self._preset.l1, field)
            yield await self._has_code(f"proxy of {name}", address, artifact("Proxy").deployed_bytecode)
            admin = await self._slot(address, EIP1967_ADMIN_SLOT)
            yield _equal(f"admin of {name}", _hex(admin), _hex(self._preset.l1.proxy_admin))
            implementation = await self._slot(address, EIP1967_IMPLEMENTATION_SLOT)
            yield await self._has_code(name, implementation, artifact(name).deployed_bytecode)

    async def values(self) -> AsyncIterator[Check]:
        preset, l1 = self._preset, self._preset.l1
        expected: dict[str, tuple[bytes, dict[str, Any]]] = {
            "ProxyAdmin": (l1.proxy_admin, {"owner": preset.owner}),
            "OpenToken": (l1.open_token, {"decimals": GAS_TOKEN_DECIMALS}),
            "SystemConfig": (
                l1.system_config,
                {
                    "owner": preset.owner,
                    "pendingOwner": _NOBODY,
                    "batcherHash": preset.batcher.rjust(32, b"\0"),
                    "unsafeBlockSigner": preset.unsafe_block_signer,
                    "gasLimit": preset.gas_limit,
                    "basefeeScalar": preset.base_fee_scalar,
                    "blobbasefeeScalar": preset.blob_base_fee_scalar,
                    "eip1559Denominator": preset.eip1559_denominator,
                    "eip1559Elasticity": preset.eip1559_elasticity,
                    "operatorFeeScalar": preset.operator_fee_scalar,
                    "operatorFeeConstant": preset.operator_fee_constant,
                },
            ),
            "SuperchainConfig": (l1.superchain_config, {"guardian": preset.owner, "paused": False}),
            "OptimismPortal": (
                l1.portal,
                {
                    "l2Oracle": l1.output_oracle,
                    "systemConfig": l1.system_config,
                    "superchainConfig": l1.superchain_config,
                },
            ),
            "L2OutputOracle": (
                l1.output_oracle,
                {
                    "submissionInterval": preset.output_interval_blocks,
                    "l2BlockTime": preset.l2_block_time_s,
                    "startingBlockNumber": 0,
                    "startingTimestamp": self._timestamp,
                    "proposer": preset.proposer,
                    "challenger": preset.owner,
                    "finalizationPeriodSeconds": preset.finalization_period_s,
                    "bondToken": l1.open_token,
                    "proposerBond": preset.proposer_bond_wei,
                    "challengerBond": preset.challenger_bond_wei,
                    "decisionPeriodSeconds": preset.decision_period_s,
                },
            ),
            "L1CrossDomainMessenger": (
                l1.cross_domain_messenger,
                {
                    "portal": l1.portal,
                    "otherMessenger": L2_CROSS_DOMAIN_MESSENGER,
                    "superchainConfig": l1.superchain_config,
                    "systemConfig": l1.system_config,
                },
            ),
            "L1StandardBridge": (
                l1.standard_bridge,
                {
                    "messenger": l1.cross_domain_messenger,
                    "otherBridge": L2_STANDARD_BRIDGE,
                    "superchainConfig": l1.superchain_config,
                    "systemConfig": l1.system_config,
                },
            ),
            "L1ERC721Bridge": (
                l1.erc721_bridge,
                {
                    "messenger": l1.cross_domain_messenger,
                    "otherBridge": L2_ERC721_BRIDGE,
                    "superchainConfig": l1.superchain_config,
                },
            ),
        }
        version = await self._ask(Contract(l1.output_oracle, artifact("L2OutputOracle").abi), "version")
        with_bonds = str(version).endswith(WITH_BONDS)
        told = (
            f"its version is {version}: it is the OP-Stack's, as deployed before outputs had bonds; a node goes on with it, "
            "and the owner can upgrade it through ProxyAdmin"
        )
        yield Check("L2OutputOracle takes bonds", with_bonds, "" if with_bonds else told)
        for name, (address, getters) in expected.items():
            contract = Contract(address, artifact(name).abi)
            for getter, value in getters.items():
                found = await self._ask(contract, getter)
                shown = "0x" + value.hex() if isinstance(value, bytes) else value
                yield _equal(f"{name}.{getter}", "0x" + found.hex() if isinstance(found, bytes) else found, shown)

    async def lock(self) -> AsyncIterator[Check]:
        """What was locked when the rollup began is what its block 0 holds, and the tokens for it are there."""
        supply, l1, at = (
            l2_supply_wei(l2_genesis(self._preset, self._timestamp)),
            self._preset.l1,
            hex(self._genesis.number),
        )
        token, portal = (
            Contract(l1.open_token, artifact("OpenToken").abi),
            Contract(l1.portal, artifact("OptimismPortal").abi),
        )
        if self._preset.development:
            held = await self._ask(token, "balanceOf", l1.portal, at=at)
            yield _equal("OPEN in the portal at the first L1 block", held, supply)
            yield _equal("OPEN that the portal counts there", await self._ask(portal, "balance", at=at), supply)
        held, counted = await self._ask(token, "balanceOf", l1.portal), await self._ask(portal, "balance")
        backed = isinstance(held, int) and isinstance(counted, int) and held >= counted
        yield Check("OPEN in the portal covers what it counts", backed, f"{held} held, {counted} counted")

    async def initialisers(self) -> AsyncIterator[Check]:
        for field, name in PROXIED.items():
            arguments = (
                _ORACLE_ARGUMENTS
                if field == "output_oracle"
                else _ADDRESS_ARGUMENTS.get(field, (STRANGER, STRANGER, STRANGER))
            )
            proxy: bytes = getattr(self._preset.l1, field)
            implementation = await self._slot(proxy, EIP1967_IMPLEMENTATION_SLOT)
            for which, address in ((f"{name} is closed", proxy), (f"code of {name} is closed", implementation)):
                yield await self._refuses(which, address, initialiser(field, arguments))

    async def _refuses(self, name: str, address: bytes, data: bytes) -> Check:
        call = {"from": _hex(STRANGER), "to": _hex(address), "data": _hex(data)}
        try:
            await self._rpc.call("eth_call", call, "latest")
        except RpcError as error:
            closed = any(words in error.revert_data or words in str(error).encode() for words in _CLOSED)
            return Check(name, closed, "" if closed else f"refused for another reason: {error}")
        return Check(name, False, f"anybody can initialise {_hex(address)}")

    async def _has_code(self, name: str, address: bytes, expected: bytes) -> Check:
        code = bytes.fromhex((await self._rpc.call("eth_getCode", _hex(address), "latest"))[2:])
        detail = "" if code == expected else f"{len(code)} bytes of other code at {_hex(address)}"
        return Check(f"code of {name}", code == expected, detail)

    async def _slot(self, address: bytes, slot: int) -> bytes:
        word = await self._rpc.call("eth_getStorageAt", _hex(address), hex(slot), "latest")
        return bytes.fromhex(word[2:].rjust(64, "0"))[12:]

    async def _ask(self, contract: Contract, function: str, *arguments: Any, at: str = "latest") -> Any:
        """What a getter answers; the error's words where it answers nothing, which equals no expectation."""
        call = {"to": _hex(contract.address), "data": _hex(contract.encode(function, *arguments))}
        try:
            answer = await self._rpc.call("eth_call", call, at)
            return contract.decode(function, bytes.fromhex(answer[2:]))[0]
        except (RpcError, DecodingError) as error:
            return f"no answer: {error}"


def _equal(name: str, found: Any, expected: Any) -> Check:
    return Check(name, found == expected, "" if found == expected else f"{found}, not {expected}")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
