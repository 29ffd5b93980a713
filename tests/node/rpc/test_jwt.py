"""The Engine API's tokens: what is let in and what is not."""

import base64
import hashlib
import hmac
import json
import stat

import pytest

from openledger.node.rpc.jwt import InvalidJwtSecret, JwtSecret, Unauthorized

NOW = 1_800_000_000
SECRET = JwtSecret(bytes(range(32)))


def encoded(value) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def token(header, claims, key=SECRET.key) -> str:
    """A token made here, without the code under test."""
    signed = encoded(header) + b"." + encoded(claims)
    return (signed + b"." + encoded(hmac.new(key, signed, hashlib.sha256).digest())).decode()


HS256 = {"typ": "JWT", "alg": "HS256"}


@pytest.mark.parametrize("skew", [-60, -1, 0, 1, 60])
def test_a_token_within_a_minute_is_let_in(skew):
    SECRET.check(token(HS256, {"iat": NOW + skew, "clv": "op-node/v1", "id": "x"}), NOW)


def test_our_own_tokens_are_what_others_make():
    assert SECRET.token(NOW) == token({"alg": "HS256", "typ": "JWT"}, {"iat": NOW})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (token(HS256, {"iat": NOW - 61}), "stale"),
        (token(HS256, {"iat": NOW + 61}), "future"),
        (token(HS256, {}), "issued-at"),
        (token(HS256, {"iat": True}), "issued-at"),
        (token(HS256, {"iat": NOW, "exp": NOW - 1}), "expired"),
        (token(HS256, {"iat": NOW}, key=bytes(32)), "signature"),
        (token({"alg": "none"}, {"iat": NOW}), "HS256"),
        (token({"alg": "HS512"}, {"iat": NOW}), "HS256"),
        ((encoded({"alg": "none"}) + b"." + encoded({"iat": NOW}) + b".").decode(), "HS256"),
        ("a.b", "three parts"),
        ("!.!.!", "base64url"),
        (token(b"[1]", {"iat": NOW}), "objects"),
        (token(b"{", {"iat": NOW}), "JSON"),
        ("x" * 10_000, "too long"),
    ],
)
def test_any_other_is_refused_and_told_why(bad, why):
    with pytest.raises(Unauthorized, match=why):
        SECRET.check(bad, NOW)


def test_a_secret_is_made_once_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "jwt.hex"
    made = JwtSecret.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert JwtSecret.create(path) == made == JwtSecret.from_file(path)


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 33])
def test_a_file_without_a_secret_is_named(tmp_path, text):
    path = tmp_path / "jwt.hex"
    path.write_text(text)
    with pytest.raises(InvalidJwtSecret, match=r"jwt\.hex.*64 hex digits"):
        JwtSecret.from_file(path)
    with pytest.raises(InvalidJwtSecret, match="cannot be read"):
        JwtSecret.from_file(tmp_path / "absent")
