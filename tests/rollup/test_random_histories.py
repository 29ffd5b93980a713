"""Whatever happens, in whatever order: all nodes end with the same safe chain, and no OPEN appears or disappears."""

import random

import pytest

from openledger.evm_ext.block import payload_from_block
from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_PORTAL
from openledger.rollup import Batcher
from openledger.rollup.codec.channels import Compression
from openledger.rollup.l1.source import Inclusion
from openledger.rollup.l1.transactions import L1TransactionLost

RECEIVER = b"\x77" * 20


class History:
    """A network and the things that may happen to it."""

    def __init__(self, network, seed: int) -> None:
        self.network = network
        self.random = random.Random(seed)
        self.validator = network.open_node("validator")
        self.gossip: list[ExecutionPayload] = []
        network.sequencer.on_block.append(self._gossip)

    async def _gossip(self, payload: ExecutionPayload) -> None:
        if self.random.random() < 0.7:
            self.gossip.append(payload)

    async def time_passes(self) -> None:
        await self.network.advance(2 * self.random.randint(1, 6))

    async def user_sends(self) -> None:
        self.network.send_l2(self.random.choice(USERS[:3]), RECEIVER, value=1)

    async def user_deposits(self) -> None:
        self.network.deposit_open(USERS[4], RECEIVER, 1)

    async def batcher_posts(self) -> None:
        batcher = self.network.make_batcher(
            compression=self.random.choice(list(Compression)),
            batch_kind=self.random.choice(["span", "singular"]),
            max_frame_bytes=300,
            target_channel_bytes=self.random.choice([200, 600_000]),
        )
        self.network.da_transport.status = self.random.choice([None, None, 503])
        await self._post(batcher)
        self.network.da_transport.status = None

    async def _post(self, batcher: Batcher) -> None:
        """As the batcher's service does: again, when a nonce went to a transaction that L1 had dropped before."""
        while True:
            try:
                await self.network.post(batcher=batcher)
                return
            except L1TransactionLost:
                continue

    async def batcher_dies_half_way(self) -> None:
        batcher = self.network.make_batcher(max_frame_bytes=200, max_payload_bytes=230)
        real, left = batcher._sender.send, self.random.randint(0, 2)

        async def some(to: bytes, data: bytes) -> Inclusion:
            nonlocal left
            if left == 0:
                raise ConnectionResetError
            left -= 1
            return await real(to, data)

        batcher._sender.send = some
        try:
            await batcher.step(flush=True)
        except (ConnectionResetError, L1TransactionLost):
            pass

    async def garbage_is_posted(self) -> None:
        await self.network.post_payload(self.random.randbytes(self.random.randint(1, 60)))

    async def peers_hear_blocks(self) -> None:
        self.random.shuffle(self.gossip)
        for payload in self.gossip:
            await self.validator.driver.insert_unsafe(payload)
        self.gossip.clear()

    async def validator_derives(self) -> None:
        for _ in range(self.random.randint(1, 40)):
            await self.validator.driver.step()

    async def sequencer_derives(self) -> None:
        await self.network.node.driver.derive_to_tip()

    async def validator_restarts(self) -> None:
        self.validator.close()
        self.validator = self.network.open_node("validator")

    async def l1_reorganises(self) -> None:
        """Up to three of L1's newest blocks are replaced; its transactions go back to the pool."""
        l1 = self.network.l1.chain
        depth = min(self.random.randint(1, 3), l1.head().number - l1.head("finalized").number)
        parent = l1.header_by_number(l1.head().number - depth)
        if parent.number < l1.head("safe").number:
            l1.set_heads(safe=l1.head("finalized").hash)
        for _ in range(depth + 1):
            attributes = PayloadAttributes(parent.timestamp + 4, self.random.randbytes(32), bytes(20), bytes(32))
            parent = l1.build(parent.hash, attributes).header
        l1.set_heads(unsafe=parent.hash)
        self.network.clock.time = max(self.network.clock.time, parent.timestamp)
        # A sequencer that has not noticed yet would only build what is taken back at once.
        await self.sequencer_derives()
        await self.sequencer_derives()

    async def settle(self) -> None:
        """Let everything arrive."""
        for _ in range(4):
            await self.time_passes()
            await self.network.node.driver.derive_to_tip()
            await self._post(self.network.make_batcher())
        for driver in (self.network.node.driver, self.validator.driver):
            await driver.derive_to_tip()
            await driver.derive_to_tip()


@pytest.mark.parametrize("seed", range(4))
async def test_all_nodes_agree_after_any_history(network, seed: int) -> None:
    history = History(network, seed)
    moves = [
        (history.time_passes, 6),
        (history.user_sends, 4),
        (history.user_deposits, 1),
        (history.batcher_posts, 3),
        (history.batcher_dies_half_way, 1),
        (history.garbage_is_posted, 1),
        (history.peers_hear_blocks, 2),
        (history.validator_derives, 3),
        (history.sequencer_derives, 2),
        (history.validator_restarts, 1),
        (history.l1_reorganises, 1),
    ]
    for _ in range(30):
        [move] = history.random.choices([move for move, _ in moves], [weight for _, weight in moves])
        await move()
    await history.settle()

    head = network.node.chain.head("safe")
    assert head.number > 10
    assert head.hash == network.node.chain.head().hash
    assert history.validator.chain.head("safe").hash == head.hash
    newcomer = network.open_node("newcomer")
    assert (await newcomer.driver.derive_to_tip()).hash == head.hash
    for number in range(head.number + 1):
        block = newcomer.chain.block_by_number(number)
        assert payload_from_block(network.node.chain.block_by_number(number)) == payload_from_block(block)

    # Every deposit of the canonical L1 arrived once: what is locked beyond genesis is what was minted.
    def locked(block_hash: bytes) -> int:
        data = keccak256(b"balanceOf(address)")[:4] + L1_PORTAL.rjust(32, b"\0")
        result = network.l1.chain.call(CallRequest(to=L1_OPEN_TOKEN, data=data), block_hash)
        return int.from_bytes(result.output, "big")

    origin = network.node.engine.ref(head).l1_origin.hash
    minted = sum(
        transaction.deposit.mint
        for number in range(1, head.number + 1)
        for transaction in newcomer.chain.block_by_number(number).transactions
        if transaction.deposit is not None
    )
    assert locked(origin) - locked(network.l1.chain.genesis_hash) == minted
    newcomer.close()
    history.validator.close()
