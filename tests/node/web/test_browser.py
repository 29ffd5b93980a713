"""The page in Chromium, on a running devnet: driven over the DevTools protocol, so that nothing else is needed."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from websockets.sync.client import ClientConnection, connect

from openledger.genesis.dev_accounts import USERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]


class Page:
    """A page of the browser; `complaints` is what the browser itself reported as wrong."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        self.bound: list[str] = []
        """What the page passed to its bindings, oldest first."""
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        identifier = next(self._ids)
        self._socket.send(json.dumps({"id": identifier, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=180))
            if message.get("id") == identifier:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"]["exception"].get("description", "?"))
            elif message.get("method") == "Runtime.bindingCalled":
                self.bound.append(message["params"]["payload"])
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def evaluate(self, expression: str) -> Any:
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = 120, meanwhile: Callable[[], None] = lambda: None) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            meanwhile()
            assert time.monotonic() < deadline, (expression, self.evaluate("document.body.innerText"), self.complaints)
            time.sleep(0.2)
        return value


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Page]:
    profile = tmp_path / "profile"
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with open(tmp_path / "chromium.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while not port_file.exists() or not port_file.read_text():
            assert process.poll() is None, (tmp_path / "chromium.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        targets = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        url = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
        with connect(url, max_size=1 << 24) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(20)


def head(browser: Page, label: str, column: int) -> str:
    return str(browser.evaluate(f"document.querySelector('[data-label={label}]').cells[{column}].innerText"))


def test_heads_come_as_they_are_made_and_both_nodes_agree(devnet_without_serving: Any, browser: Page) -> None:
    devnet = devnet_without_serving
    devnet.start()
    devnet.wait_until_ready()
    browser.call("Page.navigate", url=devnet.endpoints.api)
    browser.wait_for("document.querySelector('#health-summary')?.textContent.startsWith('all ')")
    browser.wait_for("document.querySelector('[data-label=unsafe]').cells[1].innerText")
    before = int(head(browser, "unsafe", 1).split()[0])
    browser.wait_for("document.querySelector('[data-label=safe]').cells[2].innerText.includes('same')", 60)
    browser.wait_for(f"parseInt(document.querySelector('[data-label=unsafe]').cells[1].innerText) > {before}")
    assert browser.evaluate("document.querySelectorAll('#strip .unsafe, #strip .safe').length") > 0
    assert "devnet, chain id 161299" in browser.evaluate("document.querySelector('#network').textContent")
    assert "Nobody has contributed yet" in browser.evaluate("document.querySelector('#earnings-note').textContent")
    # Without the model it says so, and offers no button that would do nothing.
    browser.wait_for("document.querySelector('#ask-problem').textContent.includes('does not run the model')")
    assert browser.evaluate("document.querySelector('#send').disabled")
    assert not [c for c in browser.complaints if "/v1/models" not in c], browser.complaints

    # A node that goes away and comes back is found again by the open page.
    devnet.kill()
    browser.wait_for("document.querySelector('#health-summary').textContent.includes('does not answer')")
    browser.wait_for("document.querySelector('#chain-problem').textContent.includes('trying again')")
    devnet.start()
    devnet.wait_until_ready()
    browser.wait_for("document.querySelector('#chain-problem').hidden", 40)
    browser.wait_for("document.querySelector('#health-summary').textContent.startsWith('all ')")


def ask(browser: Page, question: str) -> None:
    browser.wait_for("[...(document.querySelector('#model')?.options ?? [])].some(o => o.value === 'bare')")
    browser.evaluate(f"document.querySelector('#text').value = {json.dumps(question)}")
    browser.evaluate("document.querySelector('#most').value = 6; document.querySelector('#question').requestSubmit()")


def answers(number: int) -> str:
    return f"document.querySelectorAll('.evidence').length === {number}"


PROBLEM = "document.querySelector('#ask-problem').textContent"


def test_a_question_is_paid_by_the_devnet_account_and_its_receipt_is_settled_and_checked(
    shop: Any, browser: Page
) -> None:
    browser.call("Page.navigate", url=shop.api)
    ask(browser, "What is a whale? <b>Say it</b>")
    browser.wait_for(f"{answers(1)} || {PROBLEM}", 60)
    assert browser.evaluate(PROBLEM) == ""
    assert browser.evaluate("document.querySelector('.question').innerHTML").count("&lt;b&gt;") == 1, "text stays text"
    assert browser.evaluate("document.querySelector('.answer').textContent.trim()")
    assert "fee 0.0" in browser.evaluate("document.querySelector('.facts').textContent")
    browser.wait_for("document.querySelector('.facts .chip').textContent === 'settled'", 60)
    browser.evaluate("document.querySelector('.facts .link').click()")
    browser.wait_for("document.querySelector('#reader-body dl') !== null")
    browser.evaluate("document.querySelector('#reader-body button').click()")
    browser.wait_for("document.querySelectorAll('#reader-body .plain li').length > 10", 60)
    browser.wait_for("!document.querySelector('#reader-body button').disabled", 60)
    verdicts = browser.evaluate(
        "[...document.querySelectorAll('#reader-body .plain li > :last-child')].map(e => e.textContent)"
    )
    assert set(verdicts) == {"good"}, verdicts
    assert not [c for c in browser.complaints if "402" not in c], browser.complaints


WALLET = """
window.ethereum = { waiting: {}, next: 1, request({ method, params }) {
  return new Promise((resolve, reject) => {
    const id = this.next++;
    this.waiting[id] = { resolve, reject };
    askWallet(JSON.stringify({ id, method, params: params ?? [] }));
  });
} };
"""


def test_a_wallet_in_the_browser_opens_a_channel_and_signs_vouchers(shop: Any, browser: Page) -> None:
    wallet = Account.from_key(USERS[2].private_key)
    asked: list[str] = []

    def answer(method: str, parameters: list[Any]) -> Any:
        """What MetaMask would say, by another implementation of EIP-712 and of transactions."""
        if method == "eth_requestAccounts":
            return [wallet.address]
        if method == "eth_chainId":
            return hex(161_299)
        if method == "eth_signTypedData_v4":
            assert parameters[0] == wallet.address
            typed = encode_typed_data(full_message=json.loads(parameters[1]))
            return "0x" + bytes(wallet.sign_message(typed).signature).hex()
        if method == "eth_sendTransaction":
            (sent,) = parameters
            transaction = {
                "type": 2,
                "chainId": 161_299,
                "nonce": int(shop.devnet.rpc("eth_getTransactionCount", wallet.address, "pending"), 16),
                "to": bytes.fromhex(sent["to"][2:]),
                "data": sent["data"],
                "value": int(sent["value"], 16),
                "gas": int(shop.devnet.rpc("eth_estimateGas", sent), 16) + 10_000,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 10**6,
            }
            raw = wallet.sign_transaction(transaction).raw_transaction
            return shop.devnet.rpc("eth_sendRawTransaction", "0x" + bytes(raw).hex())
        raise AssertionError(f"the page asked the wallet for {method}")

    def serve_wallet() -> None:
        while browser.bound:
            call = json.loads(browser.bound.pop(0))
            asked.append(call["method"])
            told = json.dumps(answer(call["method"], call["params"]))
            browser.evaluate(f"window.ethereum.waiting[{call['id']}].resolve({told})")

    browser.call("Runtime.addBinding", name="askWallet")
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=WALLET)
    browser.call("Page.navigate", url=shop.api)
    browser.wait_for("document.querySelector('#payer button') !== null")
    browser.evaluate("document.querySelector('#payer button').click()")
    browser.wait_for(
        "document.querySelector('#payer').textContent.includes('from your wallet')", meanwhile=serve_wallet
    )
    for number in (1, 2):
        ask(browser, "What is a whale?")
        browser.wait_for(
            f"({answers(number)} && !document.querySelector('#send').disabled) || {PROBLEM}", 60, serve_wallet
        )
        assert browser.evaluate(PROBLEM) == ""
    assert asked.count("eth_sendTransaction") == 1, "one channel pays for many questions"
    assert asked.count("eth_signTypedData_v4") >= 2
