"""The page is served whole, from itself only, under a policy that lets nothing else in."""

import re

import httpx
import pytest

from openledger.node.config import load_config
from openledger.node.http import AccessPolicy, Router, serve_http
from openledger.node.web.pages import CONTENT_TYPES, WebPages, page_files

FILES = page_files()


@pytest.fixture
async def page(nursery):
    """A client of a served page of a devnet at port offset 7."""
    router = Router()
    WebPages(load_config(role="dev", port_offset=7), 161_299, True).mount(router)

    async def run(task_status):
        await serve_http(router, policy=AccessPolicy(origins=("*",)), task_status=task_status)

    server = await nursery.start(run)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


async def test_every_file_is_served_with_its_type_and_is_not_sniffed(page):
    for path, file in FILES.items():
        answer = await page.get(f"/web/{path}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == file.content_type
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == file.body
    assert (await page.get("/")).content == FILES["index.html"].body
    assert (await page.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"


async def test_a_file_that_the_browser_has_is_not_sent_again(page):
    first = await page.get("/web/page.css")
    again = await page.get("/web/page.css", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (await page.get("/web/page.css", headers={"if-none-match": '"old"'})).status_code == 200


async def test_head_has_the_headers_and_no_body(page):
    answer = await page.head("/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(FILES["index.html"].body)


async def test_the_policy_names_only_this_node_and_its_second(page):
    answer = await page.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    allowed = "'self' ws://127.0.0.1:8552 ws://127.0.0.1:8562 http://127.0.0.1:8097"
    assert policy["connect-src"] == allowed


async def test_the_page_reaches_the_node_under_the_name_it_was_reached_by(page):
    answer = await page.get("/web/config.json", headers={"host": "localhost:9999"})
    told = answer.json()
    assert told["rpc"] == "http://localhost:8552"
    assert told["second_rpc"] == "http://localhost:8562"
    assert told["second_api"] == "http://localhost:8097"
    assert told["chain_id"] == 161_299
    assert told["development"] is True
    assert (await page.get("/web/config.json", headers={"host": "[::1]:9999"})).json()["rpc"] == "http://127.0.0.1:8552"


@pytest.mark.parametrize("host", ["127.0.0.1; script-src *", "127.0.0.1 http://evil.example", "localhost:1'\"<>"])
async def test_a_host_cannot_write_into_the_policy(page, host):
    answer = await page.get("/", headers={"host": host})
    assert answer.status_code == 403 or "evil" not in answer.headers["content-security-policy"]
    assert "*" not in answer.headers.get("content-security-policy", "")


@pytest.mark.parametrize(
    "path",
    [
        "/web/../pages.py", "/web/%2e%2e/pages.py", "/web/..%2fpages.py", "/web/%2e%2e%2f%2e%2e%2fconfig.py",
        "/web//etc/passwd", "/web/%2fetc%2fpasswd", "/web/static/page.css", "/web/", "/web/page.css/",
        "/web/..\\pages.py", "/web/page.css%00.html",
    ],
)  # fmt: skip
async def test_nothing_outside_the_page_is_served(page, path):
    # httpx would tidy the path, so it goes over a raw request.
    request = page.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await page.send(request)).status_code == 404


def test_a_node_without_a_second_one_names_none():
    config = load_config(role="validator", port_offset=0)
    assert WebPages(config, 161_299, True)._ports("rpc") == [8545]


def test_the_page_takes_nothing_from_other_hosts():
    for path, file in FILES.items():
        text = file.body.decode()
        for url in re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text.replace("http://www.w3.org/2000/svg", "")):
            raise AssertionError(f"{path} names {url}")


def test_every_file_that_the_page_names_is_there():
    html = FILES["index.html"].body.decode()
    named = set(re.findall(r'(?:src|href)="/web/([^"]+)"', html))
    assert {"page.css", "app.js", "icon.svg"} <= named <= set(FILES)
    for path, file in FILES.items():
        if path.endswith(".js"):
            for imported in re.findall(r'from "\./([^"]+)"', file.body.decode()):
                assert imported in FILES, f"{path} imports {imported}"


def test_every_element_that_a_script_asks_for_is_in_the_page():
    identifiers = set(re.findall(r'id="([^"]+)"', FILES["index.html"].body.decode()))
    for path, file in FILES.items():
        for asked in re.findall(r'(?:\$|problem)\("([a-z-]+)"', file.body.decode()):
            assert asked in identifiers, f"{path} asks for #{asked}"


def test_nothing_is_inline_that_the_policy_would_stop():
    html = FILES["index.html"].body.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", html)
    for path, file in FILES.items():
        assert "innerHTML" not in file.body.decode(), path


def test_the_page_is_small():
    assert sum(len(file.body) for file in FILES.values()) < 64 << 10
    assert {"." + path.rpartition(".")[2] for path in FILES} <= set(CONTENT_TYPES)
