"""What can go wrong in attribution, by name. Each code crosses the process edge in a `Failed` message."""

from openledger.kernels.documents import DocumentError
from openledger.kernels.model.errors import ModelError


class AttributionError(Exception):
    """Base of the errors below."""

    code = "internal"


class BadRequest(AttributionError):
    """A parameter is out of its range."""

    code = "bad_request"


class BadDocument(AttributionError):
    """A document of the index cannot be read as text. The message names it."""

    code = "bad_document"


class IndexMissing(AttributionError):
    """No index in this folder: build it first."""

    code = "index_missing"


class IndexDamaged(AttributionError):
    """The folder's files do not fit its manifest: build it again."""

    code = "index_damaged"


class ModelMissing(AttributionError):
    """A model package is not installed or not usable. The message says what to do."""

    code = "model_missing"


class AttributionUnavailable(AttributionError):
    """The attribution process ended during the request. It is restarted: ask again."""

    code = "unavailable"


_BY_CODE = {
    c.code: c
    for c in (
        AttributionError,
        BadRequest,
        BadDocument,
        IndexMissing,
        IndexDamaged,
        ModelMissing,
        AttributionUnavailable,
    )
}


def code_of(error: BaseException) -> str:
    """The code under which an error crosses the process edge."""
    if isinstance(error, AttributionError):
        return error.code
    if isinstance(error, ModelError):
        return ModelMissing.code
    if isinstance(error, DocumentError):
        return BadDocument.code
    return AttributionError.code


def error_of(code: str, message: str) -> AttributionError:
    """The error a code stands for."""
    return _BY_CODE.get(code, AttributionError)(message)
