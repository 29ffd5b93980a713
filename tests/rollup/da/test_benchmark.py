"""The benchmark of data availability runs from end to end, at sizes of toys."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "da.py"


def test_it_measures_every_step_and_writes_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "da.json"
    toy = [
        "--sizes",
        "1,2",
        "--proofs",
        "1,2",
        "--chunks",
        "16",
        "--workers",
        "1",
        "--repeat",
        "1",
        "--py-ecc-elements",
        "2",
    ]
    subprocess.run([sys.executable, str(SCRIPT), *toy, "--out", str(out)], check=True, timeout=500)
    found = json.loads(out.read_text())
    steps = {
        "encode",
        "decode",
        "chunks",
        "commitment",
        "three commitments",
        "verify",
        "reconstruct from an eighth",
        "chunk proofs",
        "verify an eighth of the chunks",
    }
    assert set(found["sizes"]) == {"1 KiB", "2 KiB"}
    for row in found["sizes"].values():
        assert set(row["mb_per_s"]) == steps
        assert min(row["mb_per_s"].values()) > 0
        assert row["library_three_commitments_s"] > 0
    assert set(found["growth"]) == steps
    assert found["py_ecc"]["three_commitments_s"] > 0
    assert found["published"]["mb_per_s"] == 2.8
    assert set(found["workers"]) == {"1"}
