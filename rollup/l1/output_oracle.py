"""The output oracle on L1: which L2 output roots were proposed, and what is staked on them (OP-Stack, L2OutputOracle).

Ours takes bonds and challenges; one of the OP-Stack, deployed by an older version of this program, does not.
"""

from dataclasses import dataclass
from typing import Any

from eth_abi import encode
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from openledger.genesis.hashing import keccak256
from openledger.rollup.l1.source import L1DataInvalid, L1Submitter

WITH_BONDS = "-openledger"
"""How the version of an oracle with bonds ends."""
NOTHING_FROZEN = 2**256 - 1


@dataclass(frozen=True)
class ProposedOutput:
    """An output root as it stands on L1; `timestamp` is when L1 took it, in seconds (of a frozen one: now)."""

    index: int
    root: bytes
    timestamp: int
    l2_block_number: int


@dataclass(frozen=True)
class BondTerms:
    """What an output and a challenge cost, in wei of the ERC-20 `token`; times are in seconds."""

    token: bytes
    proposer_bond: int
    challenger_bond: int
    finalization_period_s: int
    decision_period_s: int
    decider: bytes
    """The oracle's `challenger` role."""
    outputs_at_once: int
    """How many outputs are open at the same time when each is proposed as soon as it may be."""


@dataclass(frozen=True)
class Challenge:
    """An open challenge; `opened_at` in seconds."""

    challenger: bytes
    bond: int
    opened_at: int


class OutputOracle:
    """Reads the oracle, and encodes what is sent to it. Methods raise what L1 raises."""

    def __init__(self, l1: L1Submitter, address: bytes) -> None:
        self.address = address
        self._l1 = l1
        self._terms: BondTerms | None = None

    async def next_block_number(self) -> int:
        """The L2 block whose output is to be proposed next."""
        return await self._number("nextBlockNumber()")

    async def next_index(self) -> int:
        """How many outputs stand on L1."""
        return await self._number("nextOutputIndex()")

    async def output(self, index: int) -> ProposedOutput:
        """The output with that index, which must stand on L1."""
        answer = await self._l1.call(self.address, _call("getL2Output(uint256)", index))
        root, timestamp, number = self._decoded(["bytes32", "uint128", "uint128"], answer)
        return ProposedOutput(index, root, timestamp, number)

    # --- bonds and challenges; only where `terms` are not None ---

    async def terms(self) -> BondTerms | None:
        """What bonds are asked for; None by an oracle without bonds. Asked anew until there are some."""
        if self._terms is None:
            (version,) = self._decoded(["string"], await self._l1.call(self.address, _call("version()")))
            if version.endswith(WITH_BONDS):
                period_s = await self._number("finalizationPeriodSeconds()")
                interval_s = await self._number("submissionInterval()") * await self._number("l2BlockTime()")
                self._terms = BondTerms(
                    token=await self._address("bondToken()"),
                    proposer_bond=await self._number("proposerBond()"),
                    challenger_bond=await self._number("challengerBond()"),
                    finalization_period_s=period_s,
                    decision_period_s=await self._number("decisionPeriodSeconds()"),
                    decider=await self._address("challenger()"),
                    outputs_at_once=-(-period_s // interval_s) + 1,
                )
        return self._terms

    async def bond_of(self, account: bytes) -> tuple[int, int]:
        """Wei of an account's bond that it could withdraw, and that stand behind outputs and challenges."""
        answer = await self._l1.call(self.address, _call("bondOf(address)", int.from_bytes(account, "big")))
        free, locked = self._decoded(["uint256", "uint256"], answer)
        return free, locked

    async def frozen_from(self) -> int | None:
        """The lowest challenged index, which with all after it is not final however old; None while none is."""
        index = await self._number("frozenFrom()")
        return None if index == NOTHING_FROZEN else index

    async def challenge_of(self, index: int) -> Challenge | None:
        """The open challenge of an output."""
        answer = await self._l1.call(self.address, _call("challengeOf(uint256)", index))
        challenger, bond, opened_at = self._decoded(["address", "uint96", "uint64"], answer)
        account = bytes.fromhex(challenger[2:])
        return Challenge(account, bond, opened_at) if any(account) else None

    @staticmethod
    def propose(root: bytes, l2_block_number: int, l1_block_hash: bytes, l1_block_number: int) -> bytes:
        """Calldata that proposes an output, valid only while that L1 block is canonical."""
        selector = keccak256(b"proposeL2Output(bytes32,uint256,bytes32,uint256)")[:4]
        types = ["bytes32", "uint256", "bytes32", "uint256"]
        arguments: bytes = encode(types, [root, l2_block_number, l1_block_hash, l1_block_number])
        return selector + arguments

    @staticmethod
    def delete_from(index: int) -> bytes:
        """Calldata with which the decider deletes this output and all after it, none of them challenged."""
        return _call("deleteL2Outputs(uint256)", index)

    @staticmethod
    def challenge(index: int, root: bytes) -> bytes:
        """Calldata that challenges an output, valid only while that root stands at the index."""
        return _call("challengeL2Output(uint256,bytes32)", index, int.from_bytes(root, "big"))

    @staticmethod
    def decide(index: int, root: bytes, *, right: bool) -> bytes:
        """Calldata with which the decider ends a challenge of that root."""
        return _call("decideChallenge(uint256,bytes32,bool)", index, int.from_bytes(root, "big"), int(right))

    @staticmethod
    def expire(index: int) -> bytes:
        """Calldata that ends a challenge which was not decided in time."""
        return _call("expireChallenge(uint256)", index)

    async def _number(self, signature: str) -> int:
        return int(self._decoded(["uint256"], await self._l1.call(self.address, _call(signature)))[0])

    async def _address(self, signature: str) -> bytes:
        found: str = self._decoded(["address"], await self._l1.call(self.address, _call(signature)))[0]
        return bytes.fromhex(found[2:])

    def _decoded(self, kinds: list[str], answer: bytes) -> tuple[Any, ...]:
        try:
            return tuple(decode(kinds, answer))
        except DecodingError as error:
            raise L1DataInvalid(f"the output oracle 0x{self.address.hex()} answered 0x{answer[:64].hex()}") from error


def _call(signature: str, *arguments: int) -> bytes:
    return keccak256(signature.encode())[:4] + b"".join(argument.to_bytes(32, "big") for argument in arguments)
