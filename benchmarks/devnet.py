"""The whole devnet on this machine: memory of each of its processes, idle and while serving, and the quickstart's time.

Starts `openledger dev` in a temporary folder on free ports, tells the quickstart's story on it, then has several
accounts ask at once. Memory is the proportional set size (shared pages divided among those who share them), so that
the sum is what the machine really gives. Prints a table and writes results/devnet.json. Linux only.

    python benchmarks/devnet.py [--without-quickstart] [--callers N] [--seconds S]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import trio

from openledger.genesis.dev_accounts import USERS
from openledger.node.config import VALIDATOR_PORT_STEP, Endpoints, Ports, load_config
from openledger.node.payer import Api, Payer
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet

RESULT = Path(__file__).parent / "results/devnet.json"
NAMES = {
    "openledger.kernels.engine.worker": "engine",
    "openledger.kernels.attribution.worker": "attribution",
    "openledger.kernels.finetune": "fine-tuning",
    "openledger.rollup.da.worker": "blob worker",
}
START_S = 300.0
AIM_MIB, AIM_CHAIN_MIB = 4096, 500


def free_offset() -> int:
    """A port offset at which nothing listens."""
    while True:
        offset = random.randrange(100, 20_000, 2 * VALIDATOR_PORT_STEP)
        try:
            for step in (0, VALIDATOR_PORT_STEP):
                for port in Ports().shifted(offset + step).model_dump().values():
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return offset


def descendants(root: int) -> dict[int, tuple[int, str]]:
    """Process id → (parent's id, command line) of `root` and everything below it."""
    rows: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, IndexError):
            continue
        rows[int(folder.name)] = (parent, command)
    found = {root}
    while True:
        more = {pid for pid, (parent, _) in rows.items() if parent in found} - found
        if not more:
            return {pid: rows[pid] for pid in found if pid in rows}
        found |= more


def memory_mib(pid: int) -> float:
    """Proportional set size; 0 for a process that is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class Memory:
    """Samples the devnet's processes by their role, all the time, in a thread."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._peaks: dict[str, float] = {}
        self._peak_together = 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._keep, daemon=True).start()

    def now(self) -> dict[str, float]:
        """MiB by role."""
        tree = descendants(self._root)
        validator = next((pid for pid, (_, c) in tree.items() if "--role validator" in c), None)
        found: defaultdict[str, float] = defaultdict(float)
        for pid, (parent, command) in tree.items():
            role = next((name for module, name in NAMES.items() if module in command), "")
            if pid == self._root:
                role = "chain and services"
            elif pid == validator:
                role = "validator: chain and services"
            elif role and parent == validator:
                role = f"validator: {role}"
            found[role or "other"] += memory_mib(pid)
        return dict(found)

    def begin(self) -> None:
        """Forget the peaks."""
        with self._lock:
            self._peaks, self._peak_together = {}, 0.0

    def peaks(self) -> dict[str, int]:
        """The largest of each role since `begin`, and of all together at one time."""
        with self._lock:
            return {
                **{name: round(mib) for name, mib in sorted(self._peaks.items())},
                "together": round(self._peak_together),
            }

    def _keep(self) -> None:
        while True:
            now = self.now()
            with self._lock:
                for role, mib in now.items():
                    self._peaks[role] = max(self._peaks.get(role, 0.0), mib)
                self._peak_together = max(self._peak_together, sum(now.values()))
            time.sleep(0.5)


def wait_until_ready(process: subprocess.Popen[bytes], api: str) -> float:
    """Seconds until /health was 200."""
    began = time.monotonic()
    while time.monotonic() - began < START_S:
        if process.poll() is not None:
            raise SystemExit(f"the devnet ended with {process.returncode}: see its log above")
        try:
            if httpx.get(f"{api}/health", timeout=5, trust_env=False).status_code == 200:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the devnet is not ready after {START_S:.0f} s")


async def ask_at_once(endpoints: Endpoints, model: str, callers: int, seconds: float) -> dict[str, Any]:
    """Let that many accounts ask one question after another; what came of it."""
    answers, tokens, first_token_s = [0], [0], []

    async def caller(number: int) -> None:
        wallet = Wallet(USERS[number % len(USERS)].private_key)
        async with Api(endpoints.api) as api, RpcClient(endpoints.rpc) as rpc:
            payer = Payer.of(wallet, await api.provider())
            await payer.fund(rpc, api, 5_000_000)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                messages = [{"role": "user", "content": f"{number}: what do sailors say about the whale?"}]
                body = {"model": model, "messages": messages, "max_tokens": 64}
                began = time.monotonic()
                seen = False
                async with aclosing(payer.ask(api, body)) as chunks:
                    async for chunk in chunks:
                        if not seen and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                            first_token_s.append(time.monotonic() - began)
                            seen = True
                        if "openledger" in chunk:
                            receipt = await api.get(f"/v1/receipts/{chunk['openledger']['receipt_hash']}")
                            tokens[0] += receipt["output_tokens"]
                answers[0] += 1

    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for number in range(callers):
            nursery.start_soon(caller, number)
    took = time.monotonic() - began
    first_token_s.sort()
    return {
        "callers": callers,
        "answers": answers[0],
        "seconds": round(took, 1),
        "tokens_per_s": round(tokens[0] / took, 1),
        "median_first_token_s": round(first_token_s[len(first_token_s) // 2], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-quickstart", action="store_true", help="only start it and measure it idle")
    parser.add_argument("--callers", type=int, default=4, help=f"accounts that ask at once, up to {len(USERS)}")
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long they ask")
    arguments = parser.parse_args()
    command = [sys.executable, "-P", "-m", "openledger.node.cli.main"]
    with tempfile.TemporaryDirectory(prefix="openledger-benchmark-") as folder:
        offset = free_offset()
        endpoints = Endpoints.of(load_config(port_offset=offset))
        where = ["--data-dir", f"{folder}/data", "--port-offset", str(offset)]
        with open(f"{folder}/dev.log", "wb") as log:
            dev = subprocess.Popen([*command, "dev", *where], stdout=log, stderr=log, start_new_session=True)
        try:
            result = measure(dev, command, where, endpoints, Path(folder), arguments)
        except BaseException:
            print(Path(f"{folder}/dev.log").read_text(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            dev.send_signal(signal.SIGINT)
            try:
                dev.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(dev.pid, signal.SIGKILL)
    show(result)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def measure(
    dev: subprocess.Popen[bytes],
    command: list[str],
    where: list[str],
    endpoints: Endpoints,
    folder: Path,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    memory = Memory(dev.pid)
    ready_s = wait_until_ready(dev, endpoints.api)
    time.sleep(5)
    memory.begin()
    time.sleep(10)
    result: dict[str, Any] = {
        "what": "openledger dev with its validator: proportional set size in MiB, wall times in seconds",
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: importlib.metadata.version(name) for name in ("openledger-node", "torch", "py-evm", "trio")},
        "aim": {"while_serving_mib": AIM_MIB, "chain_process_mib": AIM_CHAIN_MIB},
        "ready_after_s": round(ready_s, 1),
        "idle_mib": memory.peaks(),
    }
    if arguments.without_quickstart:
        return result
    memory.begin()
    report = folder / "quickstart.json"
    told = subprocess.run(
        [*command, "quickstart", *where, "--json", str(report)], capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise SystemExit(f"the quickstart failed:\n{told.stdout[-2000:]}{told.stderr[-2000:]}")
    result["quickstart"] = json.loads(report.read_text())
    result["quickstart_peak_mib"] = memory.peaks()
    models = httpx.get(f"{endpoints.api}/v1/models", trust_env=False).json()["data"]
    memory.begin()
    result["serving"] = trio.run(ask_at_once, endpoints, models[0]["id"], arguments.callers, arguments.seconds)
    result["serving_peak_mib"] = memory.peaks()
    return result


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def show(result: dict[str, Any]) -> None:
    kinds = [kind for kind in ("idle_mib", "quickstart_peak_mib", "serving_peak_mib") if kind in result]
    roles = sorted({role for kind in kinds for role in result[kind]} - {"together"})
    print(f"{'MiB':32}" + "".join(f"{kind.removesuffix('_mib').replace('_', ' '):>18}" for kind in kinds))
    for role in [*roles, "together"]:
        print(f"{role:32}" + "".join(f"{result[kind].get(role, 0):>18}" for kind in kinds))
    print(f"ready after {result['ready_after_s']} s")
    if "serving" in result:
        print(f"quickstart {result['quickstart']['total_s']:.0f} s; serving {result['serving']}")
        if result["serving_peak_mib"]["together"] > AIM_MIB:
            print(f"above the aim of {AIM_MIB} MiB while serving")


if __name__ == "__main__":
    main()
