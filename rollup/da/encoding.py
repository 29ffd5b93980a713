"""Payloads, encoded payloads and blobs (EigenDA specification, "encoding").

payload          the bytes a user stores
encoded payload  header (32 bytes) and the payload in 31-byte steps, each 32-byte element below r,
                 zero-padded to a power of two of elements
blob             the coefficients of the polynomial that takes the encoded payload's elements as values on
                 the 2^k-th roots of unity in natural order (the evaluation form OP and Arbitrum stacks use)
"""

from zksnake._algebra import polynomial_bn254 as _polynomial

from openledger.rollup.da.curve import GROUP_ORDER

BYTES_PER_ELEMENT = 32
PAYLOAD_BYTES_PER_ELEMENT = 31
ENCODING_VERSION = 0
MAX_BLOB_BYTES = 16 * 1024 * 1024
"""The network's largest blob."""


class PayloadTooLarge(ValueError):
    """The payload does not fit into the largest blob that is allowed."""


class BlobDecodingFailed(ValueError):
    """The blob is not a well-formed encoded payload; derivation drops its commitment."""


def encoded_length(payload_length: int) -> int:
    """Bytes of the encoded payload, and of the blob, of a payload with that many bytes."""
    elements = 1 + -(-payload_length // PAYLOAD_BYTES_PER_ELEMENT)
    return BYTES_PER_ELEMENT << (elements - 1).bit_length()


def max_payload_length(max_blob_bytes: int) -> int:
    """The longest payload whose blob has at most `max_blob_bytes` bytes; -1 when there is none."""
    elements = max_blob_bytes // BYTES_PER_ELEMENT
    if elements < 1:
        return -1
    return ((1 << (elements.bit_length() - 1)) - 1) * PAYLOAD_BYTES_PER_ELEMENT


def encode_payload(payload: bytes, max_blob_bytes: int = MAX_BLOB_BYTES) -> bytes:
    """The encoded payload. Raises PayloadTooLarge before any memory is spent."""
    length = encoded_length(len(payload))
    if length > max_blob_bytes:
        raise PayloadTooLarge(
            f"payload of {len(payload)} bytes needs a blob of {length} bytes; the limit is {max_blob_bytes} "
            f"({max_payload_length(max_blob_bytes)} payload bytes)"
        )
    encoded = bytearray(length)
    encoded[1] = ENCODING_VERSION
    encoded[2:6] = len(payload).to_bytes(4, "big")
    whole, rest = divmod(len(payload), PAYLOAD_BYTES_PER_ELEMENT)
    # Column by column: 31 strided copies instead of one per element.
    for column in range(PAYLOAD_BYTES_PER_ELEMENT):
        start = BYTES_PER_ELEMENT + 1 + column
        stop = BYTES_PER_ELEMENT * (whole + 1)
        encoded[start:stop:BYTES_PER_ELEMENT] = payload[
            column : whole * PAYLOAD_BYTES_PER_ELEMENT : PAYLOAD_BYTES_PER_ELEMENT
        ]
    if rest:
        tail = BYTES_PER_ELEMENT * (whole + 1) + 1
        encoded[tail : tail + rest] = payload[-rest:]
    return bytes(encoded)


def decode_payload(encoded: bytes) -> bytes:
    """The payload of an encoded payload, every rule of the format checked. Raises BlobDecodingFailed."""
    elements, odd_bytes = divmod(len(encoded), BYTES_PER_ELEMENT)
    if odd_bytes or elements == 0 or elements & (elements - 1):
        raise BlobDecodingFailed(f"encoded payload of {len(encoded)} bytes is not a power of two of 32-byte elements")
    if encoded[1] != ENCODING_VERSION:
        raise BlobDecodingFailed(f"unknown payload encoding version {encoded[1]}")
    if any(encoded[6:BYTES_PER_ELEMENT]):
        raise BlobDecodingFailed("bytes 6..31 of the header are not zero")
    if any(encoded[::BYTES_PER_ELEMENT]):
        raise BlobDecodingFailed("an element does not begin with a zero byte")
    length = int.from_bytes(encoded[2:6], "big")
    available = (elements - 1) * PAYLOAD_BYTES_PER_ELEMENT
    if length > available:
        raise BlobDecodingFailed(f"header claims {length} bytes but only {available} are there")
    body = bytearray(available)
    for column in range(PAYLOAD_BYTES_PER_ELEMENT):
        body[column::PAYLOAD_BYTES_PER_ELEMENT] = encoded[BYTES_PER_ELEMENT + 1 + column :: BYTES_PER_ELEMENT]
    if any(body[length:]):
        raise BlobDecodingFailed("padding after the payload is not zero")
    return bytes(body[:length])


def blob_from_encoded_payload(encoded: bytes) -> list[int]:
    """The polynomial's coefficients (integers below r), one per element."""
    evaluations = elements_from_bytes(encoded)
    if len(evaluations) == 1:
        return evaluations
    coefficients: list[int] = _polynomial.ifft(evaluations, len(evaluations))
    return coefficients


def encoded_payload_from_blob(blob: bytes, length: int) -> bytes:
    """The polynomial's values as bytes; a blob shorter than `length` elements is padded with zeros.

    Raises BlobDecodingFailed on a length that is no power of two, a longer blob, or an element not below r.
    """
    if length < 1 or length & (length - 1) or length * BYTES_PER_ELEMENT > MAX_BLOB_BYTES:
        raise BlobDecodingFailed(f"blob length of {length} elements is not a power of two within the limit")
    if len(blob) > length * BYTES_PER_ELEMENT:
        raise BlobDecodingFailed(f"blob of {len(blob)} bytes is longer than its {length} elements")
    coefficients = elements_from_bytes(blob.ljust(length * BYTES_PER_ELEMENT, b"\0"))
    if length == 1:
        return elements_to_bytes(coefficients)
    return elements_to_bytes(_polynomial.fft(coefficients, length))


def elements_to_bytes(elements: list[int]) -> bytes:
    """Each element as 32 big-endian bytes."""
    return b"".join([element.to_bytes(BYTES_PER_ELEMENT, "big") for element in elements])


def elements_from_bytes(data: bytes) -> list[int]:
    """The integers of whole 32-byte elements. Raises BlobDecodingFailed on odd bytes or one not below r."""
    if len(data) % BYTES_PER_ELEMENT:
        raise BlobDecodingFailed(f"{len(data)} bytes are not whole 32-byte elements")
    elements = [
        int.from_bytes(data[start : start + BYTES_PER_ELEMENT], "big")
        for start in range(0, len(data), BYTES_PER_ELEMENT)
    ]
    if any(element >= GROUP_ORDER for element in elements):
        raise BlobDecodingFailed("an element is not below the group order")
    return elements
