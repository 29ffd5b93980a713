"""Withdrawals: what L2's message passer records, and how L1 names it (OP-Stack withdrawals.md).

MessagePassed(uint256 indexed nonce, address indexed sender, address indexed target,
              uint256 value, uint256 gasLimit, bytes data, bytes32 withdrawalHash)
"""

from collections.abc import Iterable
from dataclasses import dataclass

from eth_abi import encode
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from openledger.evm_ext.receipts import Log
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L2_TO_L1_MESSAGE_PASSER

MESSAGE_PASSED_TOPIC = keccak256(b"MessagePassed(uint256,address,address,uint256,uint256,bytes,bytes32)")


class InvalidWithdrawal(ValueError):
    """A log that is not a withdrawal of the message passer."""


@dataclass(frozen=True)
class Withdrawal:
    """One message from L2 to L1. `nonce` carries its version in the two highest bytes; `value` is wei of OPEN."""

    nonce: int
    sender: bytes
    target: bytes
    value: int
    gas_limit: int
    data: bytes

    @property
    def fields(self) -> tuple[int, bytes, bytes, int, int, bytes]:
        """The tuple that the portal takes."""
        return self.nonce, self.sender, self.target, self.value, self.gas_limit, self.data

    @property
    def hash(self) -> bytes:
        """What the message passer and the portal know it by."""
        return keccak256(encode(["uint256", "address", "address", "uint256", "uint256", "bytes"], self.fields))


def withdrawal_from_log(log: Log) -> Withdrawal:
    """The withdrawal of a MessagePassed log. Raises `InvalidWithdrawal`, also where its hash is not the one it says."""
    if log.address != L2_TO_L1_MESSAGE_PASSER or len(log.topics) != 4 or log.topics[0] != MESSAGE_PASSED_TOPIC:
        raise InvalidWithdrawal("not a MessagePassed log of the message passer")
    try:
        value, gas_limit, data, claimed = decode(["uint256", "uint256", "bytes", "bytes32"], log.data)
    except DecodingError as error:
        raise InvalidWithdrawal(f"malformed MessagePassed log: {error}") from error
    withdrawal = Withdrawal(
        int.from_bytes(log.topics[1], "big"), log.topics[2][12:], log.topics[3][12:], value, gas_limit, data
    )
    if withdrawal.hash != claimed:
        raise InvalidWithdrawal(f"the log says 0x{claimed.hex()}, its fields hash to 0x{withdrawal.hash.hex()}")
    return withdrawal


def withdrawals_in(logs: Iterable[Log]) -> tuple[Withdrawal, ...]:
    """The withdrawals that a transaction's logs record, in order."""
    return tuple(
        withdrawal_from_log(log)
        for log in logs
        if log.address == L2_TO_L1_MESSAGE_PASSER and log.topics[:1] == (MESSAGE_PASSED_TOPIC,)
    )
