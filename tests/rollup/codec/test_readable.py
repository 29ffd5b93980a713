"""`openledger rollup decode`, on bytes of public chains and on our own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openledger.evm_ext.transactions import sign_transaction
from openledger.node.cli.main import app
from openledger.rollup.codec.batcher_transaction import encode_commitment_data, encode_frames_data
from openledger.rollup.codec.batches import SPAN_BATCH, SingularBatch, encode_singular_batch
from openledger.rollup.codec.channels import Compression, compress_channel
from openledger.rollup.codec.frames import Frame, encode_frames
from openledger.rollup.codec.readable import DECODERS, ChainTimes, Unreadable
from openledger.rollup.codec.span_batches import encode_span_batch

CHAIN = ChainTimes(161_299, genesis_time=1_700_000_000)
KEY = b"\x11" * 32

# Base mainnet, transaction 0xc468b38a20375922828c8126912740105125143b9856936085474b2590bbca91.
BASE_DEPOSIT = bytes.fromhex(
    "7ef8f8a0417d134467f4737fcdf2475f0ecdd2a0ed6d87ecffc888ba9f60ee7e3b8ac26a94deaddeaddeaddeaddeaddeaddeaddeaddead0001"
    "9442000000000000000000000000000000000000158080830f424080b8a4440a5e20000008dd00101c1200000000000000040000000066c352"
    "bb000000000139c4f500000000000000000000000000000000000000000000000000000000c0cff14600000000000000000000000000000000"
    "00000000000000000000000000000001d4c88f4065ac9671e8b1329b90773e89b5ddff9cf8675b2b5e9c1b2832060993000000000000000000"
    "0000005050f69a9786f081509234f1a7f4684b5e5b76c9"
)
# OP mainnet, block 105,849,734, transaction 0xf169b1021e555a1088b69e693938efd32a98231417eda1fb024de83aad98663a.
OP_BEDROCK_L1_INFO = (
    "0x015d8eb900000000000000000000000000000000000000000000000000000000010b6402000000000000000000000000000000000000000000"
    "000000000000006492207b000000000000000000000000000000000000000000000000000000033601dfdd1eca1cc72d59c84864665457586b5e"
    "8910fb78a19fbffd1a23190862dc7f9dd9000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00006887246668a3b87f54deb3b94ba47a6f63f3298500000000000000000000000000000000000000000000000000000000000000bc00000000"
    "000000000000000000000000000000000000000000000000000a6fe0"
)


def decode(kind: str, data: bytes) -> dict[str, object]:
    return DECODERS[kind](data, CHAIN)


def run(kind: str, file: Path, *options: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["rollup", "decode", kind, str(file), *options])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert isinstance(shown, dict)
    return shown


def test_a_deposit_of_a_public_chain_is_read_with_its_l1_attributes(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(BASE_DEPOSIT)
    shown = run("deposit", tmp_path / "binary")
    assert shown["hash"] == "0xc468b38a20375922828c8126912740105125143b9856936085474b2590bbca91"
    assert shown["from"] == "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0001"
    assert (shown["mint"], shown["gas"], shown["is_system_tx"]) == (0, 1_000_000, False)
    attributes = shown["l1_info"]
    assert attributes == {
        "form": "ecotone",
        "number": 0x139C4F5,
        "timestamp": 0x66C352BB,
        "base_fee": 0xC0CFF146,
        "blob_base_fee": 1,
        "block_hash": "0xd4c88f4065ac9671e8b1329b90773e89b5ddff9cf8675b2b5e9c1b2832060993",
        "sequence_number": 4,
        "batcher": "0x5050f69a9786f081509234f1a7f4684b5e5b76c9",
        "base_fee_scalar": 0x8DD,
        "blob_base_fee_scalar": 0x101C12,
    }
    assert run("l1-info", tmp_path / "binary") == attributes


def test_bedrock_attributes_of_a_public_chain_are_read_from_hex(tmp_path: Path) -> None:
    (tmp_path / "hex").write_text(OP_BEDROCK_L1_INFO + "\n")
    shown = run("l1-info", tmp_path / "hex")
    assert shown["form"] == "bedrock"
    assert (shown["number"], shown["timestamp"], shown["base_fee"]) == (0x10B6402, 0x6492207B, 0x33601DFDD)
    assert shown["block_hash"] == "0x1eca1cc72d59c84864665457586b5e8910fb78a19fbffd1a23190862dc7f9dd9"
    assert shown["batcher"] == "0x6887246668a3b87f54deb3b94ba47a6f63f32985"
    assert (shown["sequence_number"], shown["l1_fee_overhead"], shown["l1_fee_scalar"]) == (0, 188, 684_000)


def test_calldata_frames_and_the_whole_signed_transaction_show_the_same_frames() -> None:
    frames = [Frame(b"\x07" * 16, 0, b"abc", False), Frame(b"\x07" * 16, 1, b"", True)]
    calldata = encode_frames_data(frames)
    shown = decode("batcher-tx", calldata)
    assert shown["version"] == 0
    assert shown["frames"] == [
        {
            "channel_id": "0x" + "07" * 16,
            "frame_number": 0,
            "frame_data_length": 3,
            "frame_data": "0x616263",
            "is_last": False,
        },
        {
            "channel_id": "0x" + "07" * 16,
            "frame_number": 1,
            "frame_data_length": 0,
            "frame_data": "0x",
            "is_last": True,
        },
    ]
    assert decode("frame", encode_frames(frames))["frames"] == shown["frames"]
    signed = sign_transaction(
        KEY, chain_id=900, nonce=3, to=b"\xff" * 20, gas=100_000, max_fee_per_gas=1, data=calldata
    )
    whole = decode("batcher-tx", signed.raw)
    assert whole["frames"] == shown["frames"]
    assert whole["transaction"] == {
        "hash": "0x" + signed.hash.hex(),
        "type": 2,
        "from": "0x" + signed.sender.hex(),
        "to": "0x" + "ff" * 20,
        "nonce": 3,
    }


def test_a_commitment_names_its_da_layer() -> None:
    assert decode("batcher-tx", encode_commitment_data(b"\x01\x00\x02cert")) == {
        "version": 1,
        "commitment_type": "generic",
        "da_layer": 0,
        "commitment": "0x010002" + b"cert".hex(),
    }
    assert decode("batcher-tx", encode_commitment_data(bytes(33)))["commitment_type"] == "keccak256"


@pytest.mark.parametrize("compression", list(Compression))
def test_a_channel_shows_its_batches_up_to_the_first_bad_one(compression: Compression) -> None:
    transaction = sign_transaction(KEY, chain_id=161_299, nonce=0, to=bytes(20), gas=21_000, max_fee_per_gas=1).raw
    single = encode_singular_batch(SingularBatch(b"\x01" * 32, 5, b"\x02" * 32, 1_700_000_002, (transaction,)))
    span = encode_span_batch(
        relative_timestamp=4,
        parent_check=b"\x03" * 20,
        l1_origin_check=b"\x04" * 20,
        first_changes_origin=True,
        blocks=((5, ()), (6, (transaction,))),
    )
    shown = decode("channel", compress_channel([single, bytes((SPAN_BATCH,)) + span, b"\x09bad"], compression))
    assert shown["compression"] == compression.value
    assert shown["error"] == "batch 2: unknown batch version 0x09"
    first, second = shown["batches"]  # type: ignore[misc]
    assert first["batch_type"] == "singular"
    assert first["transactions"] == ["0x" + transaction.hex()]
    assert second == decode("span-batch", span) == decode("span-batch", bytes((SPAN_BATCH,)) + span)
    assert [block["epoch_number"] for block in second["blocks"]] == [5, 6]
    assert [block["timestamp"] for block in second["blocks"]] == [1_700_000_004, 1_700_000_006]
    assert second["blocks"][1]["transactions"] == ["0x" + transaction.hex()]


@pytest.mark.parametrize("kind", list(DECODERS))
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x05", b"\x01\xf8", b"\x7e\xc0", b"\xff" * 200, bytes(301)])
def test_other_bytes_get_an_error_of_one_line(kind: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(kind, data)
    (tmp_path / "file").write_bytes(data or b"\n")
    done = CliRunner().invoke(app, ["rollup", "decode", kind, str(tmp_path / "file")])
    assert done.exit_code != 0
    assert "Traceback" not in done.output


def test_a_rollup_config_of_any_chain_gives_the_chain_id_and_the_times(tmp_path: Path) -> None:
    document = {"l2_chain_id": 10, "block_time": 1, "genesis": {"l2_time": 7}, "regolith_time": 99}
    assert ChainTimes.from_rollup_config(document) == ChainTimes(10, 7, 1)
    for bad in ({}, [], None, {**document, "block_time": "2"}):
        with pytest.raises(Unreadable):
            ChainTimes.from_rollup_config(bad)
    span = encode_span_batch(
        relative_timestamp=2,
        parent_check=bytes(20),
        l1_origin_check=bytes(20),
        first_changes_origin=False,
        blocks=((1, ()),),
    )
    (tmp_path / "rollup.json").write_text(json.dumps(document))
    (tmp_path / "span").write_bytes(span)
    shown = run("span-batch", tmp_path / "span", "--rollup-config", str(tmp_path / "rollup.json"))
    assert shown["blocks"] == [{"epoch_number": 1, "relative_timestamp": 2, "timestamp": 9, "transactions": []}]
