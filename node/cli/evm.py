"""`openledger evm`: hold the execution client to the public Ethereum tests, and execute single blocks without a chain.

Exit status: 0 everything is as expected, 1 something is not, 2 it could not be tried.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from openledger.evm_ext.conformance.runner import CaseResult, Kind

app = typer.Typer(
    help="Run public Ethereum tests; execute a block from a witness, without a chain.", no_args_is_help=True
)

_PROCESSORS = os.cpu_count() or 1

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Test files, or folders with them.")]
Fork = Annotated[
    str | None,
    typer.Option(
        "--fork", help="Only cases of this fork, as the files name it; for files that name none, the fork they are of."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a case: name, fork, pass, error.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Processes that run tests beside each other.")]


@app.command("blocktest")
def blocktest(files: Files, fork: Fork = None, as_json: Json = False, jobs: Jobs = _PROCESSORS) -> None:
    """Run blockchain tests: execution-spec-tests' `blockchain_tests` and `blockchain_tests_engine`, and
    ethereum/tests' BlockchainTests. Exit status 1 if one fails.

    Example: `openledger evm blocktest fixtures/blockchain_tests --fork Prague --json`"""
    _run("blockchain", files, fork, as_json, jobs)


@app.command("statetest")
def statetest(files: Files, fork: Fork = None, as_json: Json = False, jobs: Jobs = _PROCESSORS) -> None:
    """Run state tests: execution-spec-tests' `state_tests` and ethereum/tests' GeneralStateTests. Exit status 1 if one
    fails.

    Example: `openledger evm statetest GeneralStateTests/stExample --fork Cancun`"""
    _run("state", files, fork, as_json, jobs)


def _run(kind: Kind, files: list[Path], fork: str | None, as_json: bool, jobs: int) -> None:
    from openledger.evm_ext.conformance.runner import plan, run_units  # loads the virtual machine

    units, failures = plan(kind, files, fork, jobs)
    passed = 0
    if as_json:
        for result in failures:
            _print_json(result)
        for _, results in run_units(units, jobs):
            for result in results:
                _print_json(result)
                passed += result.passed
            failures += [result for result in results if not result.passed]
    else:
        with _progress() as progress:
            task = progress.add_task(kind, total=len(units), failed=len(failures))
            for _, results in run_units(units, jobs):
                passed += sum(result.passed for result in results)
                failures += [result for result in results if not result.passed]
                progress.update(task, advance=1, failed=len(failures))
        _summary(passed, failures)
    if not passed and not failures:
        Console(stderr=True).print("[red]error:[/red] no case was run: the files hold none of this kind and fork")
    if failures or not passed:
        raise typer.Exit(1)


def _print_json(result: CaseResult) -> None:
    print(json.dumps({"name": result.name, "fork": result.fork, "pass": result.passed, "error": result.error}))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description} tests"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files, {task.fields[failed]} failures"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _summary(passed: int, failures: list[CaseResult]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for result in failures:
        console.print("FAIL", result.fork, result.name)
        console.print("     ", result.error)
    console.print(f"{passed} passed, {len(failures)} failed")


# --- a single block ---------------------------------------------------------------------------------------

_RollupConfig = Annotated[Path, typer.Option("--rollup-config", help="op-node's rollup.json of the chain.")]
_Parent = Annotated[
    Path, typer.Option("--parent", help="The parent's header: JSON as the RPC gives it, or RLP in hex.")
]
_Attributes = Annotated[Path, typer.Option("--attributes", help="Payload attributes, as the Engine API names them.")]
_Witness = Annotated[
    Path, typer.Option("--witness", help="Map from Keccak-256 to preimage, or the answer of debug_executionWitness.")
]
_Expected = Annotated[
    Path | None, typer.Option("--expected", help="What has to come out: a header like the parent, or a block hash.")
]


@app.command("execute")
def execute(
    rollup_config: _RollupConfig,
    parent: _Parent,
    attributes: _Attributes,
    witness: _Witness,
    expected: _Expected = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Execute one OP-Stack block from a witness, and print its hash and header. Exit status 1 if it is not the expected
    one, 2 if it cannot be executed: a preimage is missing, a file cannot be read, the fork is not known.

    Example: `openledger evm execute --rollup-config rollup.json --parent parent.json --attributes attributes.json
    --witness witness.json --expected header.json`"""
    from openledger.node.stateless_files import ExecuteFiles, execute_files  # loads the virtual machine

    outcome = execute_files(ExecuteFiles(rollup_config, parent, attributes, witness, expected))
    if as_json:
        print(json.dumps(outcome.to_json()))
    else:
        console = Console(soft_wrap=True, highlight=False, markup=False)
        for name, value in outcome.header.items():
            console.print(f"{name:<22}{value}")
        for difference in outcome.differences:
            console.print(f"DIFFERENT {difference.field}: {difference.actual}, expected {difference.expected}")
    if outcome.differences:
        raise typer.Exit(1)
