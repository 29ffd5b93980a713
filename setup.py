"""Lists the packages for setup.cfg: `find:` cannot map the prefix `openledger` onto the repository root."""

from pathlib import Path

from setuptools import setup

FOLDERS = ("genesis", "evm_ext", "rollup", "p2p", "kernels", "node")
ROOT = Path(__file__).parent

setup(
    packages=[
        ".".join(("openledger", *init.parent.relative_to(ROOT).parts))
        for folder in FOLDERS
        for init in sorted((ROOT / folder).rglob("__init__.py"))
        if "node_modules" not in init.parts
    ]
)
