"""Which status and code each refusal of the Datanet and factory services has in the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from openledger.kernels.documents import (
    DocumentError,
    DocumentNotText,
    DocumentTooLarge,
    EmptyDocument,
    UnsupportedDocument,
)
from openledger.kernels.engine.client import EngineUnusable
from openledger.kernels.finetune.job import InvalidJob
from openledger.node.api.errors import ApiError, answering
from openledger.node.datanets.documents import BadMetadata, TooFewWords
from openledger.node.datanets.indexes import IndexNotReady, PrivateDatanet
from openledger.node.datanets.service import OutboxFull
from openledger.node.datanets.versions import VersionUnreadable
from openledger.node.errors import UserError
from openledger.node.factory.jobs import JobNotFinished, TooManyJobs, UnknownJob
from openledger.node.factory.releases import ReleaseRefused
from openledger.node.http import Handler, Request, Response, StreamingResponse
from openledger.node.registry import NotRegistered
from openledger.node.revert_words import in_words

_REFUSALS: tuple[tuple[type[Exception], int, str], ...] = (
    (DocumentTooLarge, 413, "document_too_large"),
    (UnsupportedDocument, 415, "unsupported_document"),
    (DocumentNotText, 400, "document_not_text"),
    (EmptyDocument, 400, "empty_document"),
    (TooFewWords, 400, "too_few_words"),
    (DocumentError, 400, "bad_document"),
    (BadMetadata, 400, "bad_metadata"),
    (OutboxFull, 507, "outbox_full"),
    (NotRegistered, 404, "not_registered"),
    (PrivateDatanet, 403, "private_datanet"),
    (VersionUnreadable, 503, "version_unreadable"),
    (IndexNotReady, 409, "index_not_ready"),
    (UnknownJob, 404, "unknown_job"),
    (JobNotFinished, 409, "job_not_finished"),
    (TooManyJobs, 429, "too_many_jobs"),
    (InvalidJob, 400, "bad_parameter"),
    (ReleaseRefused, 409, "release_refused"),
    (EngineUnusable, 503, "engine_unavailable"),
    (UserError, 400, "bad_request"),
)


def refusing(handler: Callable[[Request], Awaitable[Response | StreamingResponse]]) -> Handler:
    """A handler whose refusals become answers that say what to change."""

    async def handled(request: Request) -> Response | StreamingResponse:
        try:
            return await handler(request)
        except tuple(kind for kind, _, _ in _REFUSALS) as error:
            status, code = next((s, c) for kind, s, c in _REFUSALS if isinstance(error, kind))
            kind_of_error = "server_error" if status >= 500 else "invalid_request_error"
            raise ApiError(status, code, in_words(str(error)), kind_of_error) from error

    return answering(handled)


def page(request: Request, most: int = 500) -> tuple[int, int]:
    """`after` and `limit` of a list. Raises ApiError."""
    values = []
    for name, usual in (("after", 0), ("limit", 100)):
        text = request.query.get(name, str(usual))
        if not text.isdecimal() or len(text) > 10:
            raise ApiError(400, "bad_parameter", f"{name} must be a whole number, not {text[:40]!r}")
        values.append(int(text))
    after, limit = values
    if not 1 <= limit <= most:
        raise ApiError(400, "bad_parameter", f"limit must be from 1 to {most}, not {limit}")
    return after, limit
