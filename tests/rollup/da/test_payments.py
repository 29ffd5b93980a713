"""What a payer signs, against digests that ethers made of the published layouts."""

from openledger.rollup.da.payments import Payer, anchor_hash, payment_state_hash

PAYER = Payer(b"\x42" * 32)


def test_the_account_is_the_keys_address_with_its_capitals() -> None:
    assert PAYER.account_id == "0x17c5185167401eD00cF5F5b2fc97D9BBfDb7D025"
    assert "42" * 32 not in repr(PAYER)


def test_the_anchor_ties_a_blob_to_a_chain_and_a_disperser() -> None:
    # solidityPackedKeccak256 of (string, uint256, uint32, bytes32)
    expected = "8213239906831f04ed737c999f6e912070dce8ff294dc6089dc2127c09967fae"
    assert anchor_hash(17_000, 3, b"\xab" * 32).hex() == expected


def test_the_request_for_a_payment_state_is_hashed_twice() -> None:
    # sha256 of solidityPackedKeccak256 of (uint32, address, uint64)
    expected = "79ec8a45e6683e35410b92809508f2506fe252fc7e14a81a5297f8d81ca6f1e6"
    assert payment_state_hash(PAYER.address, 1_700_000_000_123_456_789).hex() == expected
