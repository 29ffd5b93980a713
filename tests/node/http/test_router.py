"""Paths find their handlers."""

import pytest

from openledger.node.http import HttpError, Request, RequestHead, Response, Router


def request(method: str, target: bytes) -> Request:
    return Request(RequestHead(method, target), client="127.0.0.1")


def build() -> Router:
    router = Router()

    def answer(name: str):
        async def handler(request: Request) -> Response:
            return Response.json([name, dict(request.path_parameters)])

        return handler

    router.add("GET", "/", answer("root"))
    router.add("GET", "/documents/{hash}", answer("document"))
    router.add("GET", "/documents/latest", answer("latest"))
    router.add("DELETE", "/documents/{hash}", answer("delete"))
    router.add("GET", "/static/{path...}", answer("static"))
    return router


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", b"/", b'["root",{}]'),
        ("GET", b"/documents/ab?x=/y", b'["document",{"hash":"ab"}]'),
        ("HEAD", b"/documents/ab", b'["document",{"hash":"ab"}]'),
        ("GET", b"/documents/latest", b'["latest",{}]'),
        ("DELETE", b"/documents/latest", b'["delete",{"hash":"latest"}]'),
        ("GET", b"/static/a/b.js", b'["static",{"path":"a/b.js"}]'),
        ("GET", b"http://localhost/documents/ab", b'["document",{"hash":"ab"}]'),
    ],
)
async def test_the_most_literal_route_wins(method, target, expected):
    response = await build()(request(method, target))
    assert response.body == expected


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", b"/nothing", 404), ("GET", b"/documents/", 404), ("GET", b"/documents/a/b", 404), ("POST", b"/", 405)],
)
async def test_an_unknown_path_is_404_and_a_known_one_with_another_method_405(method, target, status):
    with pytest.raises(HttpError) as caught:
        await build()(request(method, target))
    assert caught.value.status == status
