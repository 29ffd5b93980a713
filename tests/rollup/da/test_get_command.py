"""`openledger da get`: a payload by its certificate, from whoever has it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest
import trio
from eth_abi import decode, encode
from typer.testing import CliRunner

from openledger.genesis.hashing import keccak256
from openledger.node.cli.main import app
from openledger.node.errors import UserError
from openledger.rollup.da.certificate import Certificate, encode_generic_commitment
from openledger.rollup.da.chunks import ChunkParameters
from openledger.rollup.da.disperser import open_disperser
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork
from openledger.rollup.da.worker import open_blob_worker

from .eigenda_network import PAYER, PAYLOAD, SETTINGS, Network, OperatorServices, served

SEPOLIA = Path(__file__).parent / "vectors/sepolia-certificate-v3.hex"
REGISTRY, RETRIEVER, COORDINATOR, VERIFIER = ("0x" + f"{number:02x}" * 20 for number in range(1, 5))


def selector(signature: str) -> str:
    return keccak256(signature.encode())[:4].hex()


class L1:
    """EigenDA's contracts on an L1, as eth_call answers for them."""

    def __init__(self, services: OperatorServices) -> None:
        self.relays: dict[int, str] = {}
        self.status = 1
        self._services = services

    def call(self, to: str, data: str) -> bytes:
        function, arguments = data[2:10], bytes.fromhex(data[10:])
        if (to, function) == (REGISTRY, selector("relayKeyToUrl(uint32)")):
            return encode(["string"], [self.relays.get(decode(["uint32"], arguments)[0], "")])
        if (to, function) == (RETRIEVER, selector("getOperatorStateWithSocket(address,bytes,uint32)")):
            assert decode(["address", "bytes", "uint32"], arguments) == (COORDINATOR, b"\0\1", 4_000_000)
            quorums = [self._services.known[0], self._services.known[1]]
            who = [[("0x" + "77" * 20, item.operator_id, item.stake) for item in items] for items in quorums]
            sockets = [[item.socket for item in items] for items in quorums]
            return encode(["(address,bytes32,uint96)[][]", "string[][]"], [who, sockets])
        assert (to, function) == (VERIFIER, selector("checkDACert(bytes)"))
        return encode(["uint8"], [self.status])

    @contextmanager
    def served(self) -> Iterator[str]:
        l1 = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
                assert asked["method"] == "eth_call"
                result = "0x" + l1.call(asked["params"][0]["to"], asked["params"][0]["data"]).hex()
                body = orjson.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result})
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


async def dispersed(target: str) -> Certificate:
    async with (
        open_blob_worker(development=True) as worker,
        open_disperser(target, worker, PAYER, SETTINGS, plaintext=True) as client,
    ):
        return await client.disperse(PAYLOAD)


@pytest.mark.slow
def test_a_payload_comes_from_relays_of_the_registry_and_else_from_operators(tmp_path: Path) -> None:
    network = Network()
    # As on the public networks: 8,192 chunks.
    network.operators = OperatorNetwork(99, NetworkParameters(4, ChunkParameters()), 2)
    services = OperatorServices(network)
    l1 = L1(services)
    with ExitStack() as stack:
        target = stack.enter_context(served(network))
        stack.enter_context(services.served())
        url = stack.enter_context(l1.served())
        file, output = tmp_path / "cert.hex", tmp_path / "payload"
        file.write_text("0x01" + encode_generic_commitment(trio.run(dispersed, target)).hex())  # as L1 calldata has it

        services.chunks(0, next(iter(network.blobs)))  # made before anybody waits for them

        def get(*flags: str) -> BaseException | None:
            output.unlink(missing_ok=True)
            command = ["da", "get", str(file), "--development", "--plaintext", "--output", str(output), *flags]
            done = CliRunner().invoke(app, command)
            assert isinstance(done.exception, UserError) or done.exit_code == 0, done.exception
            return done.exception

        from_l1 = ("--l1-rpc-url", url, "--relay-registry", REGISTRY)
        l1.relays = {5: target}
        assert get(*from_l1, "--cert-verifier", VERIFIER) is None
        assert output.read_bytes() == PAYLOAD
        l1.status = 5
        assert "contract on L1" in str(get(*from_l1, "--cert-verifier", VERIFIER))
        assert get("--relay", "2=127.0.0.1:1", "--relay", target) is None
        operators = ("--operator-state-retriever", RETRIEVER, "--registry-coordinator", COORDINATOR)
        assert get("--l1-rpc-url", url, *operators) is None
        assert output.read_bytes() == PAYLOAD
        assert set(services.asked) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--srs-folder"),
        (["--development"], "say who to ask"),
        (["--development", "--relay", "x=a:1"], "KEY=HOST:PORT"),
        (["--development", "--relay", "nowhere"], "KEY=HOST:PORT"),
        (["--development", "--relay-registry", REGISTRY], "--relay-registry stands on L1"),
        (["--development", "--relay-registry", "0x12"], "40 hex digits"),
        (["--development", "--registry-coordinator", REGISTRY], "belong together"),
    ],
)
def test_the_command_says_what_is_missing(flags: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, ["da", "get", str(SEPOLIA), *flags])
    assert isinstance(refused.exception, UserError)
    assert said in str(refused.exception)
