"""The server over real sockets: HTTP/1.1 as clients speak it, and as attackers do."""

import json

import httpx
import pytest
import trio
import trio.testing

from openledger.node.http import (
    AccessPolicy,
    HttpError,
    HttpLimits,
    ListenError,
    PortInUse,
    Request,
    Response,
    StreamingResponse,
    open_listeners,
    serve_http,
)

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_httpx_keeps_one_connection_for_many_requests(serve):
    server = await serve()
    async with httpx.AsyncClient(base_url=server.url) as client:
        for number in range(3):
            answer = await client.post(f"/a%20b?n={number}", content=b"body")
            assert answer.status_code == 200
            assert answer.json()["path"] == "/a b"
            assert answer.json()["query"] == {"n": str(number)}
            assert answer.json()["body"] == "body"
            assert "date" in answer.headers


async def test_pipelined_requests_are_answered_in_order(serve, connect):
    client = await connect(await serve())
    await client.send(b"".join(GET % (b"/%d" % number) for number in range(50)))
    for number in range(50):
        status, _, body = await client.read_answer()
        assert status == 200
        assert json.loads(body)["path"] == f"/{number}"


async def test_a_request_sent_byte_by_byte_is_understood(serve, connect):
    client = await connect(await serve())
    for byte in b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc":
        await client.send(bytes((byte,)))
    assert json.loads((await client.read_answer())[2])["body"] == "abc"


async def test_garbage_is_answered_400_and_closed_while_others_are_served(serve, connect):
    server = await serve()
    bad, good = await connect(server), await connect(server)
    await bad.send(b"\x00\x01nonsense\r\n\r\n")
    status, headers, body = await bad.read_answer()
    assert (status, headers["connection"]) == (400, "close")
    assert "malformed HTTP" in json.loads(body)["error"]["message"]
    assert await bad.is_closed()
    await good.send(GET % b"/")
    assert (await good.read_answer())[0] == 200


async def test_an_oversized_body_is_refused_before_it_is_sent(serve, connect):
    client = await connect(await serve(limits=HttpLimits(body=1000)))
    await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000000\r\n\r\n")
    status, _, body = await client.read_answer()
    assert status == 413
    assert "1000" in json.loads(body)["error"]["message"]


async def test_a_client_that_sends_on_after_a_refusal_can_read_it(serve, connect):
    client = await connect(await serve(limits=HttpLimits(body=1000)))
    await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000000)
    assert (await client.read_answer())[0] == 413


async def test_expect_100_continue_is_answered_before_the_body(serve, connect):
    client = await connect(await serve())
    await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.read_head())[0] == 100
    await client.send(b"ok")
    status, _, body = await client.read_answer()
    assert (status, json.loads(body)["body"]) == (200, "ok")


async def test_slow_headers_and_slow_bodies_time_out_with_408(serve, connect):
    server = await serve(limits=HttpLimits(header_timeout_s=0.2, body_timeout_s=0.1))
    slow_header, slow_body = await connect(server), await connect(server)
    await slow_header.send(b"GET / HTTP/1.1\r\nHost: loc")
    await slow_body.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            try:
                while True:
                    await slow_header.send(b"x")
                    await trio.sleep(0.02)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(drip)
        assert (await slow_header.read_head())[0] == 408
        nursery.cancel_scope.cancel()
    assert (await slow_body.read_head())[0] == 408


async def test_an_idle_connection_is_closed(serve, connect):
    client = await connect(await serve(limits=HttpLimits(idle_timeout_s=0.1)))
    assert await client.is_closed()


async def test_one_connection_too_many_is_told_so(serve, connect):
    server = await serve(limits=HttpLimits(connections=2))
    first, second = await connect(server), await connect(server)
    for client in (first, second):
        await client.send(GET % b"/")
        assert (await client.read_answer())[0] == 200
    assert (await (await connect(server)).read_head())[0] == 503
    await first.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    third = await connect(server)
    await third.send(GET % b"/")
    assert (await third.read_answer())[0] == 200


async def test_a_reader_that_stops_is_dropped(serve, connect):
    server = await serve(limits=HttpLimits(send_timeout_s=0.2))
    client = await connect(server)
    await client.send(GET % b"/large?size=50000000")
    await trio.sleep(0.6)
    assert len(await client.read_to_end()) < 50_000_000


async def test_a_failing_handler_answers_500_and_the_connection_lives(serve, connect):
    client = await connect(await serve())
    await client.send(GET % b"/fail" + GET % b"/refuse" + GET % b"/")
    status, _, body = await client.read_answer()
    assert status == 500
    assert b"a bug" not in body
    status, _, body = await client.read_answer()
    assert (status, json.loads(body)["error"]["message"]) == (418, "no coffee here")
    assert (await client.read_answer())[0] == 200


async def test_head_http10_and_connection_close(serve, connect):
    server = await serve()
    client = await connect(server)
    await client.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers = await client.read_head()
    assert status == 200
    assert int(headers["content-length"]) > 0
    await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (await client.read_answer())[1]["connection"] == "close"
    assert await client.is_closed()
    old = await connect(server)
    await old.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await old.read_answer())[0] == 200
    assert await old.is_closed()


async def test_an_h2c_upgrade_is_declined_and_answered_in_http11(serve, connect):
    client = await connect(await serve())
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    await client.send(b"POST /u HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n" + upgrade + b"\r\nhi")
    assert json.loads((await client.read_answer())[2])["body"] == "hi"
    await client.send(GET % b"/after")
    assert json.loads((await client.read_answer())[2])["path"] == "/after"


async def test_a_stream_arrives_as_it_is_made_and_the_connection_goes_on(serve, connect):
    more = trio.Event()

    async def handler(request: Request) -> Response | StreamingResponse:
        async def chunks():
            yield b"data: 1\n\n"
            await more.wait()
            yield b""
            yield b"data: 2\n\n"

        return StreamingResponse(chunks())

    client = await connect(await serve(handler))
    await client.send(GET % b"/")
    status, headers = await client.read_head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert await client.read_chunk() == b"data: 1\n\n"
    await client.send(GET % b"/next")  # sent while the stream runs
    more.set()
    assert await client.read_chunk() == b"data: 2\n\n"
    assert await client.read_chunk() == b""
    assert (await client.read_answer())[0] == 200


async def test_a_disconnect_cancels_the_stream_and_runs_its_finally(serve, connect):
    finished = trio.Event()

    async def handler(request: Request) -> StreamingResponse:
        async def chunks():
            try:
                yield b"begun"
                await trio.sleep_forever()
            finally:
                finished.set()

        return StreamingResponse(chunks())

    client = await connect(await serve(handler))
    await client.send(GET % b"/")
    await client.read_head()
    await client.stream.aclose()
    with trio.fail_after(120):
        await finished.wait()


async def test_a_stream_that_fails_midway_ends_the_connection_without_the_last_chunk(serve, connect):
    async def handler(request: Request) -> StreamingResponse:
        async def chunks():
            yield b"begun"
            raise RuntimeError("the engine died")

        return StreamingResponse(chunks())

    client = await connect(await serve(handler))
    await client.send(GET % b"/")
    await client.read_head()
    assert not (await client.read_to_end()).endswith(b"0\r\n\r\n")


async def test_run_until_disconnect_cancels_a_long_computation(serve, connect):
    cancelled = trio.Event()

    async def compute(seconds: float) -> int:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            cancelled.set()
            raise
        return 7

    async def handler(request: Request) -> Response:
        return Response.json(await request.run_until_disconnect(compute, float(request.query["s"])))

    server = await serve(handler)
    client = await connect(server)
    await client.send(GET % b"/?s=0.05")
    assert (await client.read_answer())[2] == b"7"
    await client.send(GET % b"/?s=100")
    await trio.sleep(0.05)
    await client.stream.aclose()
    with trio.fail_after(120):
        await cancelled.wait()


async def test_a_port_in_use_says_what_to_do():
    listeners = await open_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(PortInUse, match=f"port {port} is in use; stop the other program or choose another port"):
        await open_listeners("127.0.0.1", port)
    for listener in listeners:
        await listener.aclose()
    with pytest.raises(ListenError, match="cannot listen on"):
        await open_listeners("203.0.113.1", 0)


async def test_shutdown_lets_an_answer_end_closes_idle_connections_and_frees_the_port(connect):
    begun = trio.Event()

    async def handler(request: Request) -> Response:
        begun.set()
        await trio.sleep(0.2)
        return Response.text("done")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(lambda task_status: serve_http(handler, task_status=task_status))
        idle, busy = await connect(server), await connect(server)
        await busy.send(GET % b"/")
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await idle.is_closed()
            status, headers, body = await busy.read_answer()
            assert (status, headers["connection"], body) == (200, "close", b"done")
    for listener in await open_listeners(server.host, server.port):
        await listener.aclose()


async def test_shutdown_does_not_wait_longer_than_the_grace_time(connect):
    async def handler(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            limits = HttpLimits(grace_s=0.1)
            server = await nursery.start(
                lambda task_status: serve_http(handler, limits=limits, task_status=task_status)
            )
            client = await connect(server)
            await client.send(GET % b"/")
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()


async def test_cors_preflight_and_answers(serve):
    server = await serve(policy=AccessPolicy(origins=("https://app.example",)))
    ask = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
        "access-control-request-private-network": "true",
    }
    async with httpx.AsyncClient(base_url=server.url) as client:
        allowed = await client.options("/", headers={"origin": "https://app.example", **ask})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert allowed.headers["access-control-allow-headers"] == "content-type"
        assert allowed.headers["access-control-allow-private-network"] == "true"
        refused = await client.options("/", headers={"origin": "https://evil.example", **ask})
        assert refused.status_code == 403
        answer = await client.post("/", headers={"origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        foreign = await client.post("/", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers


async def test_any_origin_when_configured_so(serve):
    server = await serve(policy=AccessPolicy(origins=("*",)))
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/", headers={"origin": "http://localhost:3000"})
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost:8545", 200),
        (b"127.0.0.1", 200),
        (b"[::1]:8545", 200),
        (b"192.0.2.7:8545", 200),
        (b"node.example", 200),
        (b"NODE.example:80", 200),
        (b"rebound.example", 403),
        (b"localhost.evil.example", 403),
    ],
)
async def test_a_rebound_name_is_refused(serve, connect, host, status):
    client = await connect(await serve(policy=AccessPolicy(hosts=("node.example",))))
    await client.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert (await client.read_answer())[0] == status


async def test_a_missing_host_is_refused(serve, connect):
    client = await connect(await serve())
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert (await client.read_answer())[0] == 400


async def test_what_is_answered_at_once_is_the_same_answer(serve, connect):
    asked: list[str] = []

    async def handler(request: Request) -> Response:
        asked.append("task")
        return Response.text(f"slow {request.body.decode()}")

    def quick(request: Request) -> Response | None:
        asked.append("quick")
        if request.body.startswith(b"s"):
            return None
        return Response(204) if request.body == b"void" else Response.text(f"quick {request.body.decode()}")

    client = await connect(await serve(handler, quick=quick))
    answers = []
    # The first of each head is parsed, later ones are known.
    for body in (b"aaaa", b"bbbb", b"slow", b"void", b"cccc"):
        await client.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n" + body)
        status, headers, text = await client.read_answer()
        assert "date" in headers
        answers.append((status, text))
    assert answers == [(200, b"slow aaaa"), (200, b"quick bbbb"), (200, b"slow slow"), (204, b""), (200, b"quick cccc")]
    assert asked == ["task", "quick", "quick", "task", "quick", "quick"]
    # Two at once, in pieces, and with another head are no less understood.
    post = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
    await client.send(post + b"1111" + post + b"2222")
    assert [(await client.read_answer())[2] for _ in range(2)] == [b"slow 1111", b"slow 2222"]
    await client.send(post + b"33")
    await trio.testing.wait_all_tasks_blocked()
    await client.send(b"33")
    assert (await client.read_answer())[2] == b"slow 3333"


async def test_a_large_answer_made_at_once_reaches_a_slow_reader_whole(serve, connect):
    async def handler(request: Request) -> Response:
        return Response.text("first")

    def quick(request: Request) -> Response | None:
        return Response(200, b"x" * 20_000_000)

    client = await connect(await serve(handler, quick=quick))
    await client.send(GET % b"/")
    assert (await client.read_answer())[2] == b"first"
    for _ in range(2):
        await client.send(GET % b"/")
        assert len((await client.read_answer())[2]) == 20_000_000


async def test_credentials_are_asked_each_time_though_the_head_is_known(serve, connect):
    times = iter(range(3))

    def authorize(request: Request) -> None:
        if next(times) == 2:
            raise HttpError(401, "the token is too old")

    def quick(request: Request) -> Response | None:
        return Response.text("unasked")

    client = await connect(await serve(quick=quick, policy=AccessPolicy(authorize=authorize)))
    statuses = []
    for _ in range(3):
        await client.send(GET % b"/")
        statuses.append((await client.read_answer())[0])
    assert statuses == [200, 200, 401]


async def test_one_client_s_connections_are_bounded(serve, connect):
    server = await serve(limits=HttpLimits(connections_per_client=1))
    first = await connect(server)
    await first.send(GET % b"/")
    assert (await first.read_answer())[0] == 200
    assert (await (await connect(server)).read_head())[0] == 503
