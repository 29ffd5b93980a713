"""Log filters are read as geth reads them, and what makes no sense is refused."""

import pytest

from openledger.node.rpc.log_filter import LogCriteria, decode_log_criteria, decode_log_query

A, B = b"\x0a" * 20, b"\x0b" * 20
T, U = b"\x01" * 32, b"\x02" * 32


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, LogCriteria()),
        ({"address": hexed(A)}, LogCriteria(frozenset({A}))),
        ({"address": [hexed(B), hexed(A)]}, LogCriteria(frozenset({A, B}))),
        ({"address": [], "topics": None}, LogCriteria()),
        ({"topics": [None, hexed(U)]}, LogCriteria(topics=(frozenset(), frozenset({U})))),
        ({"topics": [[hexed(U), hexed(T)]]}, LogCriteria(topics=(frozenset({T, U}),))),
        ({"topics": [[], [None, hexed(T)]]}, LogCriteria(topics=(frozenset(), frozenset()))),
    ],
)
def test_criteria_are_read_in_all_their_forms(criteria, expected):
    assert decode_log_criteria(criteria) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (7, "expected an object"),
        ({"topics": "0x"}, "topics: expected a list, got a string"),
        ({"topics": [None] * 5}, "5 topics, a log has at most 4"),
        ({"topics": [None, ["0x12"]]}, r"topics\[1\]\[0\]: .*, want 64 for a hash"),
        ({"address": ["0x12"]}, r"address\[0\]: .*, want 40 for an address"),
        ({"address": [hexed(A)] * 1001}, "address: 1001 items, at most 1000"),
        ({"blockHash": hexed(T), "fromBlock": "0x1"}, "cannot specify both BlockHash and FromBlock/ToBlock"),
        ({"fromBlock": {"blockHash": hexed(T)}}, "expected a block number"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_with_the_reason(query, message):
    with pytest.raises(ValueError, match=message):
        decode_log_query(query)
