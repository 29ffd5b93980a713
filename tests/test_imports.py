"""The house's floors: a package imports only from the packages below it (README of the repository)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "genesis": set(),
    "evm_ext": {"genesis"},
    "rollup": {"genesis", "evm_ext"},
    "p2p": {"genesis", "evm_ext"},
    "kernels": {"genesis", "evm_ext.proofs"},
    "node": {"genesis", "evm_ext", "rollup", "p2p", "kernels"},
}


def imported(file: Path) -> set[str]:
    """Dotted names under `openledger` that a file imports, without the prefix."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("openledger.") for name in names if name.startswith("openledger.")}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_package_imports_only_from_the_floors_below(folder: str) -> None:
    files = [f for f in (ROOT / folder).rglob("*.py") if "node_modules" not in f.parts]
    assert files
    allowed = MAY_IMPORT[folder] | {folder}
    for file in files:
        for name in imported(file):
            assert any(name == a or name.startswith(a + ".") for a in allowed), (
                f"{file.relative_to(ROOT)} imports {name}"
            )


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("openledger.genesis", "eth"),
        ("openledger.evm_ext.proofs", "eth.vm"),
        ("openledger.node.cli.main", "torch"),
        ("openledger.kernels", "torch"),
    ],
)
def test_importing_one_part_does_not_load_a_heavy_one(module: str, forbidden: str) -> None:
    program = f"import sys, {module}; sys.exit({forbidden!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"{module} loads {forbidden}"


def test_each_of_the_six_folders_has_a_readme() -> None:
    for folder in MAY_IMPORT:
        assert (ROOT / folder / "README.md").is_file(), folder
