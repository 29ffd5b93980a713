"""The whole way once, as a user goes it: a fresh network, the quickstart, kill -9 of everything in the middle."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from openledger.evm_ext.proofs.receipt import Receipt, ledger_domain, tokens_hash
from openledger.evm_ext.proofs.settlement import encode_entries
from openledger.genesis.dev_accounts import PROVIDER
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET
from openledger.node.content import ContentStore
from openledger.node.records import AnswerBody, retrieval_root

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5000)]

KILL_AFTER = "train-whales"


@pytest.fixture(scope="module")
def story_devnet(tmp_path_factory: pytest.TempPathFactory, new_devnet: Any) -> Iterator[Any]:
    devnet = new_devnet(tmp_path_factory.mktemp("story"), ())
    yield devnet
    if devnet.process is not None and devnet.process.poll() is None:
        devnet.kill()


def quickstart(devnet: Any, *flags: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OPENLEDGER_PORT_OFFSET": str(devnet.offset), "COLUMNS": "120"}
    log = open(devnet.folder / "quickstart.log", "ab")  # noqa: SIM115  # belongs to the child
    line = devnet.command("quickstart", "--data-dir", str(devnet.folder / "data"), *flags)
    return subprocess.Popen(line, stdout=log, stderr=log, env=environment, start_new_session=True)


def told(devnet: Any) -> list[str]:
    """The steps of the story that are done."""
    file: Path = devnet.folder / "data" / "quickstart.json"
    if not file.exists():
        return []
    text = file.read_text()
    return [key for key in ("datanets", "documents", "versions", KILL_AFTER, "answer") if f'"{key}"' in text]


def test_the_story_ends_with_a_claimed_reward_though_everything_is_killed_in_the_middle(story_devnet: Any) -> None:
    devnet = story_devnet
    devnet.start()
    devnet.wait_until_ready(240)
    first = quickstart(devnet)
    deadline = time.monotonic() + 2700
    while KILL_AFTER not in told(devnet):
        assert first.poll() is None, (devnet.folder / "quickstart.log").read_text()[-3000:]
        assert time.monotonic() < deadline, (devnet.folder / "quickstart.log").read_text()[-3000:]
        time.sleep(1)
    time.sleep(3)  # in the middle of the next training
    os.killpg(first.pid, 9)
    first.wait()
    devnet.kill()

    devnet.start()
    devnet.wait_until_ready(240)
    report_file = devnet.folder / "report.json"
    second = quickstart(devnet, "--json", str(report_file))
    assert second.wait(2700) == 0, (devnet.folder / "quickstart.log").read_text()[-4000:]
    report = json.loads(report_file.read_text())
    assert report["claimed_micro_open"] > 0
    assert len(report["receipts"]) >= 3

    verified = devnet.run("verify", "receipt", report["receipts"][0], "--json", timeout_s=600)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    findings = {f["name"]: f["verdict"] for f in map(json.loads, verified.stdout.splitlines())}
    assert set(findings.values()) == {"good"}
    assert {"tokens", "fingerprint", "query vector", "vector", "fee", "settlement", "signature"} <= set(findings)

    said = devnet.run("attribution", "explain", report["receipts"][0], "--json", timeout_s=120)
    assert said.returncode == 0, said.stdout + said.stderr
    explained = json.loads(said.stdout)
    assert "".join(piece["text"] for piece in explained["pieces"]).strip() == explained["text"].strip()
    assert sum(share["weight"] for share in explained["contributions"]) == 10_000
    earned = sum(share["micro_open"] for share in explained["contributions"])
    assert earned == explained["parts_micro_open"]["contributors"] > 0
    assert sum(explained["parts_micro_open"].values()) == explained["fee_micro_open"]
    assert all(share["metadata"]["license"] == "CC0-1.0" for share in explained["contributions"])
    check_lineage(devnet, report["receipts"][0], explained)
    shown = devnet.run("attribution", "explain", report["receipts"][0], timeout_s=120)
    assert "passages it was given" in shown.stdout


def check_lineage(devnet: Any, receipt: str, explained: dict[str, Any]) -> None:
    """From the answer back to whoever contributed, and from the Datanet to the releases made of it."""

    def ask(method: str, *parameters: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        return httpx.post(devnet.endpoints.rpc, json=body, timeout=180, trust_env=False).json()

    graph = ask("openledger_lineage", "receipt", receipt)["result"]
    names = {node["id"] for node in graph["nodes"]}
    edges = {(edge["from"], edge["to"], edge["what"]): edge for edge in graph["edges"]}
    assert {end for edge in graph["edges"] for end in (edge["from"], edge["to"])} == names
    for share in explained["contributions"]:
        contribution = f"contribution/{share['contribution']}"
        assert edges[contribution, f"receipt/{receipt}", "shows in"]["weight"] == share["weight"]
        assert (f"account/{share['contributor']}", contribution, "contributed") in edges
    release = f"release/{explained['release']['id']}"
    assert (f"receipt/{receipt}", release, "answered by") in edges
    (made_of,) = [last for first, last, what in edges if (first, what) == (release, "made of")]
    datanet = int(made_of.split("/")[1])
    around = ask("openledger_lineage", "datanet", datanet)["result"]
    assert release in {node["id"] for node in around["nodes"]}
    board = ask("openledger_leaderboard", datanet)["result"]
    contributors = {share["contributor"] for share in explained["contributions"]}
    assert contributors <= {row["contributor"] for row in board}
    assert all(row["approved"] > 0 for row in board)
    assert "has no lineage" in ask("openledger_lineage", "planet", 1)["error"]["message"]
    assert "no Datanet 99" in ask("openledger_lineage", "datanet", 99)["error"]["message"]
    assert "does not have" in ask("openledger_lineage", "receipt", "0x" + "11" * 32)["error"]["message"]


def test_the_openai_client_streams_an_answer_that_is_paid_for(story_devnet: Any) -> None:
    import openai

    devnet = story_devnet
    voucher = httpx.post(
        f"{devnet.endpoints.api}/v1/dev/voucher", json={"most": 1_000_000}, timeout=180, trust_env=False
    ).json()
    client = openai.OpenAI(base_url=f"{devnet.endpoints.api}/v1", api_key="unused", max_retries=0)
    model = client.models.list().data[0].id
    ask = {
        "model": model,
        "messages": [{"role": "user", "content": "What is ambergris?"}],
        "max_tokens": 24,
        "temperature": 0.0,
    }
    with pytest.raises(openai.APIStatusError) as unpaid:
        client.chat.completions.create(**ask)
    assert unpaid.value.status_code == 402
    assert unpaid.value.code == "payment_required"
    header = json.dumps({name: voucher[name] for name in ("channelId", "maxClaimable", "signature")})
    text, end = "", None
    for chunk in client.chat.completions.create(**ask, stream=True, extra_headers={"X-Payment": header}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
        end = getattr(chunk, "openledger", end)
    assert text
    assert end is not None
    assert end["receipt_hash"].startswith("0x")
    assert sum(entry["weight"] for entry in end["vector"]) in (0, 10_000)


def forged(body: AnswerBody, **changes: Any) -> AnswerBody:
    """The body with some of its own or its receipt's fields changed, signed again by the provider."""
    receipt = body.signed_receipt()
    fields = {name: changes.pop(name) for name in list(changes) if name in Receipt.TYPES}
    key = changes.pop("key", PROVIDER.private_key)
    receipt = dataclasses.replace(receipt, **fields)
    signature = receipt.sign(ledger_domain(DEVNET.l2_chain_id), key)
    return msgspec.structs.replace(body, receipt=receipt.to_json(), signature=signature, **changes)


def test_a_provider_that_lies_is_found_out_by_the_second_node(story_devnet: Any) -> None:
    devnet = story_devnet
    report = json.loads((devnet.folder / "report.json").read_text())
    url = f"{devnet.endpoints.api}/v1/receipts/{report['receipts'][0]}/body"
    body = AnswerBody.decode(httpx.get(url, timeout=180, trust_env=False).content)
    receipt = body.signed_receipt()
    tokens = [*body.output_tokens[:3], body.output_tokens[3] ^ 1, *body.output_tokens[4:]]
    vector = [(contribution, weight) for contribution, weight in body.vector]
    other = [(vector[0][0] + 1, 10_000)]
    assert body.retrieval is not None
    asked = bytearray(body.retrieval.query_vector)
    asked[0] ^= 1
    search = msgspec.structs.replace(body.retrieval, query_vector=bytes(asked))
    lies = {
        "tokens": forged(body, output_tokens=tokens, output_tokens_hash=tokens_hash(tokens)),
        "fingerprint": forged(body, fingerprint=b"\x01" * 32),
        "vector": forged(body, vector=other, vector_hash=keccak256(encode_entries(tuple(other)))),
        "fee": forged(body, cumulative_after=receipt.cumulative_after + 1),
        "query vector": forged(body, retrieval=search, retrieval_root=retrieval_root(search)),
        "signature": forged(body, key=b"\x07" * 32),
        "request": forged(body, request_hash=b"\x02" * 32),
    }
    kept = ContentStore(devnet.folder / "data" / "validator" / "content")
    for finding, lie in lies.items():
        digest = lie.signed_receipt().hash(ledger_domain(DEVNET.l2_chain_id))
        kept.put_named(digest, lie.encode())
        verified = devnet.run("verify", "receipt", "0x" + digest.hex(), "--json", timeout_s=600)
        verdicts = {f["name"]: f["verdict"] for f in map(json.loads, verified.stdout.splitlines())}
        assert verdicts[finding] == "false", (finding, verdicts)
        assert verified.returncode == 1


def test_a_receipt_that_nobody_has_is_not_called_good(story_devnet: Any) -> None:
    unknown = story_devnet.run("verify", "receipt", "0x" + "11" * 32, timeout_s=120)
    assert unknown.returncode == 2, unknown.stdout + unknown.stderr
