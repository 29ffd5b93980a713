"""Which chunks an operator keeps: what EigenDA's rule gives, worked out by hand."""

import pytest

from openledger.rollup.da.assignment import Operator, assigned_chunks
from openledger.rollup.da.chunks import ChunkParameters

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
SMALL = ChunkParameters(chunks=16, coding_rate=2, max_operators=4)


def test_shares_are_rounded_up_and_follow_each_other_in_the_order_of_the_ids() -> None:
    # 12 chunks to share: 12 * 5 / 10 = 6, 12 * 3 / 10 -> 4, 12 * 2 / 10 -> 3.
    state = {0: [Operator(C, 2), Operator(A, 5), Operator(B, 3)]}
    assert assigned_chunks(state, [0], SMALL) == {A: [0, 1, 2, 3, 4, 5], B: [6, 7, 8, 9], C: [10, 11, 12]}


def test_a_further_quorum_reuses_what_is_kept_and_then_takes_what_is_free() -> None:
    state = {0: [Operator(A, 5), Operator(B, 3), Operator(C, 2)], 1: [Operator(A, 1), Operator(B, 1)]}
    # Quorum 1 wants 6 each: A has its 6, B has 4 of quorum 0's and takes the first two that nobody in quorum 1 uses.
    assert assigned_chunks(state, [1, 0], SMALL) == {
        A: [0, 1, 2, 3, 4, 5],
        B: [6, 7, 8, 9, 10, 11],
        C: [10, 11, 12],
    }


def test_nobody_keeps_more_than_gives_the_blob_back() -> None:
    state = {0: [Operator(A, 1)], 1: [Operator(A, 1), Operator(B, 1)]}
    assert assigned_chunks(state, [0, 1], SMALL) == {A: list(range(8)), B: [6, 7, 8, 9, 10, 11]}


def test_a_newcomer_of_the_further_quorum_gets_chunks_too() -> None:
    state = {0: [Operator(B, 1), Operator(C, 1)], 1: [Operator(A, 2), Operator(B, 1)]}
    # Quorum 1: A 8 and B 4; B reuses 0..3, A has nothing yet and takes 4..11.
    assert assigned_chunks(state, [0, 1], SMALL) == {
        B: [0, 1, 2, 3, 4, 5],
        C: [6, 7, 8, 9, 10, 11],
        A: [4, 5, 6, 7, 8, 9, 10, 11],
    }


@pytest.mark.parametrize(
    "state", [{}, {0: []}, {0: [Operator(A, 0)]}, {0: [Operator(bytes([n]) * 32, 1) for n in range(5)]}]
)
def test_a_quorum_that_cannot_be_is_refused(state: dict[int, list[Operator]]) -> None:
    with pytest.raises(ValueError, match="quorum 0 has"):
        assigned_chunks(state, [0], SMALL)


@pytest.mark.parametrize(
    ("socket", "target"),
    [
        ("10.0.0.1:32005;32006;32007;32008", "10.0.0.1:32008"),
        ("[2001:db8::1]:1;2;3;4", "[2001:db8::1]:4"),
        ("10.0.0.1:32005;32006", None),
        ("10.0.0.1:1;2;3;x", None),
        (":1;2;3;4", None),
        ("", None),
    ],
)
def test_where_an_operator_answers_stands_in_its_socket(socket: str, target: str | None) -> None:
    assert Operator(A, 1, socket).retrieval_target == target
