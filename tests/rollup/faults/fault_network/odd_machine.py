"""`openledger` on a machine whose clock is wrong: `odd_machine.py CLOCK_FILE ARGUMENTS…`. The file holds by how many seconds
the clock is ahead, and may change at any time, as when somebody sets the clock."""

import sys
import time
from pathlib import Path

real = time.time
clock_file = Path(sys.argv[1])


def shifted() -> float:
    try:
        return real() + float(clock_file.read_text() or 0)
    except (OSError, ValueError):
        return real()


time.time = shifted
sys.argv = ["openledger", *sys.argv[2:]]

from openledger.node.cli.main import main  # noqa: E402

main()
