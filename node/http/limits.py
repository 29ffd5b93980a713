"""What one HTTP server allows a client to spend: memory, time and connections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one listening server. Sizes are bytes, times are seconds.

    Each is enforced while bytes arrive, before the memory that it bounds is allocated.
    """

    body: int = 5 * 1024 * 1024
    """Largest request body."""
    header: int = 32 * 1024
    """Largest request line and headers together."""
    header_count: int = 100
    connections: int = 2_000
    """Open connections; one more is answered 503 and closed."""
    connections_per_client: int = 0
    """Open connections of one IP address; 0 for no bound (a proxy in front has one address for all)."""
    header_timeout_s: float = 10.0
    """From a request's first byte to the end of its headers."""
    body_timeout_s: float = 30.0
    """From the end of the headers to the end of the body."""
    idle_timeout_s: float = 120.0
    """A kept-alive connection without a request is closed after this."""
    send_timeout_s: float = 20.0
    """A client must take each 256 KiB of an answer within this, or it is dropped."""
    grace_s: float = 5.0
    """At shutdown, answers already begun may take this long."""
    websocket_message: int = 5 * 1024 * 1024
    """Largest WebSocket message, all its fragments together."""
    websocket_queue: int = 16 * 1024 * 1024
    """Bytes waiting for one WebSocket's reader; a slower reader is dropped."""
    websocket_ping_s: float = 30.0
    """A silent WebSocket is pinged after this and dropped after twice this."""

    @property
    def sweep_interval_s(self) -> float:
        """How often deadlines are looked at: as much later may a connection be closed."""
        shortest = min(self.header_timeout_s, self.body_timeout_s, self.idle_timeout_s, self.websocket_ping_s)
        return min(1.0, shortest / 4)
