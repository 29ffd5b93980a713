"""A Datanet version as a folder that other tools read: its texts, what they are (Croissant), and where they come from (PROV).

    documents.jsonl   a row for each contribution in order of approval: text, title, licence, contributor, hashes
    croissant.json    the same described in MLCommons' Croissant 1.0 (JSON-LD), for data loaders
    prov.json         W3C PROV-JSON: who contributed what, taken from which file, approved into which version

Every document is checked against the hash that the chain names. The folder is written beside its place and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from openledger.evm_ext.proofs.content import content_hash
from openledger.kernels.documents import DocumentError, parse_document
from openledger.node.datanets.documents import MEDIA_TYPES, UNNAMED
from openledger.node.errors import UserError
from openledger.node.payer import Api

ROWS: Final = "documents.jsonl"
CROISSANT: Final = "croissant.json"
PROV: Final = "prov.json"
_PAGE: Final = 500
_COLUMNS: Final = {
    "contribution": ("sc:Integer", "The number of the contribution on chain."),
    "title": ("sc:Text", "The document's title."),
    "text": ("sc:Text", "The text as models and indexes read it."),
    "licence": ("sc:Text", "The SPDX licence expression it was contributed under."),
    "contributor": ("sc:Text", "The address of its contributor, who is paid when it shows in an answer."),
    "document_hash": ("sc:Text", "The content hash of the contributed bytes, as the chain names it."),
}


@dataclass(frozen=True)
class VersionListing:
    """A version as a node's API shows it, all its contributions included."""

    datanet: dict[str, Any]
    version: dict[str, Any]
    contributions: Sequence[dict[str, Any]]


async def list_version(api: Api, datanet: int, number: int) -> VersionListing:
    """Raises ApiRefused for an unknown version, ApiUnavailable."""
    found: list[dict[str, Any]] = []
    while True:
        told = await api.get(f"/v1/datanets/{datanet}/versions/{number}?after={len(found)}&limit={_PAGE}")
        found += told.pop("contributions")
        if len(found) >= told["count"]:
            return VersionListing(await api.get(f"/v1/datanets/{datanet}"), told, found)


async def export_version(
    api: Api,
    datanet: int,
    number: int,
    folder: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the version to `folder`, which must not be there, and give the number of its documents.

    Raises UserError (the folder is there; a document is not what the chain names), ApiRefused (the node does not have one).
    """
    place, building = trio.Path(folder), trio.Path(folder.with_name(f".{folder.name}.{os.getpid()}.tmp"))
    if await place.exists():
        raise UserError(f"{folder} is there already: name a folder that is not")
    listing = await list_version(api, datanet, number)
    try:
        await building.mkdir(parents=True)
        digest, size = hashlib.sha256(), 0
        async with await (building / ROWS).open("wb") as rows:
            for done, contribution in enumerate(listing.contributions, 1):
                row = orjson.dumps(await _row(api, contribution), option=orjson.OPT_APPEND_NEWLINE)
                await rows.write(row)
                digest.update(row)
                size += len(row)
                on_progress(done, len(listing.contributions))
        for name, document in ((CROISSANT, croissant(listing, digest.hexdigest(), size)), (PROV, prov(listing))):
            await (building / name).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        await building.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, building, ignore_errors=True))
    return len(listing.contributions)


async def _row(api: Api, contribution: dict[str, Any]) -> dict[str, Any]:
    data = (await api.http.get(f"/v1/content/{contribution['document_hash']}")).content
    if "0x" + content_hash(data).hex() != contribution["document_hash"]:
        raise UserError(
            f"the node does not have the document of contribution {contribution['id']}: ask one that holds this Datanet"
        )
    about = contribution["metadata"] or {}
    name = about.get("name", UNNAMED)
    try:
        document = parse_document(name if Path(name).suffix.lower() in MEDIA_TYPES else UNNAMED, data)
        title, text = document.title, document.text
    except DocumentError:  # anyone can register any bytes
        title, text = "", ""
    return {
        "contribution": contribution["id"],
        "title": about.get("title", title),
        "text": text,
        "licence": about.get("license", ""),
        "contributor": contribution["contributor"],
        "document_hash": contribution["document_hash"],
    }


def croissant(listing: VersionListing, sha256: str, size: int) -> dict[str, Any]:
    """The version in Croissant 1.0 (docs.mlcommons.org/croissant). `sha256`, `size`: of the rows' file."""
    datanet, version = listing.datanet, listing.version
    licences = sorted({(c["metadata"] or {}).get("license", "") for c in listing.contributions} - {""})
    name = f"{datanet['name']} v{version['version']}"
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"documents/{column}",
            "name": column,
            "description": description,
            "dataType": kind,
            "source": {"fileObject": {"@id": ROWS}, "extract": {"column": column}},
        }
        for column, (kind, description) in _COLUMNS.items()
    ]
    return {
        "@context": _CROISSANT_CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": (datanet["metadata"] or {}).get("description") or f"The Datanet {datanet['name']}",
        "version": f"{version['version']}.0.0",
        "license": [
            f"https://spdx.org/licenses/{licence}.html" if " " not in licence else licence for licence in licences
        ],
        "url": f"urn:openledger:datanet:{datanet['id']}:{version['version']}",
        "identifier": version["root"],
        "creator": [
            {"@type": "sc:Organization", "name": c} for c in sorted({c["contributor"] for c in listing.contributions})
        ],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": ROWS,
                "name": ROWS,
                "contentUrl": ROWS,
                "contentSize": f"{size} B",
                "encodingFormat": "application/jsonlines",
                "sha256": sha256,
            }
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "documents", "name": "documents", "field": fields}],
    }


def prov(listing: VersionListing) -> dict[str, Any]:
    """Where the version comes from, in PROV-JSON (w3.org/submissions/prov-json)."""
    datanet, version = listing.datanet, listing.version
    this = f"ol:datanet/{datanet['id']}/version/{version['version']}"
    owner = f"ol:account/{datanet['owner']}"
    entities: dict[str, Any] = {
        this: {"prov:type": "prov:Collection", "ol:root": version["root"], "prov:label": datanet["name"]}
    }
    agents: dict[str, Any] = {owner: {"ol:role": "owner"}}
    publishing = f"{this}/publishing"
    activities: dict[str, Any] = {publishing: {"ol:block": version["block_number"]}}
    generated = {"_:published": {"prov:entity": this, "prov:activity": publishing}}
    associated = {"_:by-owner": {"prov:activity": publishing, "prov:agent": owner}}
    members: dict[str, Any] = {}
    attributed: dict[str, Any] = {}
    derived: dict[str, Any] = {}
    for contribution in listing.contributions:
        number, about = contribution["id"], contribution["metadata"] or {}
        document, contributor = f"ol:contribution/{number}", f"ol:account/{contribution['contributor']}"
        entities[document] = {
            "prov:label": about.get("title", ""),
            "ol:documentHash": contribution["document_hash"],
            "ol:license": about.get("license", ""),
        }
        agents.setdefault(contributor, {"ol:role": "contributor"})
        contributing = f"{document}/contributing"
        activities[contributing] = {
            "ol:commitBlock": contribution["commit_block"],
            "ol:revealBlock": contribution["reveal_block"],
        }
        generated[f"_:g{number}"] = {"prov:entity": document, "prov:activity": contributing}
        associated[f"_:a{number}"] = {"prov:activity": contributing, "prov:agent": contributor}
        attributed[f"_:t{number}"] = {"prov:entity": document, "prov:agent": contributor}
        members[f"_:m{number}"] = {"prov:collection": this, "prov:entity": document}
        if source := about.get("source"):
            file = f"ol:content/{source['hash']}"
            entities.setdefault(file, {"prov:label": source["name"], "ol:mediaType": source["mediaType"]})
            derived[f"_:d{number}"] = {"prov:generatedEntity": document, "prov:usedEntity": file}
    relations = {"hadMember": members, "wasAttributedTo": attributed, "wasDerivedFrom": derived}
    return {
        "prefix": {"ol": "urn:openledger:"},
        "entity": entities,
        "agent": agents,
        "activity": activities,
        "wasGeneratedBy": generated,
        "wasAssociatedWith": associated,
        **{name: rows for name, rows in relations.items() if rows},
    }


_CROISSANT_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
