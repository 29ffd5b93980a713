"""Compiles the client tests' contracts with the solc and the OpenZeppelin package of genesis/contracts.

npm ci --prefix genesis/contracts && python tests/clients/contracts/rebuild.py
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGES = FOLDER.parents[2] / "genesis/contracts"
COMPILER = "solc 0.8.37, prague, optimizer 200, no metadata"
SETTINGS = {
    "evmVersion": "prague",
    "optimizer": {"enabled": True, "runs": 200},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
}
COMPILE = """
const fs = require('fs'), path = require('path'), solc = require('solc')
const read = name => {
  const file = path.join('node_modules', name)
  return fs.existsSync(file) ? { contents: fs.readFileSync(file, 'utf8') } : { error: 'no such source: ' + name }
}
process.stdout.write(solc.compile(fs.readFileSync(0, 'utf8'), { import: read }))
"""


def compiled() -> dict[str, str]:
    """The text of each artifact by its file name. Raises RuntimeError with what solc says."""
    sources = {file.name: {"content": file.read_text()} for file in sorted(FOLDER.glob("*.sol"))}
    request = {"language": "Solidity", "sources": sources, "settings": SETTINGS}
    done = subprocess.run(
        ["node", "-e", COMPILE], input=json.dumps(request), cwd=PACKAGES, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    output = json.loads(done.stdout)
    if output.get("errors"):
        raise RuntimeError("\n".join(item["formattedMessage"] for item in output["errors"]))
    artifacts = {}
    for source in sources:
        name = source.removesuffix(".sol")
        contract = output["contracts"][source][name]
        artifact = {
            "compiler": COMPILER,
            "abi": contract["abi"],
            "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        }
        artifacts[f"{name}.json"] = json.dumps(artifact, indent=1) + "\n"
    return artifacts


if __name__ == "__main__":
    for name, text in compiled().items():
        (FOLDER / name).write_text(text)
