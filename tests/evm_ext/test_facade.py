"""The package's front door."""

from __future__ import annotations

import subprocess
import sys

import pytest

import openledger.evm_ext


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )


def test_proof_codecs_do_not_bring_the_virtual_machine():
    modules = _modules_after("import openledger.evm_ext.proofs.merkle")
    assert "openledger.evm_ext.chain" not in modules
    assert not any(name.startswith("eth.vm") for name in modules)


def test_transaction_codecs_do_not_bring_the_virtual_machine():
    modules = _modules_after("from openledger.evm_ext import decode_transaction, DepositTransaction, PayloadAttributes")
    assert not any(name.startswith("eth.vm") for name in modules)


def test_every_public_name_is_there():
    for name in openledger.evm_ext.__all__:
        assert getattr(openledger.evm_ext, name) is not None
    with pytest.raises(AttributeError):
        _ = openledger.evm_ext.nonsense
