"""Where a DA server keeps things: in memory, in a folder, or in an S3-compatible bucket."""

from openledger.rollup.da.stores.base import BlobStore, KeyExists, StoreError
from openledger.rollup.da.stores.disk import DiskStore
from openledger.rollup.da.stores.memory import MemoryStore
from openledger.rollup.da.stores.s3 import S3Settings, S3Store

__all__ = ["BlobStore", "DiskStore", "KeyExists", "MemoryStore", "S3Settings", "S3Store", "StoreError"]
