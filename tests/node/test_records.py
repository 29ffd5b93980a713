"""What is kept of an answer comes back as it was, and its hashes bind what decides the answer."""

import msgspec
import pytest

from openledger.evm_ext.proofs.receipt import Receipt
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.messages import Retrieval, RetrievedChunk
from openledger.kernels.engine.messages import Sampling
from openledger.node.prompt import last_question, with_passages
from openledger.node.records import (
    MAX_BODY_BYTES,
    AnswerBody,
    ChatRequest,
    InvalidRecord,
    Message,
    UsedAdapter,
    decode_receipt_list,
    encode_receipt_list,
    retrieval_root,
)

H = [bytes([n]) * 32 for n in range(12)]
REQUEST = ChatRequest(
    release=3,
    messages=(Message("system", "Be brief."), Message("user", "Where do whales sleep?")),
    max_tokens=64,
    sampling=Sampling(temperature_milli=700),
    stop=("\n\n",),
    retrieval_k=2,
    user_seed=None,
    channel_id=H[1],
    max_claimable=900,
)
CHUNK = RetrievedChunk(index=0, chunk=7, score=51_000, contribution=4, contributor=2, title="Sleep", text="They float.")
RETRIEVAL = Retrieval(query_vector=bytes(384), k=2, minimum_score=40_000, chunks=[CHUNK])
RECEIPT = Receipt(
    3, "exact-1", 0, REQUEST.hash, H[2], H[3], 0, REQUEST.sampling_hash, H[4], H[5], H[6], H[7], H[1], 10, 25, 99, H[8]
)
BODY = AnswerBody(
    request=REQUEST,
    prompt_tokens=[1, 2, 3],
    output_tokens=[4, 5],
    stop_reason="stop",
    text="In the deep.",
    retrieval=RETRIEVAL,
    evidence=b"\x00evidence",
    vector=[(4, 10_000)],
    receipt=RECEIPT.to_json(),
    signature=b"\x11" * 65,
    voucher_signature=b"\x22" * 65,
)


def test_a_body_comes_back_whole() -> None:
    again = AnswerBody.decode(BODY.encode())
    assert again == BODY
    assert again.signed_receipt() == RECEIPT
    assert again.request.hash == REQUEST.hash


@pytest.mark.parametrize(
    "changed",
    [
        {"release": 4},
        {"messages": (Message("user", "Where do whales sleep?"),)},
        {"max_tokens": 65},
        {"sampling": Sampling(temperature_milli=701)},
        {"stop": ()},
        {"retrieval_k": 3},
        {"user_seed": 0},
        {"channel_id": H[2]},
        {"max_claimable": 901},
        {"prompt": "Where do"},
        {"prompt": (1, 2)},
        {"schema": '{"type":"object"}'},
        {"adapters": (UsedAdapter(H[3]),)},
        {"choice": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_decides_an_answer_changes_the_request_hash_and_the_seed(changed: dict[str, object]) -> None:
    other = msgspec.structs.replace(REQUEST, **changed)
    assert other.hash != REQUEST.hash
    assert other.seed != REQUEST.seed


def test_the_request_hash_is_of_these_bytes() -> None:
    assert REQUEST.encode() == (
        b'{"channel_id":"0x' + b"01" * 32 + b'","max_claimable":900,"max_tokens":64,"messages":[{"content":"Be brief.",'
        b'"role":"system"},{"content":"Where do whales sleep?","role":"user"}],"release":3,"retrieval_k":2,'
        b'"sampling":{"min_p_ppm":0,"temperature_milli":700,"top_k":0,"top_p_ppm":1000000},"seed":null,'
        b'"stop":["\\n\\n"],"version":1}'
    )
    assert REQUEST.seed == keccak256(keccak256(REQUEST.encode()))


def test_what_a_request_adds_to_these_bytes_has_its_place_and_its_meaning() -> None:
    asked = msgspec.structs.replace(
        REQUEST,
        messages=(),
        prompt=(7, 8),
        schema='{"type":"object"}',
        schema_dialect="d-1",
        adapters=(UsedAdapter(H[3]), UsedAdapter(H[4], 250)),
        choice=2,
    )
    assert asked.encode() == (
        b'{"adapters":[{"digest":"0x' + b"03" * 32 + b'","weight_milli":1000},{"digest":"0x' + b"04" * 32
        + b'","weight_milli":250}],"channel_id":"0x' + b"01" * 32 + b'","choice":2,"max_claimable":900,"max_tokens":64,'
        b'"messages":[],"prompt":[7,8],"release":3,"retrieval_k":2,"sampling":{"min_p_ppm":0,"temperature_milli":700,'
        b'"top_k":0,"top_p_ppm":1000000},"schema":"{\\"type\\":\\"object\\"}","schema_dialect":"d-1","seed":null,"stop":["\\n\\n"],"version":1}'
    )  # fmt: skip
    again = AnswerBody.decode(msgspec.structs.replace(BODY, request=asked).encode())
    assert again.request == asked
    hashes = [
        asked.hash,
        msgspec.structs.replace(asked, prompt="\x07\x08").hash,
        msgspec.structs.replace(asked, adapters=asked.adapters[::-1]).hash,
        msgspec.structs.replace(asked, adapters=(UsedAdapter(H[3]), UsedAdapter(H[4], 251))).hash,
        msgspec.structs.replace(asked, choice=1).hash,
        msgspec.structs.replace(asked, schema_dialect="d-2").hash,
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_sampling_hash_binds_the_schema_and_only_where_there_is_one() -> None:
    assert REQUEST.sampling_hash == keccak256(
        b'{"sampling":{"min_p_ppm":0,"temperature_milli":700,"top_k":0,"top_p_ppm":1000000},"stop":["\\n\\n"]}'
    )
    asked = [msgspec.structs.replace(REQUEST, schema=schema).sampling_hash for schema in ("", "{}", '{"type":"null"}')]
    assert len(set(asked)) == 3


@pytest.mark.parametrize(
    "data", [b"", b"\x80", BODY.encode()[:-1], BODY.encode() + b"\0", b"\xc1", b"x" * (MAX_BODY_BYTES + 1)]
)
def test_bytes_that_are_no_body_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        AnswerBody.decode(data)


def test_a_body_with_a_malformed_receipt_is_refused() -> None:
    for receipt in ({}, {**RECEIPT.to_json(), "release": -1}, {**RECEIPT.to_json(), "fingerprint": "0x00"}):
        with pytest.raises(InvalidRecord, match="receipt"):
            msgspec.structs.replace(BODY, receipt=receipt).signed_receipt()


def test_the_retrieval_root_binds_what_was_found() -> None:
    assert retrieval_root(None) == bytes(32)
    roots = {
        retrieval_root(RETRIEVAL),
        retrieval_root(msgspec.structs.replace(RETRIEVAL, k=3)),
        retrieval_root(msgspec.structs.replace(RETRIEVAL, query_vector=b"\x01" + bytes(383))),
        retrieval_root(msgspec.structs.replace(RETRIEVAL, chunks=[])),
        retrieval_root(msgspec.structs.replace(RETRIEVAL, chunks=[msgspec.structs.replace(CHUNK, score=-1)])),
    }
    assert len(roots) == 5


def test_receipt_lists_round_trip_and_refuse_anything_else() -> None:
    assert decode_receipt_list(encode_receipt_list(H[:3])) == H[:3]
    for wrong in (b"", b"x" * 33):
        with pytest.raises(InvalidRecord):
            decode_receipt_list(wrong)


def test_passages_are_numbered_in_the_system_message() -> None:
    with_them = with_passages(REQUEST.messages, [CHUNK])
    assert with_them[0].role == "system"
    assert with_them[0].content.startswith("Be brief.\n\n")
    assert with_them[0].content.endswith("[1] Sleep\nThey float.")
    assert with_them[1:] == REQUEST.messages[1:]
    alone = with_passages(REQUEST.messages[1:], [CHUNK])
    assert [m.role for m in alone] == ["system", "user"]
    assert with_passages(REQUEST.messages, []) == REQUEST.messages
    assert last_question(REQUEST.messages) == "Where do whales sleep?"
