import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.rollup.da.memstore_config import (
    DerivationError,
    InvalidConfig,
    MemstoreConfig,
    format_duration,
    parse_duration,
)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (500_000_000, "500ms"),
        (1_500_000_000, "1.5s"),
        (25 * 60 * 10**9, "25m0s"),
        (2 * 3600 * 10**9, "2h0m0s"),
        (3600 * 10**9 + 30_500_000_000, "1h0m30.5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
    assert parse_duration(text) == nanoseconds


@given(st.integers(0, 2**63 - 1))
def test_parse_inverts_format(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "-1s", "1x", "s", "1s ", "1" * 40 + "h", None, 5, "1.2.3s"])
def test_bad_duration_is_refused(text: object) -> None:
    with pytest.raises(InvalidConfig):
        parse_duration(text)


def test_update_changes_only_what_it_names() -> None:
    config = MemstoreConfig(put_latency_ns=5)
    changed = config.updated(b'{"GetLatency": "1s", "PutReturnsFailoverError": true}')
    assert changed == MemstoreConfig(put_latency_ns=5, get_latency_ns=10**9, put_returns_failover_error=True)


def test_derivation_error_is_set_kept_and_reset() -> None:
    config = MemstoreConfig().updated(
        json.dumps({"NullableDerivationError": {"StatusCode": 3, "Msg": "m", "Reset": False}}).encode()
    )
    assert config.overwrite_put_with_derivation_error == DerivationError(3, "m")
    assert config.updated(b"{}") == config
    assert config.to_json()["OverwritePutWithDerivationError"] == {"StatusCode": 3, "Msg": "m"}
    reset = config.updated(b'{"NullableDerivationError": {"Reset": true}}')
    assert reset.overwrite_put_with_derivation_error is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"MaxBlobSizeBytes": -1}',
        b'{"MaxBlobSizeBytes": 99999999999}',
        b'{"MaxBlobSizeBytes": true}',
        b'{"PutLatency": 5}',
        b'{"PutReturnsFailoverError": "yes"}',
        b'{"CertVersion": 2}',
        b'{"NullableDerivationError": {"StatusCode": 0}}',
        b'{"NullableDerivationError": {"StatusCode": 5}}',
        b'{"NullableDerivationError": 1}',
    ],
)
def test_bad_update_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidConfig):
        MemstoreConfig().updated(body)
