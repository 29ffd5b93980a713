"""The knobs of `/memstore/config`: simulated latency, failures and expiry, in EigenDA's JSON and Go's durations."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from openledger.rollup.da.encoding import MAX_BLOB_BYTES

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)")
_MAX_DURATION_NS = 2**63 - 1


class InvalidConfig(ValueError):
    """The update is not valid; nothing was changed."""


@dataclass(frozen=True)
class DerivationError:
    """Why derivation drops a commitment: 1 parsing, 2 recency, 3 invalid certificate, 4 blob decoding."""

    status_code: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """The body of a 418 answer."""
        return {"StatusCode": self.status_code, "Msg": self.message}


@dataclass(frozen=True)
class MemstoreConfig:
    """Durations in nanoseconds; an expiration of 0 keeps blobs for ever."""

    max_blob_bytes: int = MAX_BLOB_BYTES
    blob_expiration_ns: int = 0
    put_latency_ns: int = 0
    get_latency_ns: int = 0
    put_returns_failover_error: bool = False
    overwrite_put_with_derivation_error: DerivationError | None = None
    certificate_version: int = 4

    def to_json(self) -> dict[str, Any]:
        """The answer of GET /memstore/config."""
        error = self.overwrite_put_with_derivation_error
        return {
            "MaxBlobSizeBytes": self.max_blob_bytes,
            "BlobExpiration": format_duration(self.blob_expiration_ns),
            "PutLatency": format_duration(self.put_latency_ns),
            "GetLatency": format_duration(self.get_latency_ns),
            "PutReturnsFailoverError": self.put_returns_failover_error,
            "OverwritePutWithDerivationError": error.to_json() if error else None,
            "CertVersion": self.certificate_version,
        }

    def updated(self, body: bytes) -> "MemstoreConfig":
        """The configuration after a PATCH: only the fields in the JSON change. Raises InvalidConfig."""
        try:
            update = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidConfig(f"not JSON: {error}") from error
        if not isinstance(update, dict):
            raise InvalidConfig("the update must be a JSON object")
        changes: dict[str, Any] = {}
        for name, attribute in (
            ("BlobExpiration", "blob_expiration_ns"),
            ("PutLatency", "put_latency_ns"),
            ("GetLatency", "get_latency_ns"),
        ):
            if update.get(name) is not None:
                changes[attribute] = parse_duration(update[name])
        if (size := update.get("MaxBlobSizeBytes")) is not None:
            changes["max_blob_bytes"] = _integer(size, "MaxBlobSizeBytes", 0, MAX_BLOB_BYTES)
        if (version := update.get("CertVersion")) is not None:
            changes["certificate_version"] = _integer(version, "CertVersion", 3, 4)
        if (failover := update.get("PutReturnsFailoverError")) is not None:
            if not isinstance(failover, bool):
                raise InvalidConfig("PutReturnsFailoverError must be true or false")
            changes["put_returns_failover_error"] = failover
        if (error_update := update.get("NullableDerivationError")) is not None:
            changes["overwrite_put_with_derivation_error"] = _derivation_error(error_update)
        return replace(self, **changes)


def parse_duration(text: Any) -> int:
    """Nanoseconds of a non-negative Go duration such as "25m0s", "1.5h" or "0". Raises InvalidConfig."""
    if not isinstance(text, str) or len(text) > 64:
        raise InvalidConfig(f"not a duration: {text!r}")
    if text == "0":
        return 0
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        raise InvalidConfig(f"not a duration: {text!r}; write for example 25m0s or 500ms")
    total = 0
    for part in parts:
        number = part.rstrip("nuµmsh")
        try:
            total += int(Decimal(number) * _UNITS_NS[part[len(number) :]])
        except InvalidOperation as error:
            raise InvalidConfig(f"not a duration: {text!r}") from error
    if total > _MAX_DURATION_NS:
        raise InvalidConfig(f"duration too long: {text!r}")
    return total


def format_duration(nanoseconds: int) -> str:
    """A duration as Go's time.Duration prints it: "0s", "500ms", "1.5s", "25m0s", "2h0m0s"."""
    if nanoseconds < 1_000_000_000:
        for unit in ("ms", "µs", "ns"):
            if nanoseconds >= _UNITS_NS[unit]:
                return _decimal(nanoseconds, _UNITS_NS[unit]) + unit
        return "0s"
    minutes, rest = divmod(nanoseconds, _UNITS_NS["m"])
    text = _decimal(rest, _UNITS_NS["s"]) + "s"
    hours, minutes = divmod(minutes, 60)
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _integer(value: Any, name: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidConfig(f"{name} must be an integer from {low} to {high}")
    return value


def _derivation_error(value: Any) -> DerivationError | None:
    if not isinstance(value, dict):
        raise InvalidConfig("NullableDerivationError must be a JSON object")
    if value.get("Reset") is True:
        return None
    message = value.get("Msg", "")
    if not isinstance(message, str) or len(message) > 1024:
        raise InvalidConfig("Msg must be a text of at most 1024 characters")
    return DerivationError(_integer(value.get("StatusCode"), "StatusCode", 1, 4), message)
