"""A block executed from nothing but a witness: the same block, or the name of what is missing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from openledger.evm_ext import DepositTransaction, Header
from openledger.evm_ext.errors import InvalidBlockTransaction, InvalidWitness, MissingWitness, UndecodableBlock
from openledger.evm_ext.genesis_block import genesis_block
from openledger.evm_ext.stateless import differences, execute
from openledger.evm_ext.transactions import transaction_from_deposit
from openledger.evm_ext.vm.rules import Rules
from openledger.evm_ext.witness import Witness
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256

CHAIN_ID = 161299
STORE = b"\x0a" * 20
# Pairs of words in the calldata are slots and values: for (i = 0; size > i; i += 64) sstore(word(i), word(i + 32))
STORE_CODE = bytes.fromhex("5f5b803611600a5700005b8060200135813555604001600156")
DEEP = b"\x0b" * 20
# Stores the hash of the block six before this one: sstore(0, blockhash(number - 6))
DEEP_CODE = bytes.fromhex("600643034060005500")
CREATION = bytes.fromhex("602a60005560016000f3")


def pairs(*slots: tuple[int, int]) -> bytes:
    return b"".join(slot.to_bytes(32, "big") + value.to_bytes(32, "big") for slot, value in slots)


class Setting:
    """A chain on disk a few blocks long, and everything its state was ever made of, by hash."""

    def __init__(self, chain, tools):
        self.rules = Rules.from_genesis(chain.genesis)
        block, changes = genesis_block(chain.genesis)
        self.preimages = [block.header.encode(), *changes.nodes.values(), *changes.codes.values()]
        self.parent = block.header
        for nonce in range(8):
            transaction = tools.signed(0, CHAIN_ID, nonce, b"\xbb" * 20, value=1)
            built = tools.extend(chain, (transaction,))
            executed = execute(
                self.rules, self.parent, tools.attributes(self.parent, (transaction.raw,)), Witness(self.preimages)
            )
            assert executed.block.hash == built.hash
            self.parent = built.header
            self.preimages += [built.header.encode(), *executed.executed.changes.nodes.values()]
        deposit = DepositTransaction(b"\x11" * 32, b"\xaa" * 20, b"\xbb" * 20, 5, 3, 50_000, False, b"")
        transactions = (
            transaction_from_deposit(deposit),
            tools.signed(0, CHAIN_ID, 8, b"\xcc" * 20, value=7),
            tools.signed(1, CHAIN_ID, 0, None, data=CREATION, gas=200_000),
            tools.signed(2, CHAIN_ID, 0, STORE, data=pairs(*((slot, 0) for slot in range(37))), gas=900_000),
            tools.signed(3, CHAIN_ID, 0, STORE, data=pairs((5, 9), (100, 1)), gas=200_000),
            tools.signed(4, CHAIN_ID, 0, DEEP, gas=200_000),
        )
        self.attributes = tools.attributes(self.parent, tuple(transaction.raw for transaction in transactions))
        self.block = chain.build(self.parent.hash, self.attributes)
        self.receipts = chain.receipts(self.block.hash)
        result = execute(self.rules, self.parent, self.attributes, Witness(self.preimages))
        self.result = result
        everything = {keccak256(preimage): preimage for preimage in self.preimages}
        self.needed = {digest: everything[digest] for digest in result.used}

    def run(self, preimages):
        return execute(self.rules, self.parent, self.attributes, Witness(preimages))


@pytest.fixture(scope="module")
def setting(tools, tmp_path_factory):
    from openledger.evm_ext import Chain

    store = GenesisAccount(code=STORE_CODE, storage={slot: slot + 1 for slot in range(40)})
    chain = Chain.open(
        tmp_path_factory.mktemp("chain"), tools.op_genesis({STORE: store, DEEP: GenesisAccount(code=DEEP_CODE)})
    )
    yield Setting(chain, tools)
    chain.close()


def test_a_witness_gives_the_block_that_the_chain_builds(setting):
    assert [receipt.status for receipt in setting.receipts] == [1] * 6
    assert setting.result.block == setting.block
    assert differences(setting.result.block.header, setting.block.header) == []


def test_what_was_used_is_enough_and_nothing_of_it_can_be_left_out(setting):
    assert setting.run(setting.needed.values()).block.hash == setting.block.hash
    assert len(setting.needed) > 40
    for digest in setting.needed:
        with pytest.raises(MissingWitness) as missing:
            setting.run(preimage for other, preimage in setting.needed.items() if other != digest)
        assert missing.value.digest == digest
        assert digest.hex() in str(missing.value)


def test_headers_are_needed_for_block_hashes(setting):
    # The hash of the block six before is in the header five before; the ones between lead there.
    headers = set()
    for preimage in setting.needed.values():
        with suppress(UndecodableBlock):
            headers.add(Header.decode(preimage).number)
    assert headers == {setting.parent.number - offset for offset in range(1, 5)}


def test_a_tampered_preimage_is_refused_before_anything_runs(setting):
    document = {"0x" + digest.hex(): "0x" + preimage.hex() for digest, preimage in setting.needed.items()}
    assert len(Witness.from_json(document)) == len(setting.needed)
    digest = next(iter(document))
    for changed in ("0x", document[digest][:-2] + "77", document[digest] + "00"):
        with pytest.raises(InvalidWitness, match=digest):
            Witness.from_json({**document, digest: changed})


@pytest.mark.parametrize("document", [[], "0x", None, {"0x12": 5}, {"0xzz": "0x"}, {"state": "0x"}, {"state": [1]}])
def test_what_is_no_witness_is_refused_by_name(document):
    with pytest.raises(InvalidWitness):
        Witness.from_json(document)


def test_the_lists_of_an_execution_witness_are_read(setting):
    nodes = ["0x" + preimage.hex() for preimage in setting.needed.values()]
    witness = Witness.from_json({"state": nodes[:20], "codes": nodes[20:40], "headers": nodes[40:], "keys": ["0x00"]})
    assert execute(setting.rules, setting.parent, setting.attributes, witness).block == setting.block


def test_another_parent_state_is_noticed(setting):
    other = replace(setting.parent, state_root=keccak256(b"another state"))
    with pytest.raises(MissingWitness, match=keccak256(b"another state").hex()):
        execute(setting.rules, other, setting.attributes, Witness(setting.needed.values()))


def test_a_transaction_that_may_not_be_there_is_named(setting, tools):
    wrong = tools.signed(0, CHAIN_ID, 99, b"\xcc" * 20)
    attributes = replace(setting.attributes, transactions=(*setting.attributes.transactions, wrong.raw))
    with pytest.raises(InvalidBlockTransaction, match="transaction 6"):
        execute(setting.rules, setting.parent, attributes, Witness(setting.needed.values()))


def test_every_field_that_differs_is_listed(setting):
    header = setting.block.header
    changed = replace(header, gas_used=header.gas_used + 1, requests_hash=b"\x01" * 32)
    found = differences(header, changed)
    assert [item.field for item in found] == ["gas_used", "requests_hash"]
    assert (found[0].actual, found[0].expected) == (header.gas_used, header.gas_used + 1)
