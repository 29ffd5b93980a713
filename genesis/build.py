"""Rebuilds the committed artifacts: `npm ci` in genesis/contracts, then `python -m openledger.genesis.build`.

Only people who change contracts run this; it needs Node.js. The output does not depend on the machine:
solc is pinned, the metadata that solc would append is off, and the JSON is written in one fixed form.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from openledger.genesis.artifact import ARTIFACTS_FOLDER

CONTRACTS_FOLDER: Final = Path(__file__).parent / "contracts"

# Taken as built from @eth-optimism/contracts-bedrock; everything else is compiled from our sources.
OP_CONTRACTS: Final = (
    "Proxy",
    "ProxyAdmin",
    # on L2
    "BaseFeeVault",
    "L1FeeVault",
    "L2CrossDomainMessenger",
    "L2ERC721Bridge",
    "L2StandardBridge",
    "L2ToL1MessagePasser",
    "OptimismMintableERC20Factory",
    "OptimismMintableERC721Factory",
    "SequencerFeeVault",
    "WETH",
    # on L1
    "L1CrossDomainMessenger",
    "L1ERC721Bridge",
    "L1StandardBridge",
    "OptimismPortal",
    "SuperchainConfig",
)
# Contracts that tools expect at one address on every chain, by their name in the OP package's Preinstalls library.
PREINSTALLS: Final[Mapping[str, str]] = {
    "Multicall3": "MultiCall3Code",
    "DeterministicDeployer": "DeterministicDeploymentProxyCode",
}

_OP_PREINSTALLS: Final = "node_modules/@eth-optimism/contracts-bedrock/src/libraries/Preinstalls.sol"
_OP_ARTIFACTS: Final = "node_modules/@eth-optimism/contracts-bedrock/forge-artifacts"

SOLC_SETTINGS: Final[Mapping[str, Any]] = {
    "evmVersion": "prague",
    "viaIR": False,
    "optimizer": {"enabled": True, "runs": 10_000},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {
        "*": {
            "": ["ast"],
            "*": [
                "abi",
                "evm.bytecode.object",
                "evm.deployedBytecode.object",
                "evm.deployedBytecode.immutableReferences",
                "storageLayout",
            ],
        }
    },
}

# Imports resolve against the sources first and the pinned npm packages second.
_COMPILE_SCRIPT: Final = """
const fs = require("fs"), path = require("path"), solc = require("solc");
const read = name => {
  for (const root of [".", "node_modules"]) {
    const file = path.join(root, name);
    if (fs.existsSync(file)) return { contents: fs.readFileSync(file, "utf8") };
  }
  return { error: "no such source: " + name };
};
process.stdout.write(solc.compile(fs.readFileSync(0, "utf8"), { import: read }));
"""


class BuildFailed(Exception):
    """solc, or the tools around it, refused; the message says what to do."""


def build() -> dict[str, bytes]:
    """Compiles our contracts and collects the OP ones: file content of each artifact by contract name.

    Raises BuildFailed.
    """
    if not (CONTRACTS_FOLDER / _OP_ARTIFACTS).is_dir():
        raise BuildFailed(f"run `npm ci` in {CONTRACTS_FOLDER} first")
    compiled = {name: _encode(value) for name, value in _compile().items()}
    collected = {name: _encode(_collect(name)) for name in OP_CONTRACTS} | {
        name: _encode(_collect_preinstall(constant)) for name, constant in PREINSTALLS.items()
    }
    if both := compiled.keys() & collected.keys():
        raise BuildFailed(f"our sources define contracts that are taken from OP artifacts: {sorted(both)}")
    return dict(sorted({**compiled, **collected}.items()))


def _compile() -> dict[str, dict[str, Any]]:
    """Our deployable contracts; interfaces and abstract contracts give no artifact."""
    sources = sorted(
        path
        for path in CONTRACTS_FOLDER.rglob("*.sol")
        if "node_modules" not in path.relative_to(CONTRACTS_FOLDER).parts
    )
    request = {
        "language": "Solidity",
        "sources": {
            str(path.relative_to(CONTRACTS_FOLDER)): {"content": path.read_text(encoding="utf-8")} for path in sources
        },
        "settings": SOLC_SETTINGS,
    }
    try:
        run = subprocess.run(
            ["node", "-e", _COMPILE_SCRIPT],
            input=json.dumps(request).encode(),
            cwd=CONTRACTS_FOLDER,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise BuildFailed("Node.js is needed to build the contracts: install Node 20 or later") from None
    if run.returncode:
        raise BuildFailed(run.stderr.decode(errors="replace"))
    output = json.loads(run.stdout)
    problems = [problem["formattedMessage"] for problem in output.get("errors", [])]
    if problems:  # a warning fails the build too
        raise BuildFailed("\n".join(problems))
    artifacts: dict[str, dict[str, Any]] = {}
    names = _immutable_names(output["sources"])
    for source in request["sources"]:
        for name, contract in output["contracts"].get(source, {}).items():
            evm = contract["evm"]
            if not evm["deployedBytecode"]["object"]:
                continue
            if name in artifacts:
                raise BuildFailed(f"two sources define a contract {name}")
            artifacts[name] = _artifact(
                abi=contract["abi"],
                bytecode=evm["bytecode"]["object"],
                deployed_bytecode=evm["deployedBytecode"]["object"],
                storage=contract["storageLayout"],
                immutables={
                    names[int(node)]: [place["start"] for place in places]
                    for node, places in evm["deployedBytecode"].get("immutableReferences", {}).items()
                },
            )
    return artifacts


def _collect(name: str) -> dict[str, Any]:
    """One artifact of the OP package, whose JSON is Foundry's."""
    path = CONTRACTS_FOLDER / _OP_ARTIFACTS / f"{name}.sol" / f"{name}.json"
    document = json.loads(path.read_bytes())
    # The vaults' immutables are declared in the contract they inherit from.
    inherited = json.loads((CONTRACTS_FOLDER / _OP_ARTIFACTS / "FeeVault.sol" / "FeeVault.json").read_bytes())
    names = _immutable_names({"own": document, "inherited": inherited})
    return _artifact(
        abi=document["abi"],
        bytecode=document["bytecode"]["object"],
        deployed_bytecode=document["deployedBytecode"]["object"],
        storage=document["storageLayout"],
        immutables={
            names[int(node)]: [place["start"] for place in places]
            for node, places in document["deployedBytecode"].get("immutableReferences", {}).items()
        },
    )


def _collect_preinstall(constant: str) -> dict[str, Any]:
    """Runtime code that the OP package keeps as a constant; it comes without an ABI."""
    source = (CONTRACTS_FOLDER / _OP_PREINSTALLS).read_text(encoding="utf-8")
    found = re.search(rf'\b{constant}\s*=\s*hex"([0-9a-f]+)";', source)
    if found is None:
        raise BuildFailed(f"the OP package's Preinstalls library has no constant {constant}")
    return _artifact(
        abi=[], bytecode="", deployed_bytecode=found[1], storage={"storage": [], "types": {}}, immutables={}
    )


def _artifact(
    *,
    abi: Any,
    bytecode: str,
    deployed_bytecode: str,
    storage: Mapping[str, Any],
    immutables: Mapping[str, list[int]],
) -> dict[str, Any]:
    return {
        "abi": abi,
        "bytecode": bytecode.removeprefix("0x"),
        "deployedBytecode": deployed_bytecode.removeprefix("0x"),
        "immutables": dict(sorted(immutables.items())),
        "storageLayout": [
            {
                "label": variable["label"],
                "slot": int(variable["slot"]),
                "offset": variable["offset"],
                # A type's name holds the compiler's node numbers; its label does not.
                "type": storage["types"][variable["type"]]["label"],
            }
            for variable in storage["storage"]
        ],
    }


def _immutable_names(sources: Mapping[str, Any]) -> dict[int, str]:
    """Names of all immutable variables by their node number in the syntax tree."""
    names: dict[int, str] = {}
    pending: list[Any] = [source["ast"] for source in sources.values()]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            if node.get("nodeType") == "VariableDeclaration" and node.get("mutability") == "immutable":
                names[node["id"]] = node["name"]
            pending.extend(value for value in node.values() if isinstance(value, dict | list))
    return names


def _encode(artifact: Mapping[str, Any]) -> bytes:
    return json.dumps(artifact, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes artifacts/, or with --check only compares; exit status 1 when a build fails or differs."""
    parser = argparse.ArgumentParser(prog="python -m openledger.genesis.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args(arguments).check
    try:
        artifacts = build()
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    committed = {path.stem: path.read_bytes() for path in ARTIFACTS_FOLDER.glob("*.json")}
    changed = sorted(name for name in artifacts.keys() | committed if artifacts.get(name) != committed.get(name))
    if check:
        for name in changed:
            print(f"{name}: the committed artifact differs from a rebuild", file=sys.stderr)
        return 1 if changed else 0
    for name in changed:
        path = ARTIFACTS_FOLDER / f"{name}.json"
        if name in artifacts:
            path.write_bytes(artifacts[name])
        else:
            path.unlink()
        print(f"{'wrote' if name in artifacts else 'removed'} {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
