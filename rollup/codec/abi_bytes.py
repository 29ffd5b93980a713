"""The one ABI form that the rollup's logs carry as data: a single dynamic `bytes`."""

WORD = 32


class InvalidAbi(ValueError):
    """The data is not abi.encode(bytes)."""


def read_single_bytes(data: bytes) -> bytes:
    """The bytes of `abi.encode(bytes)`; offset, length and padding must be exactly what an encoder writes."""
    if len(data) < 2 * WORD or len(data) % WORD:
        raise InvalidAbi(f"{len(data)} bytes are not a padded dynamic value")
    if int.from_bytes(data[:WORD], "big") != WORD:
        raise InvalidAbi("the value does not start right after its offset")
    length = int.from_bytes(data[WORD : 2 * WORD], "big")
    if length > len(data) - 2 * WORD or len(data) - 2 * WORD - length >= WORD:
        raise InvalidAbi(f"length {length} does not fit {len(data)} bytes of data")
    if any(data[2 * WORD + length :]):
        raise InvalidAbi("padding is not zero")
    return data[2 * WORD : 2 * WORD + length]


def write_single_bytes(value: bytes) -> bytes:
    """`abi.encode(bytes)`."""
    padding = -len(value) % WORD
    return WORD.to_bytes(WORD, "big") + len(value).to_bytes(WORD, "big") + value + bytes(padding)
