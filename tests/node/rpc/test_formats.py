"""Logs that are written out at once are those that are made as objects."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.logs import LocatedLog
from openledger.evm_ext.receipts import Log
from openledger.node.rpc.formats import located_log_json, located_logs_json

hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(min_value=0, max_value=2**64 - 1)
logs = st.builds(
    Log,
    st.binary(min_size=20, max_size=20),
    st.lists(hashes, max_size=4).map(tuple),
    st.binary(max_size=100),
)
located = st.builds(
    LocatedLog, logs, st.sampled_from([b"\x01" * 32, b"\x02" * 32]), numbers, numbers, hashes, *[numbers] * 2
)


@given(st.lists(located, max_size=6), st.booleans())
def test_both_ways_of_writing_logs_agree(found, removed):
    assert orjson.loads(orjson.dumps(located_logs_json(_of_blocks(found), removed))) == [
        located_log_json(item, removed) for item in _of_blocks(found)
    ]


def _of_blocks(found: list[LocatedLog]) -> list[LocatedLog]:
    """Logs of one block agree about it."""
    of_hash = {item.block_hash: item for item in found}
    return [
        LocatedLog(
            item.log,
            item.block_hash,
            of_hash[item.block_hash].block_number,
            of_hash[item.block_hash].block_timestamp,
            item.transaction_hash,
            item.transaction_index,
            item.log_index,
        )
        for item in found
    ]
