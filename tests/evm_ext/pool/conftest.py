"""A chain for pools: rich keys 0 to 7, a poor one, one with code, and delegations."""

from __future__ import annotations

import pytest

from openledger.genesis.genesis import GenesisAccount


@pytest.fixture
def chain(tools, open_chain):
    contract = {tools.ADDRESSES[9]: GenesisAccount(balance=10**20, code=b"\x00")}
    poor = {tools.ADDRESSES[8]: GenesisAccount(balance=10**15)}
    delegated = {tools.ADDRESSES[7]: GenesisAccount(balance=10**20, code=b"\xef\x01\x00" + b"\xcc" * 20)}
    chain = open_chain(tools.op_genesis({**contract, **poor, **delegated}))
    tools.extend(chain, (tools.l1_info_transaction(operator_fee_constant=1000),))
    return chain
