"""One nursery that keeps a node's services running, and knows which are ready.

A service is an async function that may be cancelled at any await and run again. It says it is ready through
trio's `task_status.started()`. Services start in the listed order, each once the one before is ready. One that
fails while starting for a reason a restart cannot mend (`StartupError`) stops the node with that message; one
that fails later is restarted with a growing pause, and the node stays up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio

from openledger.node.errors import StartupError, UserError

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
CALM_AFTER_S = 60.0
"""A service that ran this long before failing starts again with the first pause."""


class Run(Protocol):
    """The body of a service."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None: ...


def _nothing_wrong() -> str | None:
    return None


@dataclass(frozen=True)
class Service:
    """A named part of the node.

    `run(task_status)` runs until cancelled. `probe()` is asked after the service started: None means it is
    ready, a sentence says what it waits for (for instance "L1 is not answering").
    """

    name: str
    run: Run
    probe: Callable[[], str | None] = _nothing_wrong


@dataclass
class ServiceState:
    """What the supervisor knows of a service."""

    started: bool = False
    failures: int = 0
    last_error: str | None = None


@dataclass
class Supervisor:
    """Runs services; see the module's text for the contract."""

    services: list[Service]
    states: dict[str, ServiceState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given, self.services = self.services, []
        for service in given:
            self.add(service)

    def add(self, service: Service) -> None:
        """One more service, before `run`. Raises ValueError for a name that is taken."""
        if service.name in self.states:
            raise ValueError(f"two services are named {service.name}")
        self.services.append(service)
        self.states[service.name] = ServiceState()

    def health(self) -> dict[str, str]:
        """For each service "ready", or a sentence saying what is missing."""
        report = {}
        for service in self.services:
            state = self.states[service.name]
            if not state.started:
                report[service.name] = f"starting ({state.last_error})" if state.last_error else "starting"
            else:
                report[service.name] = service.probe() or "ready"
        return report

    @property
    def ready(self) -> bool:
        """Whether every service is ready."""
        return all(status == "ready" for status in self.health().values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start every service in order and keep them running until cancelled.

        Raises StartupError when a service says that it cannot start as configured.
        """
        async with trio.open_nursery() as nursery:
            for service in self.services:
                await nursery.start(self._keep, service)
            task_status.started()

    async def _keep(self, service: Service, *, task_status: trio.TaskStatus[None]) -> None:
        state = self.states[service.name]
        pause_s = FIRST_PAUSE_S
        announced = False
        while True:
            began = trio.current_time()
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(service.run)
                    state.started = True
                    log.debug("service started", service=service.name)
                    if not announced:
                        announced = True
                        task_status.started()
                return
            except* StartupError:
                if not announced:
                    raise
                self._failed(service, state)
            except* Exception:
                # A service's outer edge: the rest of the node must live on.
                self._failed(service, state)
            if trio.current_time() - began > CALM_AFTER_S:
                pause_s = FIRST_PAUSE_S
            if not announced and state.failures >= 5:
                announced = True  # do not hold the others back any longer; health says what is missing
                task_status.started()
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _failed(self, service: Service, state: ServiceState) -> None:
        error = sys.exception()
        first = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        state.started = False
        state.failures += 1
        state.last_error = f"{type(first).__name__}: {first}"
        if isinstance(first, UserError):
            log.error("service ended, restarting it", service=service.name, failures=state.failures, reason=str(first))
        else:
            log.error("service failed, restarting it", service=service.name, failures=state.failures, exc_info=error)
