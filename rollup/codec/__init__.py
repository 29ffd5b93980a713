"""Byte layouts of the rollup: bytes in, values out, no I/O. One file per layout."""
