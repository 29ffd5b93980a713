"""Revert data into words: Solidity's Error(string) and Panic(uint256)."""

from __future__ import annotations

ERROR_SELECTOR = bytes.fromhex("08c379a0")
PANIC_SELECTOR = bytes.fromhex("4e487b71")

# Solidity documentation, "Panic via assert and Error via require".
PANIC_REASONS = {
    0x00: "generic panic",
    0x01: "assert(false)",
    0x11: "arithmetic underflow or overflow",
    0x12: "division or modulo by zero",
    0x21: "enum overflow",
    0x22: "invalid encoded storage byte array accessed",
    0x31: "out-of-bounds array access; popping on an empty array",
    0x32: "out-of-bounds access of an array or bytesN",
    0x41: "out of memory",
    0x51: "uninitialized function",
}


def revert_reason(output: bytes) -> str | None:
    """The reason inside revert data, None for a custom error, for none, or for malformed data."""
    selector, body = output[:4], output[4:]
    if selector == PANIC_SELECTOR and len(body) >= 32:
        code = int.from_bytes(body[:32], "big")
        return PANIC_REASONS.get(code, f"unknown panic code: {code:#x}")
    if selector == ERROR_SELECTOR and len(body) >= 64:
        offset = int.from_bytes(body[:32], "big")
        if offset + 32 > len(body):
            return None
        size = int.from_bytes(body[offset : offset + 32], "big")
        text = body[offset + 32 : offset + 32 + size]
        if len(text) == size:
            return text.decode("utf-8", errors="replace")
    return None
