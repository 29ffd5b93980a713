"""The second node of a devnet: a validator in a process, a folder and on ports of its own."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import httpx
import structlog
import trio

from openledger.node.config import VALIDATOR_PORT_STEP, Config, Endpoints
from openledger.node.errors import UserError
from openledger.node.rollup_node import RollupNode
from openledger.node.supervisor import Service

log = structlog.get_logger(__name__)

STOP_S = 15.0
LOG_TAIL_BYTES = 64 << 10


class ValidatorEnded(UserError):
    """The validator's process ended by itself; the message says why, as far as it said so."""


def validator_config(config: Config) -> Config:
    """The validator's configuration beside a `dev` node's, without its peers."""
    endpoints = Endpoints.of(config)
    return config.model_copy(
        update={
            "role": "validator",
            "data_dir": config.folder / "validator",
            "port_offset": config.port_offset + VALIDATOR_PORT_STEP,
            "network_file": config.folder / "network.json",
            "l1_rpc_url": endpoints.l1_rpc,
            "da_url": endpoints.da,
            "sequencer_rpc_url": endpoints.rpc,
            # It reads what the sequencer disperses, and pays for nothing.
            "da_payment_key": "",
            "eigenda": config.eigenda.model_copy(update={"disperser": ""}),
        }
    )


def command(config: Config, peers: list[str]) -> list[str]:
    """The command line of the validator."""
    flags = {
        "--role": "validator",
        "--data-dir": str(config.data_dir),
        "--port-offset": str(config.port_offset),
        "--host": config.host,
        "--network-file": str(config.network_file),
        "--l1-rpc-url": config.l1_rpc_url,
        "--da-url": config.da_url,
        "--sequencer-rpc-url": config.sequencer_rpc_url,
        "--log-level": config.log_level,
        "--log-format": config.log_format,
        "--parent-pid": str(os.getpid()),
    }
    line = [sys.executable, "-P", "-m", "openledger.node.cli.main", "node"]
    for flag, value in flags.items():
        line += [flag, value]
    for url in config.l1_beacon_urls:
        line += ["--l1-beacon-url", url]
    line.append("--serving" if config.serving else "--no-serving")
    for peer in peers:
        line += ["--peer", peer]
    return line


def environment(config: Config) -> dict[str, str]:
    """The validator's environment: ours, with how it reaches EigenDA, for which there are no flags."""
    return {
        **os.environ,
        "OPENLEDGER_DA_ROUTE": config.da_route,
        "OPENLEDGER_DA_TRUST": config.da_trust,
        "OPENLEDGER_DA_CERT_VERIFIER": config.da_cert_verifier,
        "OPENLEDGER_DA_PAYMENT_KEY": config.da_payment_key,
        "OPENLEDGER_EIGENDA": config.eigenda.model_dump_json(),
    }


def validator_service(node: RollupNode) -> Service:
    """Runs the validator and keeps its health in sight; the supervisor starts it again when it dies."""
    config = validator_config(node.config)
    health_url = f"{Endpoints.of(config).api}/health"
    log_file = node.config.folder / "validator.log"
    waiting: list[str | None] = ["starting"]
    ended = [""]

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        waiting[0] = "starting"
        line = command(config, await node.p2p.addresses())
        async with await trio.open_file(log_file, "ab") as output, trio.open_nursery() as nursery:
            before = log_file.stat().st_size
            start = partial(
                trio.run_process,
                line,
                env=environment(config),
                stdout=output,
                stderr=output,
                check=False,
                deliver_cancel=_stop,
            )
            process: trio.Process = await nursery.start(start)
            log.info("validator started", pid=process.pid, log=str(log_file))
            task_status.started()
            nursery.start_soon(_watch, health_url, waiting, ended)
            status = await process.wait()
            ended[0] = f"it ended with status {status}{_last_error(log_file, before)}; its log is {log_file}"
            raise ValidatorEnded(ended[0])

    return Service("validator", run, probe=lambda: waiting[0])


def _last_error(log_file: Path, start: int) -> str:
    """What the process printed as its error, of what is in its log from byte `start` on."""
    with open(log_file, "rb") as file:
        file.seek(max(start, log_file.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return f" ({said[-1]})" if said else ""


async def _stop(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(STOP_S):
        await process.wait()
        return
    process.kill()


async def _watch(url: str, waiting: list[str | None], ended: list[str]) -> None:
    """Keep `waiting[0]` None while the validator answers that it is ready; why it ended last is told until it answers."""
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        while True:
            try:
                answer = await client.get(url)
                problems = [f"{name}: {s}" for name, s in answer.json()["services"].items() if s != "ready"]
                waiting[0], ended[0] = "; ".join(problems) or None, ""
            except (httpx.HTTPError, ValueError, KeyError) as error:
                waiting[0] = ended[0] or f"its health does not answer ({type(error).__name__})"
            await trio.sleep(1.0)
