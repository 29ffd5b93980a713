"""Which errors are meant for people: they are printed without a traceback."""

from __future__ import annotations

from openledger.node.errors import StartupError, UserError
from openledger.node.rpc_client import RpcError, RpcUnavailable


def meant_for_people(error: BaseException) -> BaseException | None:
    """The error meant for a person inside `error`, which may be a group; None where there is none."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := meant_for_people(inner))), None)
    return error if isinstance(error, StartupError | UserError | RpcError | RpcUnavailable) else None
