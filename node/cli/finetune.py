"""`openledger finetune`: LoRA adapters trained by the node on Datanet versions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import trio
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from openledger.genesis.counted import counted
from openledger.node.cli.options import ApiUrl, ClientPortOffset
from openledger.node.cli.session import endpoints
from openledger.node.errors import UserError
from openledger.node.factory import client
from openledger.node.payer import Api

app = typer.Typer(
    help="Fine-tune adapters on Datanets. Jobs belong to the node: closing a terminal stops nothing.",
    no_args_is_help=True,
)

Job = Annotated[str, typer.Argument(help="The job's id, from `finetune list`.")]
_VERSION = re.compile(r"(\d{1,10})(?::(\d{1,10}))?")


def watching(console: Console, description: str) -> tuple[Progress, Any]:
    """A bar with the live loss, and the callback that moves it with a job's events."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("[cyan]{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=console,
    )
    bar = bars.add_task(description, total=1, loss="")
    losses: dict[str, float] = {}

    def show(event: dict[str, Any]) -> None:
        if event["kind"] == "interrupted":
            console.print(f"[yellow]{escape(event['message'])}[/yellow]")
        for name, shown in (("loss", "loss"), ("held_out_loss", "held out"), ("accuracy", "right")):
            if event.get(name) is not None:
                losses[shown] = event[name]
        text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        bars.update(bar, description=f"{description}: {event.get('stage') or event['kind']}", loss=text)
        if event.get("total"):
            bars.update(bar, completed=event.get("step", 0), total=event["total"])

    return bars, show


@app.command("start")
def start(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    datanets: Annotated[
        list[str], typer.Option("--datanet", "-d", help="ID or ID:VERSION (default: the newest). May be repeated.")
    ],
    max_steps: Annotated[int, typer.Option(min=1, help="Most optimiser steps.")] = 40,
    epochs: Annotated[int, typer.Option(min=1)] = 3,
    rank: Annotated[int, typer.Option(min=1, max=256, help="LoRA rank.")] = 8,
    learning_rate: Annotated[float, typer.Option()] = 1e-3,
    objective: Annotated[
        Literal["text", "preferences"],
        typer.Option(
            help="text: to know the documents; preferences: to answer as people prefer (DPO), from documents of lines "
            '{"prompt": …, "chosen": …, "rejected": …}.'
        ),
    ] = "text",
    beta: Annotated[float, typer.Option(help="Of preferences: how closely to stay with the base model.")] = 0.1,
    qlora: Annotated[
        bool, typer.Option("--qlora", help="Hold the base model in four bits (NF4): less memory, slower steps.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow it until it is done.")] = True,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Start a fine-tuning job and follow it. Example: `openledger finetune start whales --datanet 1 --max-steps 20`"""
    where = endpoints(api=api, port_offset=port_offset)
    console = Console(highlight=False, soft_wrap=True)
    parameters = {
        "max_steps": max_steps,
        "epochs": epochs,
        "rank": rank,
        "alpha": 2 * rank,
        "learning_rate": learning_rate,
        "seed": seed,
        "objective": objective,
        "beta": beta,
        "quantization": "nf4" if qlora else "none",
    }

    async def run() -> None:
        async with Api(where.api) as node:
            versions = [await _version(node, text) for text in datanets]
            job = await client.start_finetune(node, name, versions, parameters)
            console.print(f"job {job['id']}: {counted(job['documents'], 'document')}")
            if watch:
                await _watch(console, node, job["id"], name)

    trio.run(run)


async def _version(node: Api, text: str) -> tuple[int, int]:
    """(Datanet, version) from ID or ID:VERSION. Raises UserError."""
    matched = _VERSION.fullmatch(text)
    if matched is None:
        raise UserError(f"{text!r} is not a Datanet: give ID or ID:VERSION, such as 1 or 1:2")
    datanet = int(matched[1])
    if matched[2]:
        return datanet, int(matched[2])
    newest = (await node.get(f"/v1/datanets/{datanet}"))["versions"]
    if not newest:
        raise UserError(f"Datanet {datanet} has no version yet: its owner runs `openledger datanet publish {datanet}`")
    return datanet, newest


async def _watch(console: Console, node: Api, job: str, name: str) -> None:
    bars, show = watching(console, escape(name))
    with bars:
        ended = await client.follow_finetune(node, job, show)
    console.print(f"job {job} is finished: `openledger release register NAME --job {job}` makes it a release")
    record = ended["record"] or {}
    for key in ("held_out_loss_base", "held_out_loss_adapter", "held_out_accuracy_adapter"):
        if key in record:
            console.print(f"{key.replace('_', ' ')}: {record[key]}")


@app.command("list")
def list_jobs(api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """List the node's fine-tuning jobs, newest first. Example: `openledger finetune list`"""

    async def run() -> list[dict[str, Any]]:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            jobs: list[dict[str, Any]] = (await node.get("/v1/fine-tunes?limit=500"))["fine_tunes"]
            return jobs

    table = Table("job", "name", "state", "Datanets", "step", "begun", "")
    for job in trio.run(run):
        progress = job["progress"] or {}
        table.add_row(
            job["id"],
            escape(job["name"]),
            job["state"],
            ", ".join(f"{d['datanet']}:{d['version']}" for d in job["datanets"]),
            f"{progress['step']}/{progress['total']}" if progress.get("total") else "",
            datetime.fromtimestamp(job["created_at"], UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
            escape(job["error"] or ""),
        )
    Console().print(table)


@app.command("watch")
def watch_job(job: Job, api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """Follow a job, from its first event. Example: `openledger finetune watch 3f2a90c1d2e4`"""
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> None:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            await _watch(console, node, job, (await node.get(f"/v1/fine-tunes/{job}"))["name"])

    trio.run(run)


@app.command("cancel")
def cancel(job: Job, api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """End a job that waits or runs. Example: `openledger finetune cancel 3f2a90c1d2e4`"""

    async def run() -> str:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            return str((await node.request("POST", f"/v1/fine-tunes/{job}/cancel"))["state"])

    Console().print(f"job {job} is {trio.run(run)}")
