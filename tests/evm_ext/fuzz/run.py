"""Fuzz the virtual machine for as long as one likes: `python tests/evm_ext/fuzz/run.py --seconds 600 --seed 7`.

Every case runs in the plain tier, in generated code, in the mix of both, in revm where it can; with `--anvil` also in
anvil (London and later), with `--eels PYTHON` in the execution specs installed for that interpreter (all forks).
Failures are made small and written to `--out`; the exit code is 1 if there were any.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from evm_fuzz import anvil, compare, eels, generate
from evm_fuzz.case import Case, difference
from evm_fuzz.shrink import shrink

from openledger.genesis.hardforks import Hardfork

SWEPT = 0.1
SWEEP_LIMITS = 60


def case_of(seed: int, number: int, forks: list[Hardfork]) -> Case:
    """The case with this number: nothing else decides it."""
    chance = random.Random(seed * 1_000_003 + number)
    fork = Hardfork.CANCUN if Hardfork.CANCUN in forks and chance.random() < 0.4 else chance.choice(forks)
    roll = chance.random()
    if roll < 0.04 and Hardfork.PRAGUE in forks:
        return generate.op_case(chance)
    make = generate.transaction_case if roll < 0.2 else generate.program_case
    return make(chance, fork)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--forks", default="all", help="names with commas: CANCUN,PRAGUE; all by default")
    parser.add_argument("--anvil", action="store_true", help="ask anvil, too (tests/clients must be installed)")
    parser.add_argument("--eels", metavar="PYTHON", help="an interpreter that can import ethereum (execution-specs)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--failures", type=int, default=5, help="stop after so many")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    forks = list(Hardfork) if arguments.forks == "all" else [Hardfork[name] for name in arguments.forks.split(",")]
    print(f"seed {arguments.seed}, forks {', '.join(fork.name for fork in forks)}", flush=True)
    counts: Counter[str] = Counter()
    failures = 0
    end = time.monotonic() + arguments.seconds
    started = time.monotonic()
    with ExitStack() as stack:
        chains: dict[tuple[Hardfork, bool], anvil.Anvil] = {}
        specs = stack.enter_context(eels.Eels(arguments.eels)) if arguments.eels else None
        number = 0
        while time.monotonic() < end and failures < arguments.failures:
            case = case_of(arguments.seed, number, forks)
            number += 1
            expected = compare.plain(case)
            found = list(compare.disagreements(case, expected))
            counts["cases"] += 1
            counts["refused" if expected.refused else "success" if expected.success else "failure"] += 1
            chance = random.Random(number)
            if not found and not expected.refused and chance.random() < SWEPT:
                found = list(compare.sweep(case, expected, SWEEP_LIMITS, chance.randrange))
                counts["swept"] += 1
            if not found and arguments.anvil and anvil.can_run(case) and case.fork >= Hardfork.LONDON:
                rules = case.fork, case.is_op
                if rules not in chains:
                    chains[rules] = stack.enter_context(
                        anvil.Anvil(case.fork, "optimism" if case.is_op else "ethereum")
                    )
                found = list(anvil.disagreements(chains[rules], case))
                counts["anvil"] += 1
            if not found and specs is not None and eels.can_run(case):
                what = difference(expected, specs.run(case))
                found = [compare.Disagreement(case, "eels", what)] if what else []
                counts["eels"] += 1
            for disagreement in found[:1]:
                failures += 1
                report(disagreement, arguments.out, f"{arguments.seed}-{number - 1}")
    seconds = time.monotonic() - started
    print(f"{failures} failures; {counts['cases'] / seconds:.0f} cases a second; {dict(counts)}")
    return 1 if failures else 0


def report(disagreement: compare.Disagreement, out: Path, name: str) -> None:
    """Make the case small and write it down."""
    print(f"case {name}, {disagreement.case.fork.name}, {disagreement.runner}: {disagreement.what[:1000]}", flush=True)
    if disagreement.runner not in ("anvil", "eels"):
        small = shrink(disagreement.case, compare.fails_likewise(disagreement))
        again = [found for found in compare.disagreements(small) if found.runner == disagreement.runner]
        disagreement = again[0] if again else disagreement
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{disagreement.runner}-{name}.json"
    content = {"runner": disagreement.runner, "what": disagreement.what, "case": disagreement.case.to_json()}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"  small: {disagreement.what[:500]}\n  written to {path}", flush=True)
    codes = [account.code.hex() for account in disagreement.case.accounts.values() if account.code]
    print(f"  code {codes} data {disagreement.case.data.hex()} gas {disagreement.case.gas}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
