"""The first byte of everything we hash ourselves, so that no hash of one kind can stand for another.

`NODE` to `CORPUS` are the authenticated suffix array's; the rest are ours. A byte is never reused. 0x20 to 0x22 are the
model's weights' (kernels/README.md).
"""

NODE = b"\x01"
TEXT_LEAF = b"\x02"
RANK_LEAF = b"\x03"
SEGMENT = b"\x04"
CORPUS = b"\x05"
CONTRIBUTION_LEAF = b"\x06"
DATANET_VERSION = b"\x07"
VECTOR_LEAF = b"\x08"
RETRIEVAL = b"\x09"
CONTENT = b"\x0a"
INFORMATION_LEAF = b"\x0b"
INFORMATION = b"\x0c"
RELEASE = b"\x0d"
FOLDER = b"\x0e"
