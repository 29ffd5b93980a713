"""The real model, loaded once for all tests; its imported weights stay in pytest's cache folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openledger.kernels.model.load import Model


@pytest.fixture(scope="session")
def model_cache(pytestconfig: pytest.Config) -> Path:
    return Path(pytestconfig.cache.mkdir("openledger-models"))  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def model(model_cache: Path) -> "Model":
    """SmolLM2-135M-Instruct on one thread, by the fastest exact product of this machine."""
    from openledger.kernels.model.errors import ModelMissing
    from openledger.kernels.model.load import load_model

    try:
        return load_model(model_cache, threads=1)
    except ModelMissing as error:
        pytest.skip(str(error))
