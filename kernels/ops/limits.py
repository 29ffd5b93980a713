"""The sizes for which every sum of `exact-1` is exact; the proofs are in the folder's README."""

from typing import Final

MAX_COLUMNS: Final = 132_104
"""Inputs of a linear layer: K * 128 * 127 < 2**31, so a sum of limb products fits int32."""

MAX_HEAD_SIZE: Final = 518
"""Elements of a head: D * 32639 * 127 < 2**31, so keys have at least 7 bits and a sign."""

MAX_RANK: Final = 256
"""Rank of an adapter: rank * 32639 * 127 < 2**31 allows 518; 256 is what is served."""

MAX_POSITIONS: Final = 1 << 27
"""Positions of a sequence: 2**27 * 2**18 * 127 < 2**53."""
