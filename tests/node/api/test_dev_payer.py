"""A development account pays for the page's questions, and for nobody else's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.proofs.receipt import Voucher, ledger_domain
from openledger.genesis.dev_accounts import PROVIDER, USERS
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.node.api.channels import ChannelsApi
from openledger.node.api.dev_payer import PAYER_ACCOUNT, DevPayerApi, NotDevelopment
from openledger.node.config import Endpoints
from openledger.node.http import AccessPolicy, Request, RequestHead, Router, serve_http
from openledger.node.payments import Payments, parse_voucher
from openledger.node.receipts import ReceiptBook
from openledger.node.registry import CallReverted, Registry

JSON = (b"content-type", b"application/json")
LOCAL = (b"host", b"127.0.0.1:8080")


def chain_thread() -> Any:
    name = "chain_thread"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "rpc" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name].ChainThread


def request(*headers: tuple[bytes, bytes], body: bytes = b'{"most": 10}', client: str = "127.0.0.1") -> Request:
    return Request(RequestHead("POST", b"/v1/dev/voucher", (LOCAL, *headers)), body, client)


@pytest.fixture
def nobody_answers() -> DevPayerApi:
    return DevPayerApi(Endpoints("http://127.0.0.1:9", "http://127.0.0.1:9", "", ""), development=True)


async def refusal(api: DevPayerApi, sent: Request) -> tuple[int, str]:
    router = Router()
    api.mount(router)
    answer = await router(sent)
    text = getattr(answer, "body", b"").decode()
    return answer.status, text


def test_it_cannot_be_made_where_money_is_real() -> None:
    with pytest.raises(NotDevelopment):
        DevPayerApi(Endpoints("", "", "", ""), development=False)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(JSON, client="192.0.2.7"), 403),
        (request(JSON, client=""), 403),
        (request(JSON, (b"x-forwarded-for", b"192.0.2.7")), 403),
        (request(JSON, (b"forwarded", b"for=192.0.2.7")), 403),
        (request(JSON, (b"origin", b"https://evil.example")), 403),
        (request(JSON, (b"origin", b"null")), 403),
        (request(JSON, (b"origin", b"http://127.0.0.1:8081")), 403),
        (request(JSON, (b"origin", b"http://127.0.0.1:8080.evil.example")), 403),
        (request(JSON, (b"sec-fetch-site", b"cross-site")), 403),
        (request((b"content-type", b"text/plain")), 415),
        (request(JSON, body=b""), 400),
        (request(JSON, body=b'{"most": 0}'), 400),
        (request(JSON, body=b'{"most": -1}'), 400),
        (request(JSON, body=b'{"most": 1e30}'), 400),
        (request(JSON, body=b'{"most": 10, "account": 0}'), 400),
        (request(JSON, body=b"[" * 100_000), 400),
        (request(JSON, (b"origin", b"http://127.0.0.1:8080")), 503),  # let through: nobody answers behind it
        (request(JSON), 503),
    ],
)
async def test_only_programs_here_and_the_nodes_own_page_may_ask(
    nobody_answers: DevPayerApi, sent: Request, status: int
) -> None:
    assert (await refusal(nobody_answers, sent))[0] == status


async def test_a_voucher_opens_the_channel_tops_it_up_and_is_accepted(tmp_path: Path, nursery: Any) -> None:
    with chain_thread()(tmp_path, l2_genesis(DEVNET, 1_800_000_000)) as node:

        def registry() -> Registry:
            def call(to: bytes, data: bytes) -> bytes:
                result = node.chain.call(CallRequest(to=to, data=data), node.chain.head("unsafe").hash)
                if not result.success:
                    raise CallReverted(result.output)
                return result.output

            return Registry(call)

        book = ReceiptBook(tmp_path / "book.sqlite")
        payments = Payments(node.chain.chain_id, PROVIDER.address, book, lambda channel: registry().channel(channel))
        router = Router()
        ChannelsApi(payments, registry).mount(router)

        async def run(task_status: Any) -> None:
            await serve_http(router, policy=AccessPolicy(origins=("*",)), task_status=task_status)

        server = await nursery.start(run)
        DevPayerApi(Endpoints(rpc=node.url, api=server.url, l1_rpc="", da=""), development=True).mount(router)
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=180) as client:
            told = (await client.post("/v1/dev/voucher", json={"most": 1_000})).json()
            signed = parse_voucher(f'{{"channelId": "{told["channelId"]}", "maxClaimable": "{told["maxClaimable"]}", '
                                   f'"signature": "{told["signature"]}"}}')  # fmt: skip
            assert signed.voucher == Voucher(bytes.fromhex(told["channelId"][2:]), 1_000)
            payer = signed.voucher.recover(ledger_domain(node.chain.chain_id), signed.signature)
            assert payer == USERS[PAYER_ACCOUNT].address
            with payments.admit(signed, 1_000):
                pass
            deposit = registry().channel(signed.voucher.channel_id).deposit

            # Dearer than all that is there: topped up first, and above the voucher that was used.
            dear = (await client.post("/v1/dev/voucher", json={"most": 20_000_000})).json()
            assert int(dear["maxClaimable"]) >= 20_000_000
            assert registry().channel(signed.voucher.channel_id).deposit >= int(dear["maxClaimable"]) > deposit
        book.close()
