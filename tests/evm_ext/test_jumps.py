"""Jump destinations against py-evm's own analysis."""

from __future__ import annotations

from eth.vm.code_stream import CodeStream
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.vm.parts import Code as _CodeStream


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([0x5B, 0x5F, 0x60, 0x61, 0x62, 0x7F]), st.integers(0, 255)), max_size=80))
def test_positions_inside_push_data_are_no_destinations(code):
    ours, theirs = _CodeStream(bytes(code)), CodeStream(bytes(code))
    for position in range(len(code) + 40):
        assert ours.is_valid_opcode(position) == theirs.is_valid_opcode(position)
