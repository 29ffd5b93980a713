"""openledger: what our contracts hold, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from openledger.node.lineage import Lineage, LineageUnknown, leaderboard
from openledger.node.registry import NotRegistered, Registry
from openledger.node.revert_words import in_words
from openledger.node.rpc.errors import InvalidParams, ServerError
from openledger.node.rpc.formats import Json
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import TEXT, decode_hash

MAX_ROWS: Final = 1_000


def decode_number(value: Any) -> int:
    """An id of our registries: a JSON number, or a quantity in hex."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**32:
        return value
    if isinstance(value, str) and value.startswith("0x") and 0 < len(value) - 2 <= 8:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise ValueError("an id is a number from 1 to 4294967295, or the same in hex")


class OpenledgerRpc:
    def __init__(self, registry: Callable[[], Registry], named: Callable[[bytes], bytes | None]) -> None:
        self._registry = registry
        self._named = named

    @rpc_method("openledger_lineage", TEXT, Parameter(lambda value: value), blocking=True, slow=True)
    def lineage(self, kind: str, identifier: Any) -> Json:
        """The graph around a "datanet", "contribution", "release" (an id) or "receipt" (its hash).

        Raises InvalidParams for another kind or a malformed id, ServerError for what is not there.
        """
        graph = Lineage(self._registry(), self._named)
        try:
            if kind == "receipt":
                graph.of_receipt(decode_hash(identifier))
            elif kind in ("datanet", "contribution", "release"):
                getattr(graph, f"of_{kind}")(decode_number(identifier))
            else:
                raise InvalidParams(f"{kind!r} has no lineage: ask for a datanet, contribution, release or receipt")
        except LineageUnknown as error:
            raise ServerError(in_words(str(error))) from error
        except ValueError as error:
            raise InvalidParams(f"argument 1: {error}") from error
        return graph.to_json()

    @rpc_method(
        "openledger_leaderboard",
        Parameter(decode_number).optional(),
        Parameter(decode_number).optional(100),
        blocking=True,
        slow=True,
    )
    def leaderboard(self, datanet: int | None, limit: int) -> list[Json]:
        """Contributors to a Datanet, or to all, by what they have not claimed yet; `limit` rows at most."""
        registry = self._registry()
        try:
            if datanet is not None:
                registry.datanet(datanet)
            return leaderboard(registry, datanet, min(limit, MAX_ROWS))
        except NotRegistered as error:
            raise ServerError(in_words(str(error))) from error
