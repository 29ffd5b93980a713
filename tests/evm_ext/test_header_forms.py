"""Headers and blocks of every fork: what they hold, what they hash to, and block 0 of geth's genesis files."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext import Block, Header
from openledger.evm_ext.block import (
    BLOOM_BYTES,
    EMPTY_UNCLES_HASH,
    HEADER_FIELDS,
    HeaderForm,
    block_from_body,
    encode_uncles,
    header_form,
)
from openledger.evm_ext.encoding import encode_bytes, encode_sequence
from openledger.evm_ext.errors import UndecodableBlock
from openledger.evm_ext.genesis_block import genesis_block
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis
from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.hashing import keccak256
from openledger.genesis.system_contracts import system_contracts

FRONTIER_GENESIS = Header(
    parent_hash=bytes(32),
    uncles_hash=EMPTY_UNCLES_HASH,
    fee_recipient=bytes(20),
    state_root=bytes.fromhex("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"),
    transactions_root=EMPTY_ROOT,
    receipts_root=EMPTY_ROOT,
    logs_bloom=bytes(BLOOM_BYTES),
    difficulty=17_179_869_184,
    number=0,
    gas_limit=5_000,
    gas_used=0,
    timestamp=0,
    extra_data=bytes.fromhex("11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa"),
    prev_randao=bytes(32),
    nonce=(66).to_bytes(8, "big"),
    form=HeaderForm.LEGACY,
)


def test_the_main_networks_first_header_has_its_known_hash():
    assert FRONTIER_GENESIS.hash.hex() == "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"


def test_sepolias_first_header_has_its_known_hash():
    header = replace(
        FRONTIER_GENESIS,
        state_root=bytes.fromhex("5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494"),
        difficulty=0x20000,
        gas_limit=30_000_000,
        timestamp=1_633_267_481,
        extra_data=b"Sepolia, Athens, Attica, Greece!",
        nonce=bytes(8),
        base_fee_per_gas=10**9,
        form=HeaderForm.LONDON,
    )
    assert header.hash.hex() == "25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9"


def test_a_genesis_file_of_the_public_rpc_cases_gives_geths_block_0():
    """ethereum/execution-apis, tests/genesis.json and tests/eth_getBlockByNumber/get-genesis.io as of Prague."""
    contracts = system_contracts(with_requests=True)

    def code(address: bytes) -> str:
        return "0x" + contracts[address].code.hex()

    rich = [
        "0c2c51a0990aee1d73c1228de158688341557508",
        "14e46043e63d0e3cdcf2530519f4cfaf35058cb2",
        "16c57edf7fa9d9525378b0b81bf8a3ced0620c1c",
        "1f4924b14f34e24159387c0a4cdbaa32f3ddb0cf",
        "1f5bde34b4afc686f136c7a3cb6ec376f7357759",
        "2d389075be5be9f2246ad654ce152cf05990b209",
        "3ae75c08b4c907eb63a8960c45b86e1e9ab6123c",
        "4340ee1b812acb40a1eb561c019c327b243b92df",
        "4a0f1452281bcec5bd90c3dce6162a5995bfe9df",
        "4dde844b71bcdf95512fb4dc94e84fb67b512ed8",
        "5f552da00dfb4d3749d9e62dcee3c918855a86a0",
        "654aa64f5fbefb84c270ec74211b81ca8c44a72e",
        "717f8aa2b982bee0e29f573d31df288663e1ce16",
        "7435ed30a8b4aeb0877cef0c6e8cffe834eb865f",
        "83c7e323d189f18725ac510004fdc2941f8c4a78",
        "84e75c28348fb86acea1a93a39426d7d60f4cc46",
        "c7b99a164efd027a93f147376cc7da7c67c6bbe0",
        "d803681e487e6ac18053afc5a6cd813c86ec3e4d",
        "e7d13f7aa2a838d24c59b40186a0aca1e21cffcc",
        "eda8645ba6948855e3b3cd596bbb07596d59c603",
    ]
    document = {
        "config": {
            "chainId": 3503995874084926,
            **{
                f"{fork}Block": 0
                for fork in [
                    "homestead",
                    "eip150",
                    "eip155",
                    "eip158",
                    "byzantium",
                    "constantinople",
                    "petersburg",
                    "istanbul",
                    "muirGlacier",
                    "berlin",
                    "london",
                    "arrowGlacier",
                    "grayGlacier",
                    "mergeNetsplit",
                ]
            },
            "shanghaiTime": 0,
            "cancunTime": 0,
            "pragueTime": 0,
            "terminalTotalDifficulty": 131072,
            "depositContractAddress": "0x0000000000000000000000000000000000000000",
            "ethash": {},
        },
        "nonce": "0x0",
        "timestamp": "0x0",
        "extraData": "0x68697665636861696e",
        "gasLimit": "0x23f3e20",
        "difficulty": "0x20000",
        "mixHash": "0x" + "00" * 32,
        "coinbase": "0x" + "00" * 20,
        "alloc": {
            "000f3df6d732807ef1319fb7b8bb8522d0beac02": {"code": code(predeploys.BEACON_ROOTS), "balance": "0x2a"},
            "00431f263ce400f4455c2dcf564e53007ca4bbbb": {
                "code": code(predeploys.CONSOLIDATION_REQUESTS),
                "balance": "0x1",
            },
            "0c15f14308530b7cdb8460094bbb9cc28b9aaaaa": {
                "code": code(predeploys.WITHDRAWAL_REQUESTS),
                "balance": "0x1",
            },
            "0f792be4b0c0cb4dae440ef133e90c0ecd48cccc": {"code": code(predeploys.HISTORY_STORAGE), "balance": "0x1"},
            "7dcd17433742f4c0ca53122ab541d0ba67fc27df": {
                "code": "0x3680600080376000206000548082558060010160005560005263656d697460206000a2",
                "balance": "0x0",
            },
            "8bebc8ba651aee624937e7d897853ac30c95a067": {
                "storage": {f"0x{slot:064x}": f"0x{slot:064x}" for slot in (1, 2, 3)},
                "balance": "0x1",
                "nonce": "0x1",
            },
            **{address: {"balance": "0xc097ce7bc90715b34b9f1000000000"} for address in rich},
        },
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": "0x" + "00" * 32,
        "baseFeePerGas": "0x3b9aca00",
        "excessBlobGas": None,
        "blobGasUsed": None,
    }
    block, changes = genesis_block(Genesis.from_json(document))
    assert changes.root.hex() == "a9b5f4922543acfff8bb11844f2b905ebec27764c42b03b65a66b9c08c908b7e"
    assert block.header.form is HeaderForm.PRAGUE
    assert block.hash.hex() == "6549118a1de2c28b204c671688e0aa4f6b522e72bf3a4a3f76cc8def0a7ecc8f"


@pytest.mark.parametrize(
    ("fork", "form"),
    [
        (Hardfork.FRONTIER, HeaderForm.LEGACY),
        (Hardfork.BERLIN, HeaderForm.LEGACY),
        (Hardfork.LONDON, HeaderForm.LONDON),
        (Hardfork.PARIS, HeaderForm.LONDON),
        (Hardfork.SHANGHAI, HeaderForm.SHANGHAI),
        (Hardfork.CANCUN, HeaderForm.CANCUN),
        (Hardfork.PRAGUE, HeaderForm.PRAGUE),
        (Hardfork.OSAKA, HeaderForm.PRAGUE),
    ],
)
def test_block_0_has_the_form_of_its_fork(fork, form):
    header = genesis_block(Genesis("ethereum", 7, 5, 30_000_000, hardforks=HardforkSchedule.always(fork)))[0].header
    assert header.form is header_form(fork) is form
    assert Header.decode(header.encode()) == header


@given(
    form=st.sampled_from(HeaderForm),
    uncle_form=st.sampled_from((HeaderForm.LEGACY, HeaderForm.LONDON)),
    uncles=st.integers(0, 2),
)
def test_blocks_of_every_form_survive_their_codec(form, uncle_form, uncles):
    names = HEADER_FIELDS[int(HeaderForm.LEGACY) : form]
    later = {name: 7 if isinstance(getattr(FRONTIER_GENESIS, name), int) else b"\x05" * 32 for name in names}
    header = replace(FRONTIER_GENESIS, form=form, **later)
    family = tuple(replace(FRONTIER_GENESIS, number=index, form=uncle_form) for index in range(uncles))
    withdrawals = (Withdrawal(1, 2, b"\x03" * 20, 4),) if form >= HeaderForm.SHANGHAI else ()
    block = Block(replace(header, uncles_hash=keccak256(encode_uncles(family))), (), withdrawals, family)
    assert Block.decode(block.encode()) == block
    assert block_from_body(block.header, block.encode_body()) == block


def test_a_header_with_a_number_of_fields_no_fork_has_is_refused():
    encoded = replace(FRONTIER_GENESIS, form=18).encode()
    with pytest.raises(UndecodableBlock, match="the list is empty"):
        Block.decode(b"\xc0")
    with pytest.raises(UndecodableBlock, match="15, 16, 17, 20, 21 fields, got 18"):
        Header.decode(encoded)


def test_a_body_without_withdrawals_is_refused_under_a_header_that_promises_them():
    block = Block(replace(FRONTIER_GENESIS, form=HeaderForm.LEGACY), ())
    with pytest.raises(UndecodableBlock, match="withdrawals"):
        block_from_body(replace(FRONTIER_GENESIS, form=HeaderForm.SHANGHAI), block.encode_body())


def test_a_type_0_transaction_inside_a_string_is_refused(tools):
    payment = tools.signed(0, 1337, 0, b"\x11" * 20, type=0, max_priority_fee_per_gas=None)
    header = replace(FRONTIER_GENESIS, form=HeaderForm.LEGACY)
    inside = encode_sequence((encode_sequence((encode_bytes(payment.raw),)), b"\xc0"))
    assert block_from_body(header, encode_sequence((encode_sequence((payment.raw,)), b"\xc0"))).transactions == (
        payment,
    )
    with pytest.raises(UndecodableBlock, match="not inside a string"):
        block_from_body(header, inside)
