"""From a trained adapter to what its owner registers: adapter, training record and manifest, all in the content store.

Nothing here is signed: the owner's wallet sends `ModelRegistry.register` with what `ReleaseDraft` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from openledger.evm_ext.proofs.content import encode_folder
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.release import DatanetPin, InvalidRelease, ReleaseManifest
from openledger.genesis.parameters import Split
from openledger.kernels.engine.messages import Ready
from openledger.kernels.finetune.adapter import CONFIG, WEIGHTS, check_adapter
from openledger.kernels.finetune.job import InvalidJob
from openledger.node.content import ContentStore
from openledger.node.datanets.indexes import BuiltIndex
from openledger.node.datanets.service import PublishingService
from openledger.node.errors import UserError
from openledger.node.prompt import template_hash
from openledger.node.registry import Registry

NO_ADAPTER = bytes(32)
NO_EMBEDDER = bytes(32)


class ReleaseRefused(UserError):
    """No release can be made of this; the message says what to change."""


@dataclass(frozen=True)
class ReleaseTerms:
    """What the owner decides. Prices are micro-OPEN per 1,000 tokens."""

    name: str
    price_in: int
    price_out: int
    split: Split
    attribution: AttributionPolicy


@dataclass(frozen=True)
class ReleaseDraft:
    """A release ready to be registered: everything it commits to is on this node's disk."""

    manifest: ReleaseManifest
    manifest_hash: bytes
    training_record: bytes


def pin_of(registry: Registry, built: BuiltIndex) -> DatanetPin:
    """The pin of a Datanet version, whose corpus its owner must have set on chain as this node computed it.

    Raises ReleaseRefused, NotRegistered.
    """
    where = f"version {built.version} of Datanet {built.datanet}"
    corpus = registry.corpus(built.datanet, built.version, built.tokenizer_hash)
    if corpus is None:
        raise ReleaseRefused(
            f"{where} has no corpus on chain yet: its owner runs `openledger datanet publish {built.datanet}`"
        )
    if (corpus.corpus_root, corpus.retrieval_root, corpus.information_root, corpus.tokens) != (
        built.corpus_root, built.retrieval_root, built.information_root, built.tokens,
    ):  # fmt: skip
        raise ReleaseRefused(f"{where}: the corpus on chain is not what this node computes from its documents")
    return DatanetPin(built.datanet, built.version, built.version_root, built.corpus_root, built.retrieval_root)


def store_adapter(content: ContentStore, folder: Path) -> bytes:
    """Keep an adapter's two files and return the folder's hash, which is the engine's digest of it too. Blocks.

    Raises ReleaseRefused for a pickle or anything else that is no adapter.
    """
    try:
        check_adapter(folder)
    except InvalidJob as error:
        raise ReleaseRefused(str(error)) from error
    return content.put_object(
        encode_folder({name: content.put((folder / name).read_bytes()) for name in (CONFIG, WEIGHTS)})
    )


@dataclass(frozen=True)
class ReleaseSources:
    """Where a release comes from: Datanets by (id, version), and its training record."""

    datanets: tuple[tuple[int, int], ...]
    record: dict[str, Any] | None


def merged_copy(content: ContentStore, registry: Registry, engine: Ready, releases: Sequence[int]) -> ReleaseSources:
    """The engine's model as a copy into which the adapters of these releases were merged: it keeps all of their Datanets.

    Raises ReleaseRefused: one is not known here, is of another model's tokenizer or numerics, has no adapter, or is served
    by the same weights; NotRegistered.
    """
    if len(set(releases)) != len(releases):
        raise ReleaseRefused("a release is named twice in merged_from")
    sources: dict[int, int] = {}
    merged = []
    for identifier in releases:
        release = registry.release(identifier)
        encoded = content.get(release.manifest_hash, 1 << 20)
        if encoded is None:
            raise ReleaseRefused(f"the manifest of release {identifier} is not on this node yet: wait for the DA layer")
        try:
            manifest = ReleaseManifest.decode(encoded)
        except InvalidRelease as error:
            raise ReleaseRefused(f"release {identifier} has an invalid manifest: {error}") from error
        if manifest.adapter_hash == NO_ADAPTER:
            raise ReleaseRefused(f"release {identifier} has no adapter that could have been merged")
        if (manifest.tokenizer_hash, manifest.numerics) != (engine.tokenizer_hash, engine.numerics):
            raise ReleaseRefused(
                f"release {identifier} has another tokenizer or other numerics than this node's engine"
            )
        if manifest.base_model_root == engine.weights_root:
            raise ReleaseRefused(
                f"this node's engine has the weights that release {identifier} is based on, not a merged copy: set "
                "engine.model_file to the file that `openledger release merge` wrote, and restart"
            )
        for pin in manifest.datanets:
            if sources.setdefault(pin.datanet, pin.version) != pin.version:
                raise ReleaseRefused(f"the releases are of different versions of Datanet {pin.datanet}")
        merged.append({"release": identifier, "release_hash": "0x" + manifest.hash.hex()})
    record = {"merged_from": merged, "weights_root": "0x" + engine.weights_root.hex()}
    return ReleaseSources(tuple(sorted(sources.items())), record)


def draft_release(
    content: ContentStore,
    publishing: PublishingService | None,
    engine: Ready,
    terms: ReleaseTerms,
    pins: Sequence[DatanetPin],
    embedder_hash: bytes,
    adapter: Path | None,
    record: dict[str, Any] | None,
) -> ReleaseDraft:
    """Keep everything a release is made of and say what to register. Blocks for the disk.

    Raises ReleaseRefused.
    """
    adapter_hash = NO_ADAPTER if adapter is None else store_adapter(content, adapter)
    try:
        manifest = ReleaseManifest(
            name=terms.name,
            base_model=engine.model,
            base_model_root=engine.weights_root,
            adapter_hash=adapter_hash,
            tokenizer_hash=engine.tokenizer_hash,
            template_hash=template_hash(engine.template_hash),
            tables_hash=engine.tables_root,
            numerics=engine.numerics,
            embedder_hash=embedder_hash,
            datanets=tuple(sorted(pins, key=lambda pin: pin.datanet)),
            attribution=terms.attribution,
            price_in=terms.price_in,
            price_out=terms.price_out,
            split=terms.split,
        )
    except InvalidRelease as error:
        raise ReleaseRefused(str(error)) from error
    encoded = manifest.encode()
    manifest_hash = content.put(encoded)
    contents: tuple[bytes, ...] = (manifest_hash,)
    size = len(encoded)
    training_record = bytes(32)
    if record is not None:
        written = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
        training_record = content.put(written)
        contents, size = (*contents, training_record), size + len(written)
    if publishing is not None:
        publishing.queue(manifest_hash, contents, size)
        if adapter is not None:
            publishing.queue(adapter_hash, (adapter_hash,), (adapter / WEIGHTS).stat().st_size)
    return ReleaseDraft(manifest, manifest_hash, training_record)
