"""Connections get what the limit of open files leaves, and whoever runs the node is told."""

import resource

import pytest
import structlog

from openledger.node import open_files


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch):
    def set_to(soft: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    monkeypatch.setattr(open_files, "_granted", 0)
    return set_to


def test_a_port_gets_what_it_wants_where_there_is_room(limit) -> None:
    limit(20_000)
    with open_files.connections(10_000, 8545) as granted:
        assert granted == 10_000


def test_databases_keep_theirs_and_the_warning_says_what_to_do(limit) -> None:
    limit(1_024)
    with structlog.testing.capture_logs() as logs, open_files.connections(10_000, 8545) as granted:
        assert granted == 512
    assert logs[0]["remedy"] == "raise the limit before starting: ulimit -n 10512"


def test_ports_share_and_give_back(limit) -> None:
    limit(20_000)
    with open_files.connections(10_000, 1):
        with open_files.connections(10_000, 2) as second:
            assert second == 20_000 - open_files.RESERVED - 10_000
        with open_files.connections(2_000, 3) as third:
            assert third == 2_000
    with open_files.connections(10_000, 4) as fourth:
        assert fourth == 10_000
