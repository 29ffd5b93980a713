"""`openledger release merge`: adapters folded into a model file, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from openledger.kernels.model.load import load_model
from openledger.node.cli.main import app
from openledger.node.errors import UserError

from ...kernels.model.tiny_model import write_tiny_adapter, write_tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENLEDGER_CACHE_DIR", str(tmp_path / "caches"))
    write_tiny_model(tmp_path / "base.gguf")
    write_tiny_adapter(tmp_path / "one", 4, 1)
    write_tiny_adapter(tmp_path / "two", 4, 2)
    return tmp_path


def merge(folder: Path, *adapters: str):
    options = [part for each in adapters for part in ("--adapter", str(folder / each))]
    line = ["release", "merge", str(folder / "out.gguf"), *options, "--model-file", str(folder / "base.gguf")]
    return CliRunner().invoke(app, [*line, "--name", "both"])


def test_a_merged_model_is_written_and_its_root_is_what_the_engine_finds(folder: Path) -> None:
    done = merge(folder, "one", "two=-250")
    assert done.exit_code == 0, done.output
    model = load_model(folder / "cache", model_file=folder / "out.gguf", threads=1)
    assert model.config.name == "both"
    assert f"its weights root is 0x{model.transformer.root.hex()}" in done.stdout
    again = merge(folder, "one")
    assert isinstance(again.exception, UserError)
    assert "is there already" in str(again.exception)


def test_what_cannot_be_merged_is_said_and_nothing_is_written(folder: Path) -> None:
    absent = merge(folder, "nowhere")
    assert isinstance(absent.exception, UserError)
    assert "no adapter folder" in str(absent.exception)
    assert not (folder / "out.gguf").exists()


def test_a_release_is_of_a_job_or_of_merged_adapters(folder: Path) -> None:
    for options in ([], ["--job", "a", "--merged-from", "1"]):
        done = CliRunner().invoke(app, ["release", "register", "x", *options])
        assert isinstance(done.exception, UserError)
        assert "either --job or --merged-from" in str(done.exception)
