"""Services start in order, are restarted when they fail, and say when they are ready."""

import pytest
import trio
import trio.lowlevel
import trio.testing

from openledger.node.errors import StartupError
from openledger.node.supervisor import Service, Supervisor


async def test_services_start_in_order_each_after_the_one_before_is_ready() -> None:
    order: list[str] = []

    def service(name: str) -> Service:
        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            order.append(f"{name} begins")
            await trio.lowlevel.checkpoint()
            order.append(f"{name} ready")
            task_status.started()
            await trio.sleep_forever()

        return Service(name, run)

    supervisor = Supervisor([service("store"), service("rpc")])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert order == ["store begins", "store ready", "rpc begins", "rpc ready"]
        assert supervisor.ready
        nursery.cancel_scope.cancel()


async def test_a_service_that_fails_is_restarted_and_not_ready_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    runs = 0

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        task_status.started()
        if runs == 1:
            await trio.sleep(1)
            raise OSError("disk gone")
        await trio.sleep_forever()

    supervisor = Supervisor([Service("store", run)])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert supervisor.health() == {"store": "ready"}
        await trio.sleep(1.1)
        assert supervisor.health() == {"store": "starting (OSError: disk gone)"}
        assert not supervisor.ready
        await trio.sleep(2)
        assert runs == 2
        assert supervisor.ready
        nursery.cancel_scope.cancel()


async def test_a_setting_that_cannot_work_stops_the_node_with_its_message() -> None:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        raise StartupError("port 8545 is in use")

    with pytest.RaisesGroup(StartupError, flatten_subgroups=True, match=None):
        await Supervisor([Service("rpc", run)]).run()


async def test_a_probe_says_what_a_started_service_waits_for() -> None:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    supervisor = Supervisor([Service("driver", run, probe=lambda: "the L1 does not answer")])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert supervisor.health() == {"driver": "the L1 does not answer"}
        assert not supervisor.ready
        nursery.cancel_scope.cancel()
