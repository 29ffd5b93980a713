"""Where Solidity keeps state: slots and words as integers, for writing an alloc by hand.

Sources: Solidity documentation, "Layout of State Variables in Storage"; EIP-1967 for proxies; ERC-7201.
"""

from typing import Final

from openledger.genesis.hashing import keccak256


def named_slot(name: str) -> int:
    """The unstructured slot keccak256(name) − 1 (EIP-1967's rule)."""
    return int.from_bytes(keccak256(name.encode()), "big") - 1


def erc7201_slot(namespace: str) -> int:
    """The first slot of a namespace's state (ERC-7201)."""
    inner = named_slot(namespace).to_bytes(32, "big")
    return int.from_bytes(keccak256(inner), "big") & ~0xFF


EIP1967_IMPLEMENTATION_SLOT: Final = named_slot("eip1967.proxy.implementation")
EIP1967_ADMIN_SLOT: Final = named_slot("eip1967.proxy.admin")


def mapping_slot(slot: int, key: int | bytes) -> int:
    """The slot of one value of a mapping: `key` is an integer, an address or 32 bytes.

    Text and byte-array keys, which Solidity does not pad, are not meant.
    """
    word = key.to_bytes(32, "big") if isinstance(key, int) else key.rjust(32, b"\0")
    return int.from_bytes(keccak256(word + slot.to_bytes(32, "big")), "big")


def array_slot(slot: int, index: int, slots_per_element: int = 1) -> int:
    """The first slot of one element of a dynamic array whose elements fill whole slots."""
    return int.from_bytes(keccak256(slot.to_bytes(32, "big")), "big") + index * slots_per_element


def short_string_word(text: str) -> int:
    """The one word that holds a `string` or `bytes` of at most 31 bytes; raises ValueError for more."""
    data = text.encode()
    if len(data) > 31:
        raise ValueError(f"a string of {len(data)} bytes does not fit into one slot: {text!r}")
    return int.from_bytes(data.ljust(31, b"\0"), "big") << 8 | len(data) * 2


def string_words(slot: int, text: str) -> dict[int, int]:
    """All words of a `string` or `bytes` variable at `slot`, of any length."""
    data = text.encode()
    if len(data) <= 31:
        word = short_string_word(text)
        return {slot: word} if word else {}
    words = {slot: len(data) * 2 + 1}
    for index in range(0, len(data), 32):
        words[array_slot(slot, index // 32)] = int.from_bytes(data[index : index + 32].ljust(32, b"\0"), "big")
    return words
