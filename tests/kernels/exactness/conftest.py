"""`--every-way`: the full product of the ways to compute an answer, and not only each pair of them."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-way", action="store_true", help="exactness: the full product instead of every pair")
