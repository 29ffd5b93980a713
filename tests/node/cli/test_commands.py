"""What every command owes a newcomer: an example in its help, and the settings by their names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from openledger.node.cli.main import app


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, sub in inner.items():
        yield from commands(sub, (*path, name))


@pytest.mark.parametrize("path", list(commands(get_command(app))), ids=" ".join)
def test_the_help_of_a_command_has_an_example_of_it(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    words = " ".join(shown.output.replace("│", " ").replace("`", " ").split())
    assert "Example:" in words, shown.output
    # `verify receipt …` may show its options before its argument, so only the command itself must be there.
    assert f"openledger {' '.join(path)}" in words.split("Example:", 1)[1], shown.output


@pytest.mark.parametrize("arguments", [("--log-level", "loud"), ("--log-format", "xml")])
def test_a_log_setting_that_does_not_exist_is_refused_by_name(arguments: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["rpc", "--genesis", "genesis.json", *arguments])
    assert done.exit_code == 2
    assert arguments[0] in done.output
    assert isinstance(done.exception, SystemExit)


def test_the_settings_are_listed_by_the_names_that_work() -> None:
    listed = CliRunner().invoke(app, ["config", "settings"]).output
    assert "ports.rpc (OPENLEDGER_PORTS__RPC) = 8545" in listed
    assert "provider_key (OPENLEDGER_PROVIDER_KEY)\n" in listed
    assert "engine.max_batch (OPENLEDGER_ENGINE__MAX_BATCH)" in listed
    done = subprocess.run(
        [sys.executable, "-P", "-m", "openledger.node.cli.main", "config", "show"],
        env={**os.environ, "OPENLEDGER_ENGINE__MAX_BATCH": "3", "OPENLEDGER_PROVIDER_KEY": "0xsecret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"max_batch": 3' in done.stdout
    assert "secret" not in done.stdout + done.stderr
