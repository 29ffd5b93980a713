"""A provider's desk for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .desk import Desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Open for the tests of one file."""
    with Desk(tmp_path_factory.mktemp("desk")) as opened:
        yield opened
