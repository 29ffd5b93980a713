"""A contributor's own memory between commitment and reveal: without the salt a commitment can never be revealed."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from openledger.evm_ext.proofs.datanet import Contribution
from openledger.node.datanets.documents import CheckedDocument
from openledger.node.errors import UserError
from openledger.node.network import write_atomically

FOLDER = Path("~/.openledger/contributions")


@dataclass(frozen=True)
class ContributionDraft:
    """What will be revealed; `salt` is random and secret until then."""

    datanet: int
    contributor: bytes
    document_hash: bytes
    metadata_hash: bytes
    size: int
    salt: bytes

    def commitment(self, chain_id: int) -> bytes:
        """What is committed to on that chain."""
        return Contribution(
            self.datanet, self.contributor, self.document_hash, self.metadata_hash, self.size, self.salt, 0
        ).commitment(chain_id)


class Drafts:
    """The drafts of one contributor for one Datanet of one chain, a file each, readable by its owner only."""

    def __init__(self, folder: Path, chain_id: int, datanet: int, contributor: bytes) -> None:
        self._folder = folder.expanduser()
        self._chain_id = chain_id
        self._datanet = datanet
        self._contributor = contributor

    def open(self, document: CheckedDocument) -> ContributionDraft:
        """The draft of a document with its old salt, or a new one, on disk before it is returned.

        Raises UserError where its file is damaged or cannot be written.
        """
        file = self._file(document.hash)
        try:
            if file.exists():
                salt = bytes.fromhex(json.loads(file.read_text())["salt"])
                if len(salt) != 32:
                    raise ValueError("a salt has 32 bytes")
            else:
                salt = secrets.token_bytes(32)
                self._folder.mkdir(parents=True, exist_ok=True)
                os.chmod(self._folder, 0o700)
                content = {"document": document.metadata.name, "salt": salt.hex()}
                write_atomically(file, json.dumps(content).encode())
        except OSError as error:
            raise UserError(f"cannot keep the salt of a commitment in {file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error}): restore it, or delete it to commit anew") from error
        return ContributionDraft(
            self._datanet, self._contributor, document.hash, document.metadata.hash, len(document.data), salt
        )

    def close(self, draft: ContributionDraft) -> None:
        """Forget a draft that was revealed or is void."""
        self._file(draft.document_hash).unlink(missing_ok=True)

    def _file(self, document_hash: bytes) -> Path:
        name = f"{self._chain_id}-{self._datanet}-{self._contributor.hex()}-{document_hash.hex()}.json"
        return self._folder / name
