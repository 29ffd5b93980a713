"""The committed artifacts against their sources."""

import subprocess
import sys
from pathlib import Path

import pytest

from openledger.genesis import build as build_module
from openledger.genesis.artifact import ARTIFACTS_FOLDER, UnknownArtifact, artifact
from openledger.genesis.build import CONTRACTS_FOLDER, OP_CONTRACTS, PREINSTALLS, BuildFailed, build

OURS = sorted(
    path.stem
    for path in CONTRACTS_FOLDER.rglob("*.sol")
    if "node_modules" not in path.parts and f"contract {path.stem} " in path.read_text()
)


@pytest.mark.interop
def test_the_committed_artifacts_are_what_a_rebuild_gives_byte_for_byte():
    if not (CONTRACTS_FOLDER / "node_modules").is_dir():
        pytest.skip("needs `npm ci` in genesis/contracts")
    rebuilt = build()
    committed = {path.stem: path.read_bytes() for path in ARTIFACTS_FOLDER.glob("*.json")}
    assert sorted(rebuilt) == sorted(committed)
    assert [name for name in rebuilt if rebuilt[name] != committed[name]] == []


def test_every_contract_of_ours_has_a_committed_artifact():
    assert set(OURS) >= {"L1Block", "GasPriceOracle", "OperatorFeeVault", "OpenToken", "SystemConfig"}
    committed = {path.stem for path in ARTIFACTS_FOLDER.glob("*.json")}
    assert committed >= {*OURS, *OP_CONTRACTS, *PREINSTALLS}


def test_a_build_without_npm_packages_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "CONTRACTS_FOLDER", tmp_path)
    with pytest.raises(BuildFailed, match="npm ci"):
        build()


@pytest.mark.interop
def test_a_contract_that_does_not_compile_fails_the_build(tmp_path, monkeypatch):
    if not (CONTRACTS_FOLDER / "node_modules").is_dir():
        pytest.skip("needs `npm ci` in genesis/contracts")
    (tmp_path / "node_modules").symlink_to(CONTRACTS_FOLDER / "node_modules")
    (tmp_path / "Broken.sol").write_text(
        "// SPDX-License-Identifier: MIT\npragma solidity 0.8.37; contract Broken { int x = ; }"
    )
    monkeypatch.setattr(build_module, "CONTRACTS_FOLDER", tmp_path)
    with pytest.raises(BuildFailed, match=r"Broken\.sol"):
        build()


def test_the_lock_file_records_no_download_addresses():
    assert "resolved" not in (CONTRACTS_FOLDER / "package-lock.json").read_text()


def test_an_unknown_artifact_is_answered_with_the_known_ones():
    with pytest.raises(UnknownArtifact, match="L1Block"):
        artifact("L3Block")


def test_state_is_packed_as_the_compiler_packs_it():
    config = artifact("SystemConfig")
    words = config.storage(unsafeBlockSigner=b"\x11" * 20, gasLimit=2, basefeeScalar=3, operatorFeeConstant=4)
    assert words == {3: 3 << 224 | 2 << 160 | int("11" * 20, 16), 4: 4 << 128}
    with pytest.raises(ValueError, match="uint64"):
        config.storage(gasLimit=2**64)
    with pytest.raises(KeyError, match="gasLimits"):
        config.storage(gasLimits=1)


def test_a_long_string_is_stored_behind_its_slot():
    text = "x" * 40
    words = artifact("OpenToken").storage(_name=text)
    assert words[3] == 81
    assert len(words) == 3


def test_immutables_must_all_be_given():
    vault = artifact("OperatorFeeVault")
    with pytest.raises(ValueError, match="RECIPIENT"):
        vault.with_immutables(RECIPIENT=1)


def test_the_builder_explains_itself():
    run = subprocess.run(
        [sys.executable, "-m", "openledger.genesis.build", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert "npm ci" in run.stdout
