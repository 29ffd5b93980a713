"""Revert data is put into the words that geth uses, and malformed data into none."""

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from openledger.node.rpc.abi_errors import revert_error, revert_reason

ERROR = bytes.fromhex("08c379a0")
PANIC = bytes.fromhex("4e487b71")


@given(st.text(max_size=200))
def test_a_reason_string_is_read(text):
    assert revert_reason(ERROR + encode(["string"], [text])) == text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x11, "arithmetic underflow or overflow"),
        (0x12, "division or modulo by zero"),
        (0x99, "unknown panic code: 0x99"),
    ],
)
def test_a_panic_is_named(code, reason):
    assert revert_reason(PANIC + encode(["uint256"], [code])) == reason


@given(st.binary(max_size=200))
def test_any_revert_data_gives_an_error_with_that_data(data):
    for output in (data, ERROR + data, PANIC + data):
        error = revert_error(output)
        assert error.code == 3
        assert error.message.startswith("execution reverted")
        assert error.data == "0x" + output.hex()


def test_a_custom_error_has_no_reason():
    assert revert_error(bytes.fromhex("12345678") + bytes(32)).message == "execution reverted"
