"""The wheel must hold every file of the six folders that git tracks, and nothing else.

Run as: python tests/check_wheel.py dist/NAME.whl
"""

import subprocess
import sys
import zipfile
from pathlib import PurePosixPath

FOLDERS = ("genesis", "evm_ext", "rollup", "p2p", "kernels", "node")
NOT_SHIPPED = {"package.json", "package-lock.json", ".npmrc", ".gitignore"}


def expected() -> set[str]:
    tracked = subprocess.run(["git", "ls-files", *FOLDERS], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    return {f"openledger/{path}" for path in tracked if path and PurePosixPath(path).name not in NOT_SHIPPED}


def main(wheel: str) -> int:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("openledger/")}
    missing, extra = expected() - held, held - expected()
    for name in sorted(missing):
        print(f"missing from the wheel: {name}")
    for name in sorted(extra):
        print(f"in the wheel but not in git: {name}")
    print(f"{wheel}: {len(held)} files")
    return 1 if missing or extra else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
