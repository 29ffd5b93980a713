"""Calls to a gRPC server of EigenDA's: the blocking stubs' answers are waited for in worker threads of trio.

grpcio and protobuf come with the extra `eigenda`; nothing of them is imported before a peer is opened.
"""

from types import TracebackType
from typing import Any, Self

import trio

from openledger.rollup.da.client import BlobNotFound, DAError, DAFailoverRequested, DAUnavailable
from openledger.rollup.da.encoding import MAX_BLOB_BYTES

_MAX_MESSAGE_BYTES = MAX_BLOB_BYTES + 64 * 1024
_MAX_REASON = 300


class GrpcPeer:
    """A connection to `target` (host:port), with TLS unless `plaintext`. Use as an async context manager.

    Raises DAError without the extra `eigenda`. Nothing is sent before the first call; `timeout_s` bounds each.
    """

    def __init__(self, target: str, *, plaintext: bool = False, timeout_s: float = 60.0) -> None:
        try:
            import grpc
        except ImportError as error:
            raise DAError(
                "talking to EigenDA over gRPC needs grpcio: pip install 'openledger-node[eigenda]'"
            ) from error
        self.target = target
        self._timeout_s = timeout_s
        options = [
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),
        ]
        self._grpc: Any = grpc
        self.channel: Any = (
            grpc.insecure_channel(target, options)
            if plaintext
            else grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection; calls on their way fail."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.channel.close)

    async def call(self, method: Any, request: Any) -> Any:
        """The answer of a stub's method; when cancelled, the call is too.

        Raises DAFailoverRequested (the server is away), DAUnavailable (overloaded, over the account's rate, too late),
        BlobNotFound, DAError (refused: trying the same again does not help).
        """
        pending = method.future(request, timeout=self._timeout_s)
        try:
            return await trio.to_thread.run_sync(pending.result, abandon_on_cancel=True)
        except self._grpc.RpcError as error:
            raise self._meaning(error) from error
        finally:
            pending.cancel()

    def _meaning(self, error: Any) -> DAError:
        code, status = error.code(), self._grpc.StatusCode
        said = f"{code.name}: {(error.details() or '')[:_MAX_REASON]}"
        if code == status.UNAVAILABLE:
            return DAFailoverRequested(f"{self.target} cannot be reached or asks to fail over ({said})")
        if code == status.RESOURCE_EXHAUSTED:
            return DAUnavailable(f"{self.target} has no capacity left for this account ({said})")
        if code == status.NOT_FOUND:
            return BlobNotFound(f"{self.target} does not have the blob ({said})")
        if code in (status.DEADLINE_EXCEEDED, status.INTERNAL, status.ABORTED, status.UNKNOWN, status.CANCELLED):
            return DAUnavailable(f"{self.target} failed ({said})")
        return DAError(f"{self.target} refused the request ({said})")
