"""The numeric tables of exact inference: committed bytes, loaded and never rebuilt at run time.

| file | contents |
|---|---|
| `exp.bin` | u32 little-endian, `rint(2**30 * e**(-i/4096))` for i = 0 .. 22*4096 |
| `sigmoid.bin` | binary32 little-endian, `1 / (1 + e**(i/4096))` for i = 0 .. 16*4096 |
| `normal.bin` | binary32 little-endian, the normal distribution at `-i/4096`, `erfc(i / (4096 sqrt 2)) / 2`, for i = 0 .. 6*4096 |
| `rotary-<base>-<dimensions>.bin` | binary32 little-endian `[position][pair][cos, sin]`, angle `position * base**(-2*pair/dimensions)`, 8,192 positions |

Every entry is the correctly rounded value. `build.py` made them with 60-digit arithmetic; a libm would not
give the same bytes everywhere.
"""

from importlib.resources import files
from typing import Final

from openledger.genesis.hashing import keccak256

EXP: Final = "exp.bin"
SIGMOID: Final = "sigmoid.bin"
NORMAL: Final = "normal.bin"


class TableMissing(LookupError):
    """No such table is shipped; the message says what was asked for."""


def rotary_name(base: float, dimensions: int) -> str:
    """The file of the rotary table for a frequency base and head size."""
    return f"rotary-{int(base)}-{dimensions}.bin"


def is_shipped(name: str) -> bool:
    """Whether there is a table of this name."""
    return name.endswith(".bin") and "/" not in name and files(__name__).joinpath(name).is_file()


def load_table(name: str) -> bytes:
    """The bytes of a table. Raises `TableMissing`."""
    if not is_shipped(name):
        raise TableMissing(f"no numeric table {name} is shipped with this version")
    return files(__name__).joinpath(name).read_bytes()


def tables_root(names: tuple[str, ...]) -> bytes:
    """What a release commits to: keccak over, for each name in order, keccak(name) and keccak(bytes)."""
    return keccak256(b"".join(keccak256(name.encode()) + keccak256(load_table(name)) for name in names))
