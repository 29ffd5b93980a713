"""The commands for Datanets, fine-tuning and releases: their help, and what they say before they reach a node."""

import re

import pytest
import typer
from typer.testing import CliRunner

from openledger.genesis.parameters import Split
from openledger.node.cli import datanet, finetune, release
from openledger.node.errors import UserError

APPS = {"datanet": datanet.app, "finetune": finetune.app, "release": release.app}
COMMANDS = [(group, command.name or "") for group, app in APPS.items() for command in app.registered_commands]
FOXES = "The quick brown fox jumps over the lazy dog and runs into the dark green wood. " * 4


def run(app: typer.Typer, *arguments: str) -> BaseException | None:
    return CliRunner().invoke(app, list(arguments)).exception


@pytest.mark.parametrize(("group", "command"), COMMANDS)
def test_every_command_shows_an_example_of_itself(group, command):
    shown = CliRunner().invoke(APPS[group], [command, "--help"], terminal_width=200)
    assert shown.exit_code == 0
    assert re.search(rf"Example:\s+openledger {group} {command}", " ".join(re.sub("[│`]", " ", shown.output).split()))


def test_a_split_is_five_percentages():
    assert release.parse_split("15/5/20/20/40") == Split()
    assert release.parse_split("0/0/0/0.5/99.5") == Split(0, 0, 0, 50, 9_950)
    for bad in ("", "100", "15/5/20/20/41", "a/b/c/d/e", "-10/10/20/40/40"):
        with pytest.raises(UserError, match="sum 100"):
            release.parse_split(bad)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["datanet", "create", "x"], "say who signs"),
        (["datanet", "create", "x", "--account", "1"], "is the node running"),
        (["datanet", "add", "1", "FILE", "--licence", "MIT", "--account", "1"], "is the node running"),
        (
            ["datanet", "add", "1", "FOLDER", "--licence", "MIT", "--account", "1"],
            "there is no document (.txt, .md, .pdf",
        ),
        (["datanet", "add", "1", "FILE", "--account", "1"], "say under which licence"),
        (["datanet", "add", "1", "EMPTY", "--dataset", "--account", "1"], "has no data files"),
        (["datanet", "add", "1", "DATASET", "--dataset", "--account", "1"], "is the node running"),
        (["datanet", "export", "1", "NEW"], "is the node running"),
        (["datanet", "diff", "1", "1", "2"], "is the node running"),
        (["datanet", "extract", "FILE"], "text is taken from .pdf, .docx"),
        (["datanet", "show", "1"], "is the node running"),
        (["finetune", "start", "x", "--datanet", "whales"], "is not a Datanet: give ID or ID:VERSION"),
        (["finetune", "list"], "is the node running"),
        (["release", "register", "x", "--job", "j", "--split", "1/2", "--account", "1"], "is no split"),
        (["release", "list"], "is the node running"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(tmp_path, arguments, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "foxes.md").write_text(FOXES)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "dataset/a.jsonl").write_text('{"text": "a"}')
    names = {"FILE": "foxes.md", "FOLDER": "empty", "EMPTY": "empty", "DATASET": "dataset", "NEW": "new"}
    places = {place: str(tmp_path / name) for place, name in names.items()}
    group, *rest = [places.get(argument, argument) for argument in arguments]
    reads_only = rest[0] in ("show", "export", "diff")
    nowhere = ["--api", "http://127.0.0.1:9"] if rest[0] != "extract" else []
    nowhere += ["--rpc", "http://127.0.0.1:9"] if group == "datanet" and not reads_only and nowhere else []
    error = run(APPS[group], *rest, *nowhere)
    assert error is not None
    assert says in str(error)
