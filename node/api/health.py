"""GET /health: 200 only when every service is ready, else 503; the body names each service and what it waits for."""

from __future__ import annotations

from openledger.node.http import Request, Response, Router
from openledger.node.supervisor import Supervisor


class HealthApi:
    """Answers from a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def mount(self, router: Router) -> None:
        router.add("GET", "/health", self.health)

    async def health(self, _request: Request) -> Response:
        services = self._supervisor.health()
        ready = all(status == "ready" for status in services.values())
        return Response.json({"ready": ready, "services": services}, 200 if ready else 503)
