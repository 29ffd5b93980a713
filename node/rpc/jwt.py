"""Who may speak the Engine API: JSON Web Tokens signed with a secret that both sides have in a file.

Source: execution-apis, engine/authentication; RFC 7519 and 7515 (HS256 only, so a few lines of the standard library
do).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openledger.node.http import HttpError, Request

SECRET_BYTES = 32
MOST_CLOCK_SKEW_S = 60
"""How far `iat` may be from our clock, either way."""

_MOST_TOKEN_CHARACTERS = 4_096


class InvalidJwtSecret(ValueError):
    """A secret file that cannot be read or does not hold 32 bytes of hex."""


class Unauthorized(Exception):
    """A token that proves nothing; the message says why."""


@dataclass(frozen=True)
class JwtSecret:
    """The key that both ends of an Engine API share: 32 bytes."""

    key: bytes

    @classmethod
    def from_hex(cls, text: str) -> JwtSecret:
        """From hex with or without 0x, white space around it ignored. Raises `InvalidJwtSecret`."""
        try:
            key = bytes.fromhex(text.strip().removeprefix("0x"))
        except ValueError:
            raise InvalidJwtSecret("the JWT secret is not hex: it must be 64 hex digits") from None
        if len(key) != SECRET_BYTES:
            raise InvalidJwtSecret(f"the JWT secret has {len(key)} bytes, it must have {SECRET_BYTES} (64 hex digits)")
        return cls(key)

    @classmethod
    def from_file(cls, path: Path) -> JwtSecret:
        """The secret in a file. Raises `InvalidJwtSecret`."""
        try:
            return cls.from_hex(path.read_text())
        except OSError as error:
            raise InvalidJwtSecret(f"the JWT secret {path} cannot be read: {error.strerror or error}") from error
        except (InvalidJwtSecret, UnicodeDecodeError) as error:
            raise InvalidJwtSecret(f"{path}: {error}") from error

    @classmethod
    def create(cls, path: Path) -> JwtSecret:
        """The secret in a file, made with a new one that only its owner can read if there is none yet.

        Raises `InvalidJwtSecret`."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls.from_file(path)
        except OSError as error:
            raise InvalidJwtSecret(f"the JWT secret {path} cannot be written: {error.strerror or error}") from error
        secret = cls(secrets.token_bytes(SECRET_BYTES))
        with os.fdopen(descriptor, "w") as file:
            file.write("0x" + secret.key.hex() + "\n")
        return secret

    def token(self, issued_at: float | None = None) -> str:
        """A token as a caller sends it, issued now or at a Unix time."""
        claims = {"iat": int(time.time() if issued_at is None else issued_at)}
        signed = b".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return (signed + b"." + _encode(self._sign(signed))).decode()

    def check(self, token: str, now: float) -> None:
        """Raises `Unauthorized` unless the token is signed with this secret and was issued within a minute of
        `now` (Unix time). Claims besides `iat` and `exp` are ignored."""
        if len(token) > _MOST_TOKEN_CHARACTERS:
            raise Unauthorized("the token is too long")
        parts = token.encode("utf-8", "replace").split(b".")
        if len(parts) != 3:
            raise Unauthorized("the token is malformed: it has three parts with dots between them")
        header = _decode_object(parts[0])
        if header.get("alg") != "HS256":
            raise Unauthorized("the token's algorithm must be HS256")
        if not hmac.compare_digest(self._sign(parts[0] + b"." + parts[1]), _decode(parts[2])):
            raise Unauthorized("the token's signature is invalid: do both sides have the same secret?")
        claims = _decode_object(parts[1])
        issued_at = claims.get("iat")
        if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
            raise Unauthorized("missing issued-at: the token needs an iat claim")
        if issued_at < now - MOST_CLOCK_SKEW_S:
            raise Unauthorized(f"stale token: issued {now - issued_at:.0f} s ago, at most {MOST_CLOCK_SKEW_S} s")
        if issued_at > now + MOST_CLOCK_SKEW_S:
            raise Unauthorized(f"future token: issued {issued_at - now:.0f} s from now; compare the clocks")
        expires = claims.get("exp")
        if isinstance(expires, int | float) and expires < now:
            raise Unauthorized("token is expired")

    def _sign(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, "sha256")


def bearer_check(secret: JwtSecret, clock: Callable[[], float] = time.time) -> Callable[[Request], None]:
    """What an `AccessPolicy` asks of each request: `Authorization: Bearer TOKEN`. Answers 401 without."""

    def authorize(request: Request) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise HttpError(401, "missing token", (("www-authenticate", "Bearer"),))
        try:
            secret.check(token.strip(), clock())
        except Unauthorized as error:
            raise HttpError(401, str(error), (("www-authenticate", "Bearer"),)) from error

    return authorize


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unauthorized("the token is malformed: its parts are base64url") from None


def _decode_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(_decode(text))
    except (ValueError, RecursionError):
        raise Unauthorized("the token is malformed: its parts are JSON") from None
    if not isinstance(value, dict):
        raise Unauthorized("the token is malformed: its parts are JSON objects")
    return value
