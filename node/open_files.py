"""How many files and sockets this process may have open, and the part of it that connections may take.

Whoever opens connections must not be able to keep the databases from opening their files.
"""

from __future__ import annotations

import resource

WANTED = 65_536
_LISTENERS = 8
"""No node listens on more ports; what connections of all of them leave is for files, peers and child processes."""


def raise_open_files_limit() -> None:
    """Ask for as many as the system allows: shells usually begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_allowed() -> int:
    """For one listening port."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (WANTED if soft == resource.RLIM_INFINITY else min(WANTED, soft)) // (2 * _LISTENERS)
