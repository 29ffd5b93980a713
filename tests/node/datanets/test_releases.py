"""From a published version to a release that two nodes serve: the factory's API over a real chain and DA server.

Training is a stand-in that writes a small valid adapter; indexing is real.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
import trio
from safetensors.numpy import save_file

from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.genesis.parameters import Split
from openledger.kernels.attribution.client import open_attribution
from openledger.kernels.engine.adapters import adapter_digest
from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Ready
from openledger.kernels.finetune.client import FineTuneResult
from openledger.kernels.finetune.job import FineTuneJob, FineTuneProgress
from openledger.kernels.model.tokenizer import load_tokenizer
from openledger.node.api.factory import FactoryApi, ReleasesApi
from openledger.node.catalog import ReleaseNotReady, UnknownRelease
from openledger.node.catalog_service import ReleaseCatalog
from openledger.node.content import ContentStore
from openledger.node.datanets import client as datanets
from openledger.node.errors import UserError
from openledger.node.factory import client as factory
from openledger.node.factory.jobs import FineTuneJobs
from openledger.node.factory.releases import ReleaseRefused, store_adapter
from openledger.node.payer import ApiRefused
from openledger.node.predeploy_contracts import datanet_registry, model_registry
from openledger.node.wallet import TransactionReverted

TEXT = b"# Foxes\n\n" + b"The quick brown fox jumps over the lazy dog and runs into the dark green wood. " * 4
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def write_adapter(folder: Path, rank: int) -> None:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_bytes(orjson.dumps(config))
    a, b = np.ones((rank, 576), np.float32), np.ones((576, rank), np.float32)
    save_file({NAME.format("A"): a, NAME.format("B"): b}, folder / "adapter_model.safetensors")


async def train(job: FineTuneJob, on_event: Callable[[FineTuneProgress], None]) -> FineTuneResult:
    on_event(FineTuneProgress("training", 1, 1, loss=1.25))
    await trio.to_thread.run_sync(write_adapter, Path(job.output), job.rank)
    return FineTuneResult(Path(job.output), {"seed": job.seed, "data": [d.root for d in job.data_versions]})


def engine() -> EngineClient:
    """A client whose worker is not started: what releases are made of is asked of it, never an answer."""
    tokenizer = load_tokenizer()
    made = EngineClient(EngineConfig(cache_folder="/nonexistent"), None)
    made._info = Ready(
        model="SmolLM2-135M-Instruct",
        weights_root=b"\x01" * 32,
        tokenizer_hash=tokenizer.hash,
        template_hash=tokenizer.template_hash,
        tables_root=b"\x02" * 32,
        vocabulary=tokenizer.vocabulary,
        max_context=2048,
        numerics="exact-1",
        linear="native",
        threads=1,
    )
    return made


@asynccontextmanager
async def serving(net: Any, node: Any):
    """The catalog and the factory of a node, its API mounted."""
    own = engine()
    catalog = ReleaseCatalog(
        chain=net.chain,
        registry=net.registry,
        content=node.content,
        indexes=node.indexes,
        engine=own,
        adapters_folder=node.folder / "adapters",
    )
    jobs = FineTuneJobs(node.folder / "fine-tunes", train=train)
    FactoryApi(
        chain=net.chain,
        registry=net.registry,
        content=node.content,
        publishing=node.publishing,
        indexes=node.indexes,
        jobs=jobs,
        engine=own,
    ).mount(node.router)
    ReleasesApi(net.registry, node.content, catalog).mount(node.router)
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        await nursery.start(catalog.run)
        yield catalog
        nursery.cancel_scope.cancel()


async def published(net: Any, node: Any, *, corpus: bool = True) -> int:
    datanet = await datanets.create_datanet(net.rpc, node.api, net.owner, "foxes")
    document = datanets.check_document("foxes.md", TEXT, "CC0-1.0")
    (done,) = await datanets.contribute(net.rpc, node.api, net.alice, datanet, [document], folder=net.folder / "drafts")
    await datanets.approve(net.rpc, net.owner, datanet, [done.contribution])
    if corpus:
        await datanets.publish(net.rpc, node.api, net.owner, datanet)
    else:
        await net.owner.send(net.rpc, datanet_registry(), "publishVersion", datanet)
    return datanet


@pytest.mark.slow
async def test_what_was_trained_becomes_a_release_that_two_nodes_serve(net):
    async with (
        open_attribution() as attribution,
        net.node("a", attribution=attribution) as node,
        serving(net, node) as catalog,
    ):
        datanet = await published(net, node)
        events: list[dict[str, Any]] = []
        numbers = []
        for name, rank in (("foxes", 4), ("foxes-2", 8)):
            job = await factory.start_finetune(node.api, name, [(datanet, 1)], {"rank": rank, "max_steps": 1})
            ended = await factory.follow_finetune(node.api, job["id"], events.append)
            assert ended["record"]["data"] == [job["datanets"][0]["root"]]
            numbers.append(
                await factory.register_release(
                    net.rpc, node.api, net.owner, name, job["id"], price_in=100, price_out=300,
                    split=Split(2_000, 500, 1_500, 2_000, 4_000), attribution=AttributionPolicy(most_holders=8),
                )
            )  # fmt: skip
        assert [e["kind"] for e in events[:4]] == ["queued", "started", "progress", "finished"]
        assert events[2]["loss"] == 1.25
        assert numbers == [1, 2]
        shown = await factory.wait_until_served(node.api, 1)
        assert shown["price_out_micro_open_per_1000"] == 300

        first, second = catalog.releases()
        assert (first.model, second.model) == ("foxes", "foxes-2")
        assert first.adapter is not None
        assert second.adapter is not None
        assert adapter_digest(first.adapter.path) == first.adapter.digest != second.adapter.digest
        assert catalog.release("release-2") == catalog.release("foxes-2") == second
        assert first.manifest.attribution.most_holders == 8
        assert await trio.Path(first.index_folders[0]).is_dir()
        for unknown in ("cats", "release-3", "release-0"):
            with pytest.raises(UnknownRelease):
                catalog.release(unknown)
        whole = await node.api.get("/v1/releases/1")
        assert whole["training_record"] == {"data": [whole["training_record"]["data"][0]], "seed": 0}

        with pytest.raises(ApiRefused, match="already named"):
            await factory.register_release(net.rpc, node.api, net.owner, "foxes", job["id"], price_in=1, price_out=1)
        with pytest.raises(ApiRefused, match="sum"):
            await node.api.request(
                "POST", "/v1/releases",
                json={"name": "x", "job": job["id"], "price_in": 1, "price_out": 1, "split": {"owner_bps": 1}},
            )  # fmt: skip
        with pytest.raises(ApiRefused, match="finetune list"):
            await factory.register_release(net.rpc, node.api, net.owner, "x", "nothing", price_in=1, price_out=1)

        # A price changes at once; a deprecated release is not served, but can still be checked.
        await net.owner.send(net.rpc, model_registry(), "setPrice", 1, 7, 9)
        assert (catalog.release("foxes").price_in, catalog.release("foxes").price_out) == (7, 9)
        await net.owner.send(net.rpc, model_registry(), "deprecate", 2)
        with pytest.raises(UnknownRelease, match="deprecated"):
            catalog.release("foxes-2")
        assert catalog.any_release(2).manifest == second.manifest

        # Both adapters merged into a copy of the model: a release of its own, without an adapter, of the same Datanet.
        own = catalog._engine
        merge = {"price_in": 1, "price_out": 1, "merged_from": [1, 2]}
        with pytest.raises(ApiRefused, match="not a merged copy"):
            await factory.register_release(net.rpc, node.api, net.owner, "merged", "", **merge)
        with pytest.raises(ApiRefused, match="either a job or"):
            await factory.register_release(net.rpc, node.api, net.owner, "merged", job["id"], **merge)
        before, own._info = own.info, msgspec.structs.replace(own.info, weights_root=b"\x07" * 32)
        number = await factory.register_release(net.rpc, node.api, net.owner, "merged", "", **merge)
        await factory.wait_until_served(node.api, number)
        merged = catalog.release("merged")
        assert merged.adapter is None
        assert merged.manifest.base_model_root == b"\x07" * 32
        assert merged.manifest.datanets == first.manifest.datanets
        shown = await node.api.get(f"/v1/releases/{number}")
        assert [each["release"] for each in shown["training_record"]["merged_from"]] == [1, 2]
        own._info = before

        # Another node gets manifest, record and adapter from the DA layer and serves the same.
        async with net.node("b", publishes=False, attribution=attribution) as other, serving(net, other) as served:
            await factory.wait_until_served(other.api, 1, timeout_s=240)
            again = served.release("foxes")
            assert again.manifest == first.manifest
            assert again.adapter is not None
            assert adapter_digest(again.adapter.path) == first.adapter.digest
            assert not other.follower.progress().missing

        # An engine of another model refuses.
        strange = engine()
        assert strange.info is not None
        strange._info = Ready(
            **{**{f: getattr(strange.info, f) for f in strange.info.__struct_fields__}, "numerics": "exact-9"}
        )
        another = ReleaseCatalog(
            chain=net.chain, registry=net.registry, content=node.content, indexes=node.indexes, engine=strange,
            adapters_folder=net.folder / "elsewhere",
        )  # fmt: skip
        with pytest.raises(ReleaseNotReady, match="another numerics"):
            another.release("foxes")


@pytest.mark.slow
async def test_a_corpus_that_is_not_the_documents_is_neither_used_nor_served(net):
    async with (
        open_attribution() as attribution,
        net.node("a", attribution=attribution) as node,
        serving(net, node) as catalog,
    ):
        datanet = await published(net, node, corpus=False)
        job = await factory.start_finetune(node.api, "foxes", [(datanet, 1)])
        await factory.follow_finetune(node.api, job["id"])
        told: dict[str, Any] = {"ready": False}
        with trio.fail_after(120):
            while not told["ready"]:
                told = await node.api.get(f"/v1/datanets/{datanet}/versions/1/corpus")
                await trio.sleep(0.1)
        register = {"price_in": 1, "price_out": 1}
        with pytest.raises(ApiRefused, match="no corpus on chain yet"):
            await factory.register_release(net.rpc, node.api, net.owner, "foxes", job["id"], **register)
        lie = [datanet, 1, bytes.fromhex(told["tokenizer_hash"][2:]), b"\x09" * 32, b"\x09" * 32, b"\x09" * 32, 5]
        with pytest.raises(TransactionReverted, match="NotOwner"):
            await net.alice.send(net.rpc, datanet_registry(), "setCorpus", *lie)
        await net.owner.send(net.rpc, datanet_registry(), "setCorpus", *lie)
        with pytest.raises(ApiRefused, match="not what this node computes"):
            await factory.register_release(net.rpc, node.api, net.owner, "foxes", job["id"], **register)
        with pytest.raises(UserError, match="already has another corpus"):
            await datanets.publish(net.rpc, node.api, net.owner, datanet)
        assert catalog.releases() == []


def test_only_the_two_files_of_an_adapter_are_kept_and_a_pickle_is_refused(tmp_path):
    store = ContentStore(tmp_path / "content")
    write_adapter(tmp_path / "adapter", 2)
    (tmp_path / "adapter" / "README.md").write_text("about it")
    digest = store_adapter(store, tmp_path / "adapter")
    assert digest == adapter_digest(tmp_path / "adapter")
    store.export_folder(digest, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ReleaseRefused, match="pickled weights can run code"):
        store_adapter(store, tmp_path / "adapter")
