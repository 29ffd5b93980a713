"""Blobs in a bucket of S3 or anything that speaks its protocol. Several DA servers may share one.

| object | content |
|---|---|
| PREFIXblobs/KEY | the blob |
| PREFIXchunks/KEY/OPERATOR | what an operator keeps of it |
| PREFIXtimes/NANOSECONDS/KEY | empty: when it was stored; written last, so that what it names is whole |
| PREFIXkeccak/HASH | a payload |
| PREFIXsecret | the issuer's secret |
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from openledger.rollup.da.stores.base import KeyExists, StoreError

_TIME_DIGITS = 20
_MISSING = ("NoSuchKey", "404")


@dataclass(frozen=True)
class S3Settings:
    """Which bucket. Credentials come from where boto3 looks for them (environment, profile, instance role).

    `endpoint_url` empty is AWS itself."""

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = "us-east-1"


class S3Store:
    """See BlobStore."""

    def __init__(self, settings: S3Settings) -> None:
        """Raises StoreError if boto3 is not installed or the bucket cannot be reached."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise StoreError("S3 storage needs boto3: pip install 'openledger-node[s3]'") from error
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
        self._bucket = settings.bucket
        self._prefix = settings.prefix
        with self._named("reach the bucket"):
            self._client: Any = boto3.client(
                "s3",
                endpoint_url=settings.endpoint_url or None,
                region_name=settings.region,
                config=Config(retries={"max_attempts": 4, "mode": "standard"}, connect_timeout=5, read_timeout=30),
            )
            self._client.head_bucket(Bucket=self._bucket)

    def put(self, key: bytes, value: bytes, chunks: Mapping[int, bytes] | None = None) -> None:
        """See BlobStore."""
        name = key.hex()
        if self._get(f"blobs/{name}") is not None:
            raise KeyExists(f"payload key already exists: {name}")
        for operator, kept in (chunks or {}).items():
            self._put(f"chunks/{name}/{operator}", kept)
        # The blob last but its time: a put that broke off left nothing that is found.
        self._put(f"blobs/{name}", value)
        self._put(f"times/{time.time_ns():0{_TIME_DIGITS}}/{name}", b"")

    def get(self, key: bytes) -> bytes | None:
        """See BlobStore."""
        return self._get(f"blobs/{key.hex()}")

    def drop(self, key: bytes) -> None:
        """See BlobStore."""
        self._delete(f"blobs/{key.hex()}")

    def get_chunks(self, key: bytes, operator: int) -> bytes | None:
        """See BlobStore."""
        return self._get(f"chunks/{key.hex()}/{operator}")

    def put_keccak(self, digest: bytes, payload: bytes) -> None:
        """See BlobStore."""
        self._put(f"keccak/{digest.hex()}", payload)

    def get_keccak(self, digest: bytes) -> bytes | None:
        """See BlobStore."""
        return self._get(f"keccak/{digest.hex()}")

    def secret(self, fresh: bytes) -> bytes:
        """See BlobStore. Of several servers that start at once, the first one's secret is everybody's."""
        try:
            with self._named("store the secret"):
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + "secret", Body=fresh, IfNoneMatch="*")
        except StoreError as error:
            if _code(error.__cause__) != "PreconditionFailed":
                raise
        stored = self._get("secret")
        return fresh if stored is None else stored

    def prune(self, expiration_ns: int) -> int:
        """See BlobStore."""
        latest = max(time.time_ns() - expiration_ns, 0)
        pruned = 0
        for entry in self._names("times/"):
            moment, name = entry.split("/")[-2:]
            if int(moment) > latest:
                break  # they are listed in order of time
            for chunk in self._names(f"chunks/{name}/"):
                self._delete(chunk)
            self._delete(f"blobs/{name}")
            self._delete(entry)
            pruned += 1
        return pruned

    def close(self) -> None:
        """See BlobStore."""
        self._client.close()

    def _put(self, name: str, body: bytes) -> None:
        with self._named(f"store {name}"):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body)

    def _get(self, name: str) -> bytes | None:
        with self._named(f"read {name}"):
            try:
                body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            except self._errors as error:
                if _code(error) in _MISSING:
                    return None
                raise
            return body

    def _delete(self, name: str) -> None:
        with self._named(f"delete {name}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _names(self, start: str) -> Iterator[str]:
        with self._named(f"list {start}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + start
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"].removeprefix(self._prefix)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise StoreError(f"cannot {what} in bucket {self._bucket}: {error}") from error


def _code(error: BaseException | None) -> str | None:
    """The protocol's name of what went wrong; None where no answer came."""
    code: str | None = getattr(error, "response", {}).get("Error", {}).get("Code")
    return code
