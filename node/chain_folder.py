"""The folder that a chain lives in, opened for a program that somebody started."""

from __future__ import annotations

from pathlib import Path

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import DatabaseCorrupt, DatabaseLocked, GenesisInvalid, GenesisMismatch
from openledger.evm_ext.state.policy import ARCHIVE, StateHistory
from openledger.genesis.genesis import Genesis
from openledger.node.errors import StartupError


def open_chain(folder: Path, genesis: Genesis, address_index: bool = False, history: StateHistory = ARCHIVE) -> Chain:
    """Open a chain's folder. Raises StartupError saying what to do about it."""
    try:
        return Chain.open(folder, genesis, address_index=address_index, history=history)
    except (GenesisInvalid, GenesisMismatch, DatabaseLocked, DatabaseCorrupt) as error:
        raise StartupError(str(error)) from error
    except OSError as error:
        raise StartupError(f"the folder {folder} cannot be used: {error.strerror or error}") from error
