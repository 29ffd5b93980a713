"""How many files and sockets this process may have open, and the part of it that connections may take.

Whoever opens connections must not be able to keep the databases from opening their files.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)

WANTED = 65_536
RESERVED = 4_096
"""For databases, peers and child processes, where the system allows so many; else half of what it allows."""

_granted = 0


def raise_open_files_limit() -> None:
    """Ask for as many as the system allows: shells usually begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files_limit() -> int:
    """Files and sockets that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


@contextmanager
def connections(wanted: int, port: int) -> Iterator[int]:
    """How many connections a listening port may hold while this lasts: `wanted`, or what the system's limit leaves
    of it after the other ports', which a warning tells."""
    global _granted
    limit = open_files_limit()
    room = limit - min(RESERVED, limit // 2) - _granted
    granted = max(16, min(wanted, room))
    if granted < wanted:
        log.warning(
            "too few open files for all connections",
            port=port,
            connections=granted,
            wanted=wanted,
            limit=limit,
            remedy=f"raise the limit before starting: ulimit -n {limit + wanted - granted}",
        )
    _granted += granted
    try:
        yield granted
    finally:
        _granted -= granted
