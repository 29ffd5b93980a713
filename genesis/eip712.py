"""The typed-data domain of a contract that stands in an alloc (EIP-712), as OpenZeppelin's EIP712 keeps it."""

from typing import Final

from openledger.genesis.hashing import keccak256

_DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def domain_separator(name: str, version: str, chain_id: int, contract: bytes) -> bytes:
    """The 32-byte hash of a domain with a name, a version, a chain id and a verifying contract (20 bytes)."""
    return keccak256(
        keccak256(_DOMAIN_TYPE)
        + keccak256(name.encode())
        + keccak256(version.encode())
        + chain_id.to_bytes(32, "big")
        + contract.rjust(32, b"\0")
    )


def domain_immutables(name: str, version: str, chain_id: int, contract: bytes) -> dict[str, int | bytes]:
    """What the constructor of OpenZeppelin's EIP712 would have put into the code of a contract at `contract`.

    Behind a proxy that is the proxy's address. Raises ValueError for a name or version beyond 31 bytes.
    """
    return {
        "_cachedChainId": chain_id,
        "_cachedThis": contract,
        "_cachedDomainSeparator": domain_separator(name, version, chain_id, contract),
        "_hashedName": keccak256(name.encode()),
        "_hashedVersion": keccak256(version.encode()),
        "_name": _short_string(name),
        "_version": _short_string(version),
    }


def _short_string(text: str) -> int:
    """OpenZeppelin's ShortString: the text left-aligned, its length in the last byte.

    A `string` in storage looks almost alike, but holds twice the length there.
    """
    data = text.encode()
    if len(data) > 31:
        raise ValueError(f"a ShortString holds at most 31 bytes, got {len(data)}: {text!r}")
    return int.from_bytes(data.ljust(32, b"\0"), "big") | len(data)
