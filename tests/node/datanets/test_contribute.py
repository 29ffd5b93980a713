"""From a file to a published, indexed version that a second node has by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from openledger.evm_ext.proofs.content import content_hash
from openledger.kernels.attribution.client import open_attribution
from openledger.node.datanets import client
from openledger.node.datanets.documents import DocumentMetadata
from openledger.node.datanets.export import export_version
from openledger.node.errors import UserError
from openledger.node.lineage import Lineage, LineageUnknown, leaderboard
from openledger.node.payer import Api, ApiRefused
from openledger.node.predeploy_contracts import datanet_registry
from openledger.node.wallet import TransactionReverted

TEXT = b"# Foxes\n\n" + b"The quick brown fox jumps over the lazy dog and runs into the dark green wood. " * 4


def documents(net: Any, who: str) -> list[Any]:
    files = sorted((net.texts / "whales" / who).glob("*.md"))
    return [client.read_file(path, "CC0-1.0", 5_000_000) for path in files]


async def contribute(net: Any, node: Any, wallet: Any, datanet: int, what: list[Any], **options: Any) -> list[Any]:
    return await client.contribute(net.rpc, node.api, wallet, datanet, what, folder=net.folder / "drafts", **options)


@pytest.mark.slow
async def test_documents_become_a_version_whose_roots_two_nodes_compute_alike(net):
    async with open_attribution() as attribution, net.node("a", attribution=attribution) as node:
        datanet = await client.create_datanet(net.rpc, node.api, net.owner, "whales", description="Old books on whales")
        stages: list[tuple[str, str]] = []
        own = documents(net, "account-1")
        contributed = await contribute(
            net, node, net.alice, datanet, own, on_progress=lambda p: stages.append((p.name, p.stage))
        )
        other = await contribute(net, node, net.bob, datanet, documents(net, "account-2"))
        assert [c.contribution for c in contributed + other] == [1, 2, 3, 4]
        first = own[0].metadata.name
        assert [stage for name, stage in stages if name == first] == [
            "committing", "uploading", "waiting", "revealing", "done",
        ]  # fmt: skip
        assert not list((net.folder / "drafts").iterdir()), "no salt is kept longer than needed"

        await client.approve(net.rpc, net.owner, datanet, [1, 2, 3, 4])
        seen: list[str] = []
        published = await client.publish(
            net.rpc, node.api, net.owner, datanet, on_progress=lambda p: seen.append(p.stage)
        )
        assert published.version == 1
        assert "publishing the version" in seen
        assert seen[-1] == "done"
        again = await client.publish(net.rpc, node.api, net.owner, datanet)
        assert again == published, "what is there is not done twice"

        # A second node: only DA, no peers; then its own index has the same roots.
        async with net.node("b", publishes=False, attribution=attribution) as second:
            for document in [*own, *documents(net, "account-2")]:
                assert await second.holds(document.hash) == document.data
                assert DocumentMetadata.decode(await second.holds(document.metadata.hash)) == document.metadata
            told = {"ready": False}
            with trio.fail_after(120):
                while not told["ready"]:
                    told = await second.api.get(f"/v1/datanets/{datanet}/versions/1/corpus")
                    await trio.sleep(0.2)
            assert bytes.fromhex(told["corpus_root"][2:]) == published.corpus_root
            assert told["tokens"] == published.tokens > 5_000
            shown = await second.api.get(f"/v1/datanets/{datanet}")
            assert shown["metadata"]["description"] == "Old books on whales"
            listed = await client.contributions(second.api, datanet)
            assert [(c["id"], c["status"], c["held"]) for c in listed] == [(n, "approved", True) for n in range(1, 5)]
            assert listed[0]["metadata"]["license"] == "CC0-1.0"
            await exported(second.api, datanet, listed, net.folder / "export")


async def exported(api: Api, datanet: int, listed: list[dict[str, Any]], folder: Path) -> None:
    """The version as a folder: every document in it as it was contributed, described twice."""
    assert await export_version(api, datanet, 1, folder) == len(listed)
    check_export(folder, listed)
    with pytest.raises(UserError, match="is there already"):
        await export_version(api, datanet, 1, folder)
    with pytest.raises(ApiRefused, match="version 2"):
        await export_version(api, datanet, 2, folder.with_name("none"))
    check_export(folder, listed)


def check_export(folder: Path, listed: list[dict[str, Any]]) -> None:
    assert not list(folder.parent.glob(".*.tmp"))
    assert sorted(path.name for path in folder.iterdir()) == ["croissant.json", "documents.jsonl", "prov.json"]
    data = (folder / "documents.jsonl").read_bytes()
    rows = [orjson.loads(line) for line in data.splitlines()]
    assert [row["document_hash"] for row in rows] == [c["document_hash"] for c in listed]
    assert all(len(row["text"]) > 1000 and row["licence"] == "CC0-1.0" for row in rows)
    croissant = orjson.loads((folder / "croissant.json").read_bytes())
    (file,) = croissant["distribution"]
    assert (file["sha256"], file["contentSize"]) == (hashlib.sha256(data).hexdigest(), f"{len(data)} B")
    columns = [field["source"]["extract"]["column"] for field in croissant["recordSet"][0]["field"]]
    assert columns == list(rows[0])
    prov = orjson.loads((folder / "prov.json").read_bytes())
    contributors = {row["prov:agent"] for row in prov["wasAttributedTo"].values()}
    assert contributors == {f"ol:account/{c['contributor']}" for c in listed}
    assert {row["prov:entity"] for row in prov["hadMember"].values()} == {f"ol:contribution/{c['id']}" for c in listed}


async def test_an_interrupted_contribution_goes_on_with_its_first_commitment(net):
    async with net.node("a") as node:
        datanet = await client.create_datanet(net.rpc, node.api, net.owner, "foxes")
        document = client.check_document("foxes.md", TEXT, "CC0-1.0")

        class Interrupted(Exception):
            pass

        def interrupt(progress: client.ContributeProgress) -> None:
            if progress.stage == "waiting":
                raise Interrupted

        with pytest.raises(Interrupted):
            await contribute(net, node, net.alice, datanet, [document], on_progress=interrupt)
        (draft,) = (net.folder / "drafts").iterdir()
        kept = draft.read_text()
        assert draft.stat().st_mode & 0o077 == 0 or draft.parent.stat().st_mode & 0o077 == 0

        stages: list[str] = []
        (done,) = await contribute(
            net, node, net.alice, datanet, [document], on_progress=lambda p: stages.append(p.stage)
        )
        assert "committing" not in stages, kept
        assert done.contribution == 1
        stages.clear()
        assert await contribute(
            net, node, net.alice, datanet, [document], on_progress=lambda p: stages.append(p.stage)
        ) == [done]
        assert stages == ["done"]
        with pytest.raises(UserError, match="already holds this document"):
            await contribute(net, node, net.bob, datanet, [document])

        graph = Lineage(net.registry(None), node.content.get_named)
        graph.of_datanet(datanet)
        graph.of_contribution(done.contribution)
        told = graph.to_json()
        alice, owner = (f"account/0x{who.address.hex()}" for who in (net.alice, net.owner))
        assert [node["id"] for node in told["nodes"]] == ["datanet/1", owner, "contribution/1", alice]
        assert [(edge["from"], edge["what"], edge["to"]) for edge in told["edges"]] == [
            (owner, "owns", "datanet/1"),
            (alice, "contributed", "contribution/1"),
            ("contribution/1", "contributed to", "datanet/1"),
        ]
        (row,) = leaderboard(net.registry(None), datanet, 10)
        assert (row["contributor"], row["approved"]) == ("0x" + net.alice.address.hex(), 0)
        with pytest.raises(LineageUnknown, match="no contribution 9"):
            graph.of_contribution(9)


async def test_rows_of_a_table_are_contributed_as_text_that_names_its_source(net, tmp_path):
    rows = tmp_path / "foxes.jsonl"
    rows.write_bytes(orjson.dumps({"text": TEXT.decode()}))
    async with net.node("a") as node:
        datanet = await client.create_datanet(net.rpc, node.api, net.owner, "foxes")
        document = client.read_file(rows, "CC0-1.0", 1 << 20)
        await contribute(net, node, net.alice, datanet, [document])
        (shown,) = await client.contributions(node.api, datanet)
        assert shown["metadata"]["name"] == "foxes.txt"
        assert shown["metadata"]["source"]["name"] == "foxes.jsonl"
        assert shown["metadata"]["source"]["hash"] == "0x" + content_hash(rows.read_bytes()).hex()
        for source in ("{", "[]", '{"name": "a"}'):
            parameters = {"name": "foxes.md", "licence": "MIT", "source": source}
            with pytest.raises(ApiRefused, match="source"):
                await node.api.request("POST", "/v1/documents", params=parameters, content=TEXT)


async def test_an_unknown_datanet_costs_nothing(net):
    async with net.node("a") as node:
        document = client.check_document("foxes.md", TEXT, "CC0-1.0")
        with pytest.raises(TransactionReverted, match="there is no Datanet 7"):
            await contribute(net, node, net.alice, 7, [document])
        assert not (net.folder / "drafts").exists()
        with pytest.raises(ApiRefused, match="there is no Datanet 7") as refused:
            await node.api.get("/v1/datanets/7")
        assert refused.value.status == 404


async def test_a_document_is_published_only_after_its_reveal_and_survives_a_restart_and_a_da_outage(net):
    document = client.check_document("foxes.md", TEXT, "CC0-1.0")
    registry = datanet_registry()
    announced = [[registry.topic("Announced")], [document.hash]]
    async with net.node("a") as node:
        datanet = await client.create_datanet(net.rpc, node.api, net.owner, "foxes")
        await node.api.request("POST", "/v1/documents", params={"name": "foxes.md", "licence": "CC0-1.0"}, content=TEXT)
        assert node.content.get(document.hash) == TEXT
    assert node.publishing is not None

    async with net.node("a") as node:  # restarted; the DA layer is down while the contribution is revealed
        net.da_is_down = True
        await contribute(net, node, net.alice, datanet, [document])
        await net.eventually(lambda: node.publishing.probe() is not None)
        assert "DA layer" in node.publishing.probe()
        assert not net.chain.logs(0, net.chain.head().number, [registry.address], announced)

    net.da_is_down = False
    async with net.node("a") as node, net.node("b", publishes=False) as second:
        assert await second.holds(document.hash) == TEXT
        assert node.publishing.probe() is None
    found = net.chain.logs(0, net.chain.head().number, [registry.address], announced)
    assert len(found) == 1, "announced once"


async def test_a_peer_is_asked_before_the_da_layer_and_not_believed(net):
    asked: list[bytes] = []
    async with net.node("a") as node:
        datanet = await client.create_datanet(net.rpc, node.api, net.owner, "foxes")
        document = client.check_document("foxes.md", TEXT, "CC0-1.0")

        async def honest(digest: bytes) -> bytes | None:
            asked.append(digest)
            return node.content.serve(digest)

        async def liar(digest: bytes) -> bytes | None:
            return b"something else"

        await contribute(net, node, net.alice, datanet, [document])
        async with net.node("b", publishes=False, fetch=honest, uses_da=False) as second:
            assert await second.holds(document.hash) == TEXT
            assert document.hash in asked
        async with net.node("c", publishes=False, fetch=liar, uses_da=False) as third:
            await net.eventually(lambda: third.follower.progress().missing)
            await trio.sleep(0.3)
            assert third.content.get(document.hash) is None
            missing = await third.api.get("/v1/content")
            assert {m["kind"] for m in missing["missing"]} == {"document", "metadata"}
        async with net.node("c", publishes=False, fetch=liar) as third:
            assert await third.holds(document.hash) == TEXT, "the DA layer has it"


async def test_private_documents_are_not_fetched(net):
    async with net.node("a") as node:
        datanet = await client.create_datanet(net.rpc, node.api, net.owner, "secrets", public=False)
        document = client.check_document("foxes.md", TEXT, "CC0-1.0")
        await contribute(net, node, net.alice, datanet, [document])
        async with net.node("b", publishes=False, fetch=lambda digest: _serve(node, digest)) as second:
            await net.eventually(lambda: second.registered.contributions)
            await trio.sleep(0.3)
            assert second.content.get(document.hash) is None
            with pytest.raises(ApiRefused, match="does not index"):
                await second.api.get(f"/v1/datanets/{datanet}/versions/1/corpus")


async def _serve(node: Any, digest: bytes) -> bytes | None:
    return node.content.serve(digest)


async def test_a_reorg_is_followed(net):
    async with net.node("a", publishes=False) as node:
        fork = net.chain.head("unsafe").hash
        await client.create_datanet(net.rpc, node.api, net.owner, "here")
        await net.eventually(lambda: node.registered.datanets)
        net.mining = False
        await trio.sleep(0.3)
        await trio.to_thread.run_sync(lambda: net.mine(fork, transactions=False))
        await net.eventually(lambda: not node.registered.datanets)
        net.mining = True  # the pool puts back what was reorged away: the Datanet comes again, in another block
        await net.eventually(lambda: node.registered.datanets)
        assert net.registry().datanet(1).name == "here"


async def test_documents_over_the_api_say_what_is_wrong(net):
    async with net.node("a") as node:

        async def refused(data: bytes, name: str = "a.md", licence: str = "MIT") -> tuple[int, str, str]:
            with pytest.raises(ApiRefused) as error:
                await node.api.request("POST", "/v1/documents", params={"name": name, "licence": licence}, content=data)
            return error.value.status, error.value.code, str(error.value)

        assert (await refused(TEXT, "a.pdf"))[:2] == (415, "unsupported_document")
        assert (await refused(b""))[:2] == (400, "empty_document")
        assert (await refused(TEXT + b"\xff"))[:2] == (400, "document_not_text")
        assert (await refused(TEXT + b"\0"))[:2] == (400, "document_not_text")
        assert (await refused(b"# One\n\ntwo three"))[:2] == (400, "too_few_words")
        assert (await refused(b"words " * 833_334))[:2] == (413, "document_too_large")
        status, code, message = await refused(TEXT, licence="do what you like")
        assert (status, code) == (400, "bad_metadata")
        assert "CC0-1.0" in message
        assert (await refused(TEXT, name=""))[:2] == (400, "bad_parameter")
        kept = await node.api.request(
            "POST", "/v1/documents", params={"name": "../../etc/a.md", "licence": "cc0-1.0"}, content=TEXT
        )
        assert kept["metadata"]["name"] == "a.md"
        assert kept["metadata"]["license"] == "CC0-1.0"
        assert kept["document_hash"] == "0x" + content_hash(TEXT).hex()
        answer = await node.api.http.get(f"/v1/content/{kept['document_hash']}")
        assert answer.content == TEXT
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
        for path, status in (("/v1/content/0x12", 400), (f"/v1/content/0x{bytes(32).hex()}", 404)):
            with pytest.raises(ApiRefused) as error:
                await node.api.get(path)
            assert error.value.status == status

    async with net.node("b", publishes=False) as node:
        with pytest.raises(ApiRefused, match="takes no content in"):
            await node.api.request("POST", "/v1/documents", params={"name": "a.md", "licence": "MIT"}, content=TEXT)
