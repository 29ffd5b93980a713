"""Batcher data in EIP-4844 blobs (OP-Stack derivation.md, "Blob encoding").

A blob is 4,096 field elements of 32 bytes; the two highest bits of each must be zero, so 4 elements carry 127 bytes:

    version 0x00 | length u24 | data | zeros        130,048 bytes, in 1,024 rounds of a 31 | x | b 31 | y | c 31 | z | d 31
    element 0: x[0:6] | a      element 1: x[6:8] y[0:4] | b      element 2: z[0:6] | c      element 3: z[6:8] y[4:8] | d
"""

BLOB_BYTES = 131_072
FIELD_ELEMENT_BYTES = 32
ROUNDS = 1_024
ROUND_BYTES = 127
HEADER_BYTES = 4
MAX_BLOB_DATA = ROUNDS * ROUND_BYTES - HEADER_BYTES
ENCODING_VERSION = 0x00


class InvalidBlob(ValueError):
    """The blob does not hold batcher data; it is ignored."""


def encode_blob(data: bytes) -> bytes:
    """The blob with this data; raises `InvalidBlob` if it has more than 130,044 bytes."""
    if len(data) > MAX_BLOB_DATA:
        raise InvalidBlob(f"a blob holds {MAX_BLOB_DATA} bytes, got {len(data)}")
    stream = bytes((ENCODING_VERSION,)) + len(data).to_bytes(3, "big") + data
    blob = bytearray()
    for start in range(0, len(stream), ROUND_BYTES):
        piece = stream[start : start + ROUND_BYTES].ljust(ROUND_BYTES, b"\0")
        x, y, z = piece[31], piece[63], piece[95]
        blob.append(x & 0x3F)
        blob += piece[:31]
        blob.append(y & 0x0F | (x & 0xC0) >> 2)
        blob += piece[32:63]
        blob.append(z & 0x3F)
        blob += piece[64:95]
        blob.append((z & 0xC0) >> 2 | (y & 0xF0) >> 4)
        blob += piece[96:]
    return bytes(blob).ljust(BLOB_BYTES, b"\0")


def decode_blob(blob: bytes) -> bytes:
    """The data in a blob; raises `InvalidBlob` for another version, a length that is too large, bits that must be zero,
    or anything after the data."""
    if len(blob) != BLOB_BYTES:
        raise InvalidBlob(f"a blob has {BLOB_BYTES} bytes, got {len(blob)}")
    if blob[1] != ENCODING_VERSION:
        raise InvalidBlob(f"unknown blob encoding version {blob[1]}")
    length = int.from_bytes(blob[2:5], "big")
    if length > MAX_BLOB_DATA:
        raise InvalidBlob(f"the blob claims {length} bytes, at most {MAX_BLOB_DATA} fit")
    # The first element's high bits are not looked at: the version takes them out of the scheme.
    if any(byte & 0xC0 for byte in blob[FIELD_ELEMENT_BYTES::FIELD_ELEMENT_BYTES]):
        raise InvalidBlob("a field element has one of its two highest bits set")
    stream = bytearray()
    for start in range(0, BLOB_BYTES, 4 * FIELD_ELEMENT_BYTES):
        first, second, third, fourth = (blob[start + FIELD_ELEMENT_BYTES * index] for index in range(4))
        stream += blob[start + 1 : start + 32]
        stream.append(first & 0x3F | (second & 0x30) << 2)
        stream += blob[start + 33 : start + 64]
        stream.append(second & 0x0F | (fourth & 0x0F) << 4)
        stream += blob[start + 65 : start + 96]
        stream.append(third & 0x3F | (fourth & 0x30) << 2)
        stream += blob[start + 97 : start + 128]
        if len(stream) >= HEADER_BYTES + length:
            if any(blob[start + 128 :]):
                raise InvalidBlob("the blob goes on after its data")
            break
    if any(stream[HEADER_BYTES + length :]):
        raise InvalidBlob("the blob goes on after its data")
    return bytes(stream[HEADER_BYTES : HEADER_BYTES + length])
