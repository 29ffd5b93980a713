"""The rules a gossiped block is judged by, on real blocks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openledger.evm_ext.block import payload_from_block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.p2p.envelope import Envelope, encode_envelope, payload_body, sign_body
from openledger.p2p.validation import BlockValidator, Outcome, Reason, Verdict

KEY, OTHER_KEY = b"\x07" * 32, b"\x08" * 32
SEQUENCER = sign_body(KEY, 1, b"").signer(1)
GENESIS_TIME = 1_700_000_000
CHAIN_ID = DEVNET.l2_chain_id


@pytest.fixture(scope="module")
def siblings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ExecutionPayload]]:
    """Seven different valid blocks at height 1."""
    folder: Path = tmp_path_factory.mktemp("chain")
    chain = Chain.open(folder, l2_genesis(DEVNET, GENESIS_TIME))
    yield [
        payload_from_block(
            chain.build(
                chain.genesis_hash,
                PayloadAttributes(
                    timestamp=GENESIS_TIME + 2,
                    prev_randao=bytes([index]) * 32,
                    suggested_fee_recipient=bytes(20),
                    parent_beacon_block_root=bytes(32),
                    no_tx_pool=True,
                    eip_1559_params=bytes(8),
                ),
            )
        )
        for index in range(7)
    ]
    chain.close()


@pytest.fixture
def payload(siblings: list[ExecutionPayload]) -> ExecutionPayload:
    return siblings[0]


def validator(now: float = GENESIS_TIME + 2, sequencer: bytes | None = SEQUENCER) -> BlockValidator:
    return BlockValidator(CHAIN_ID, sequencer, clock=lambda: now)


def message(payload: ExecutionPayload, key: bytes = KEY, chain_id: int = CHAIN_ID) -> bytes:
    return encode_envelope(sign_body(key, chain_id, payload_body(payload)))


def result(verdict: Verdict) -> tuple[Outcome, Reason | None]:
    return verdict.outcome, verdict.reason


def test_block_of_the_sequencer_is_accepted_once(payload: ExecutionPayload) -> None:
    judge = validator()
    verdict = judge.validate(message(payload))
    assert result(verdict) == (Outcome.ACCEPT, None)
    assert verdict.payload == payload
    assert verdict.envelope is not None
    assert result(judge.validate(message(payload))) == (Outcome.IGNORE, Reason.SEEN)


def test_block_of_anybody_else_is_rejected(payload: ExecutionPayload) -> None:
    assert result(validator().validate(message(payload, OTHER_KEY))) == (Outcome.REJECT, Reason.WRONG_SIGNER)
    other_chain = message(payload, chain_id=CHAIN_ID + 1)
    assert result(validator().validate(other_chain)) == (Outcome.REJECT, Reason.WRONG_SIGNER)


def test_without_a_known_sequencer_blocks_are_ignored(payload: ExecutionPayload) -> None:
    judge = validator(sequencer=None)
    assert result(judge.validate(message(payload))) == (Outcome.IGNORE, Reason.NO_SIGNER_KNOWN)


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (60, (Outcome.ACCEPT, None)),
        (61, (Outcome.REJECT, Reason.TOO_OLD)),
        (-5, (Outcome.ACCEPT, None)),
        (-6, (Outcome.REJECT, Reason.TOO_NEW)),
    ],
)
def test_block_has_a_minute_and_five_seconds(
    payload: ExecutionPayload, age_s: int, expected: tuple[Outcome, Reason | None]
) -> None:
    assert result(validator(payload.timestamp + age_s).validate(message(payload))) == expected


def test_block_that_does_not_hash_to_its_hash_is_rejected(payload: ExecutionPayload) -> None:
    for changed in (replace(payload, gas_used=1), replace(payload, transactions=(b"\x02junk",))):
        verdict = validator().validate(message(changed))
        assert result(verdict) == (Outcome.REJECT, Reason.WRONG_BLOCK_HASH)


@pytest.mark.parametrize("change", [{"blob_gas_used": 1}, {"excess_blob_gas": 1}])
def test_block_with_blob_gas_is_rejected(payload: ExecutionPayload, change: dict[str, int]) -> None:
    verdict = validator().validate(message(replace(payload, **change)))
    assert result(verdict) == (Outcome.REJECT, Reason.WRONG_VERSION_FIELDS)


def test_malformed_messages_are_rejected(payload: ExecutionPayload) -> None:
    body = payload_body(payload)
    cases = {
        b"": Reason.BAD_COMPRESSION,
        message(payload)[:-1]: Reason.BAD_COMPRESSION,
        encode_envelope(Envelope(bytes(65), body)): Reason.BAD_SIGNATURE,
        encode_envelope(sign_body(KEY, CHAIN_ID, body + b"\0")): Reason.BAD_ENCODING,
    }
    for data, reason in cases.items():
        assert result(validator().validate(data)) == (Outcome.REJECT, reason)


def test_sixth_block_at_a_height_is_rejected(siblings: list[ExecutionPayload]) -> None:
    judge = validator()
    outcomes = [result(judge.validate(message(payload))) for payload in siblings]
    assert outcomes[:5] == [(Outcome.ACCEPT, None)] * 5
    assert outcomes[5:] == [(Outcome.REJECT, Reason.TOO_MANY_AT_HEIGHT)] * 2
    assert result(judge.validate(message(siblings[0]))) == (Outcome.IGNORE, Reason.SEEN)


def test_rejected_block_does_not_count_as_seen(payload: ExecutionPayload) -> None:
    judge = validator()
    judge.validate(message(payload, OTHER_KEY))
    assert judge.validate(message(payload)).outcome is Outcome.ACCEPT
