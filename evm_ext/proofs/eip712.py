"""Typed messages (EIP-712) of this chain: hash, sign, recover, and the JSON that wallets sign.

Every message lives in the domain (name "Openledger", version "1", chainId, verifyingContract).
Predeploys have the same address on each of our chains, so the chain id is what keeps them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from coincurve import PrivateKey, PublicKey

from openledger.genesis.hashing import keccak256

DOMAIN_NAME = "Openledger"
DOMAIN_VERSION = "1"
_DOMAIN_TYPE = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class InvalidSignature(ValueError):
    """A signature from which no signer can be recovered; the message says why."""


class InvalidMessage(ValueError):
    """A field that does not fit its type; the message names the field."""


@dataclass(frozen=True)
class Domain:
    """Which contract on which chain a message speaks to."""

    chain_id: int
    verifying_contract: bytes

    @property
    def separator(self) -> bytes:
        values = (DOMAIN_NAME, DOMAIN_VERSION, self.chain_id, self.verifying_contract)
        return _hash_struct("EIP712Domain", _DOMAIN_TYPE, values)


@dataclass(frozen=True)
class TypedMessage:
    """A frozen dataclass whose fields are an EIP-712 struct's, in order.

    A subclass names the struct and, field by field, the Solidity type of each; EIP-712's names are the
    attributes' in camel case. Supported: uintN, address (20 bytes), bytes32, string.
    """

    STRUCT: ClassVar[str]
    TYPES: ClassVar[Mapping[str, str]]

    def __post_init__(self) -> None:
        """Raises InvalidMessage for a value that does not fit its type."""
        for attribute, kind in self.TYPES.items():
            value = getattr(self, attribute)
            if kind.startswith("uint"):
                if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << int(kind[4:]):
                    raise InvalidMessage(f"{self.STRUCT}.{_camel(attribute)} must be a {kind}, got {value!r}")
            elif kind == "string":
                if not isinstance(value, str):
                    raise InvalidMessage(f"{self.STRUCT}.{_camel(attribute)} must be text, got {value!r}")
            elif not isinstance(value, bytes) or len(value) != (20 if kind == "address" else 32):
                raise InvalidMessage(f"{self.STRUCT}.{_camel(attribute)} must be a {kind}, got {value!r}")

    @classmethod
    def type_string(cls) -> str:
        """EIP-712's encodeType."""
        return _encode_type(cls.STRUCT, cls._fields())

    @property
    def struct_hash(self) -> bytes:
        """EIP-712's hashStruct."""
        return _hash_struct(self.STRUCT, self._fields(), tuple(getattr(self, name) for name in self.TYPES))

    def hash(self, domain: Domain) -> bytes:
        """What is signed: keccak(0x1901 | domain separator | struct hash)."""
        return keccak256(b"\x19\x01" + domain.separator + self.struct_hash)

    def sign(self, domain: Domain, private_key: bytes) -> bytes:
        """The 65-byte signature r | s | v, v 27 or 28, s in the lower half."""
        signature: bytes = PrivateKey(private_key).sign_recoverable(self.hash(domain), hasher=None)
        return signature[:64] + bytes([27 + signature[64]])

    def recover(self, domain: Domain, signature: bytes) -> bytes:
        """The address that signed; raises InvalidSignature."""
        return recover_signer(self.hash(domain), signature)

    def to_json(self) -> dict[str, Any]:
        """The message with EIP-712's names; numbers as integers, bytes as 0x hex."""
        return {
            _camel(name): "0x" + value.hex() if isinstance(value := getattr(self, name), bytes) else value
            for name in self.TYPES
        }

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; also takes numbers as decimal or 0x text. Raises InvalidMessage."""
        expected = {_camel(name) for name in cls.TYPES}
        if not isinstance(message, Mapping) or set(message) != expected:
            raise InvalidMessage(f"a {cls.STRUCT} has exactly the fields {', '.join(sorted(expected))}")
        return cls(
            **{name: _from_json(cls.STRUCT, name, kind, message[_camel(name)]) for name, kind in cls.TYPES.items()}
        )

    def typed_data(self, domain: Domain) -> dict[str, Any]:
        """What eth_signTypedData_v4 takes (ethers, viem, eth_account and MetaMask sign the same)."""
        return {
            "types": {
                "EIP712Domain": [{"name": name, "type": kind} for name, kind in _DOMAIN_TYPE],
                self.STRUCT: [{"name": name, "type": kind} for name, kind in self._fields()],
            },
            "primaryType": self.STRUCT,
            "domain": {
                "name": DOMAIN_NAME,
                "version": DOMAIN_VERSION,
                "chainId": domain.chain_id,
                "verifyingContract": "0x" + domain.verifying_contract.hex(),
            },
            "message": self.to_json(),
        }

    @classmethod
    def _fields(cls) -> tuple[tuple[str, str], ...]:
        return tuple((_camel(name), kind) for name, kind in cls.TYPES.items())


def recover_signer(digest: bytes, signature: bytes) -> bytes:
    """The address whose key signed `digest`, under the rules of OpenZeppelin's ECDSA.

    Raises InvalidSignature unless the signature is 65 bytes, v 27 or 28, s in the lower half.
    """
    if len(signature) != 65:
        raise InvalidSignature(f"a signature is 65 bytes (r, s, v), got {len(signature)}")
    if signature[64] not in (27, 28):
        raise InvalidSignature(f"v must be 27 or 28, got {signature[64]}")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise InvalidSignature("s must be in the lower half of the curve's order")
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([signature[64] - 27]), digest, hasher=None)
    except ValueError as error:
        raise InvalidSignature(f"no key made this signature: {error}") from None
    return keccak256(key.format(compressed=False)[1:])[12:]


def address_of(private_key: bytes) -> bytes:
    """The address of a private key."""
    return keccak256(PrivateKey(private_key).public_key.format(compressed=False)[1:])[12:]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _encode_type(struct: str, fields: tuple[tuple[str, str], ...]) -> str:
    return f"{struct}({','.join(f'{kind} {name}' for name, kind in fields)})"


def _hash_struct(struct: str, fields: tuple[tuple[str, str], ...], values: tuple[Any, ...]) -> bytes:
    words = [keccak256(_encode_type(struct, fields).encode())]
    for (_, kind), value in zip(fields, values, strict=True):
        if kind == "string":
            words.append(keccak256(value.encode()))
        else:
            words.append(value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0"))
    return keccak256(b"".join(words))


def _from_json(struct: str, name: str, kind: str, value: Any) -> Any:
    problem = InvalidMessage(f"{struct}.{_camel(name)} must be a {kind}, got {value!r}")
    try:
        if kind.startswith("uint"):
            return int(value, 0) if isinstance(value, str) else value
        if kind == "string":
            return value
        if not isinstance(value, str) or not value.startswith("0x"):
            raise problem
        return bytes.fromhex(value[2:])
    except ValueError:
        raise problem from None
