"""Whatever goes over the bridge, in whatever order, and whatever L1 takes back: no OPEN appears or disappears.

OPEN locked on L1 = circulating on L2 + withdrawals in flight + what SELFDESTRUCT burnt. What waits in the message passer
does not circulate, so `burn()` there changes nothing. Held against the chains after every step: the L2 head against the L1
block that it has derived up to, from their states and logs alone.
"""

import random
from dataclasses import dataclass

import pytest
from eth_abi import encode as abi_encode

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.state.account import decode_account
from openledger.evm_ext.transactions import DEPOSIT
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_PORTAL, L2_TO_L1_MESSAGE_PASSER
from openledger.node.bridge import Stage
from openledger.node.wallet import Wallet
from openledger.rollup.codec.withdrawals import MESSAGE_PASSED_TOPIC, withdrawal_from_log
from openledger.rollup.l1.transactions import L1TransactionLost

FINALIZED_TOPIC = keccak256(b"WithdrawalFinalized(bytes32,bool)")
BURNT_TOPIC = keccak256(b"WithdrawerBalanceBurnt(uint256)")
VANISH = bytes.fromhex("30ff")  # ADDRESS SELFDESTRUCT: made and gone in one transaction, with all it was given
REVERT = bytes.fromhex("5f5ffd")
PAYER = Wallet(USERS[3].private_key)


@dataclass(frozen=True)
class Totals:
    """Sums over a block and all its ancestors, in wei."""

    begun: int = 0
    vanished: int = 0
    burnt_in_passer: int = 0
    paid: int = 0


class Auditor:
    """Reads the two chains block by block, each once, and adds up."""

    def __init__(self, l1: Chain, l2: Chain) -> None:
        self._l1, self._l2 = l1, l2
        self._totals: dict[bytes, Totals] = {l1.genesis_hash: Totals(), l2.genesis_hash: Totals()}
        self._values: dict[bytes, int] = {}
        """What each withdrawal that was ever begun is worth."""

    def totals(self, chain: Chain, block_hash: bytes) -> Totals:
        pending = []
        while block_hash not in self._totals:
            pending.append(block_hash)
            block_hash = chain.header_by_hash(block_hash).parent_hash
        total = self._totals[block_hash]
        for each in reversed(pending):
            own = self._own_l2(each) if chain is self._l2 else self._own_l1(each)
            total = Totals(*(a + b for a, b in zip(vars(total).values(), vars(own).values(), strict=True)))
            self._totals[each] = total
        return total

    def _own_l2(self, block_hash: bytes) -> Totals:
        begun = burnt = vanished = 0
        for located in self._l2.block_logs(block_hash, [L2_TO_L1_MESSAGE_PASSER]):
            if located.log.topics[0] == MESSAGE_PASSED_TOPIC:
                withdrawal = withdrawal_from_log(located.log)
                self._values[withdrawal.hash] = withdrawal.value
                begun += withdrawal.value
            elif located.log.topics[0] == BURNT_TOPIC:
                burnt += int.from_bytes(located.log.topics[1], "big")
        block = self._l2.block_by_hash(block_hash)
        for transaction, receipt in zip(block.transactions, self._l2.receipts(block_hash), strict=True):
            if transaction.to is None and transaction.data == VANISH and receipt.status == 1:
                vanished += transaction.value
        return Totals(begun=begun, vanished=vanished, burnt_in_passer=burnt)

    def _own_l1(self, block_hash: bytes) -> Totals:
        logs = self._l1.block_logs(block_hash, [L1_PORTAL], [[FINALIZED_TOPIC]])
        return Totals(paid=sum(self._values[located.log.topics[1]] for located in logs))

    def check(self, l2_head: bytes, l1_origin: bytes) -> Totals:
        state = self._l2.state(l2_head)
        everything = sum(decode_account(raw).balance for _, raw in state.reader.account_trie().entries())
        waiting = state.balance(L2_TO_L1_MESSAGE_PASSER)
        on_l2, on_l1 = self.totals(self._l2, l2_head), self.totals(self._l1, l1_origin)
        call = CallRequest(to=L1_OPEN_TOKEN, data=keccak256(b"balanceOf(address)")[:4] + L1_PORTAL.rjust(32, b"\0"))
        locked = int.from_bytes(self._l1.call(call, l1_origin).output, "big")
        in_flight = on_l2.begun - on_l1.paid
        assert in_flight >= 0
        assert locked == everything - waiting + in_flight + on_l2.vanished
        assert on_l2.begun == waiting + on_l2.burnt_in_passer
        counted = self._l1.call(CallRequest(to=L1_PORTAL, data=keccak256(b"balance()")[:4]), l1_origin)
        assert int.from_bytes(counted.output, "big") == locked
        return Totals(on_l2.begun, on_l2.vanished, on_l2.burnt_in_passer, on_l1.paid)


class History:
    """A network with its bridge, and what people and L1 may do to it."""

    def __init__(self, network, bridge, seed: int) -> None:
        self.network, self.bridge = network, bridge
        self.random = random.Random(seed)
        self.auditor = Auditor(network.l1.chain, network.node.chain)
        self.validator = network.open_node("validator")

    def check(self) -> Totals:
        head = self.network.node.chain.head()
        return self.auditor.check(head.hash, self.network.node.engine.ref(head).l1_origin.hash)

    def some(self) -> int:
        return self.random.choice([1, 10**9, 10**18]) * self.random.randint(1, 9)

    async def time_passes(self) -> None:
        await self.network.advance(2 * self.random.randint(1, 8))

    async def much_time_passes(self) -> None:
        """Blocks become final, their outputs are proposed, and withdrawals go a step further."""
        await self.network.advance(60)
        await self.settle()
        await self.network.propose()
        await self.withdrawals_go_on()

    async def user_deposits(self) -> None:
        """Also what fails on L2: what it mints stays with the depositor."""
        amount = self.some()
        to, mint, value, creation, data = self.random.choice(
            [
                (b"\x77" * 20, amount, amount, False, b""),
                (b"\x77" * 20, amount, 10**30, False, b""),
                (b"\x77" * 20, 0, 1, False, b""),
                (bytes(20), amount, amount, True, REVERT),
                (bytes(20), amount, amount, True, VANISH),
                (L2_TO_L1_MESSAGE_PASSER, amount, amount, False, self._initiate()),
            ]
        )
        approve = keccak256(b"approve(address,uint256)")[:4] + abi_encode(["address", "uint256"], [L1_PORTAL, mint])
        deposit = keccak256(b"depositERC20Transaction(address,uint256,uint256,uint64,bool,bytes)")[:4]
        types = ["address", "uint256", "uint256", "uint64", "bool", "bytes"]
        self.network.send_l1(USERS[4], L1_OPEN_TOKEN, data=approve)
        arguments = abi_encode(types, [to, mint, value, 200_000, creation, data])
        self.network.send_l1(USERS[4], L1_PORTAL, data=deposit + arguments)

    async def user_withdraws(self) -> None:
        self.network.send_l2(
            self.random.choice(USERS[:3]), L2_TO_L1_MESSAGE_PASSER, value=self.some(), data=self._initiate()
        )

    @staticmethod
    def _initiate() -> bytes:
        selector = keccak256(b"initiateWithdrawal(address,uint256,bytes)")[:4]
        return selector + abi_encode(["address", "uint256", "bytes"], [b"\x7c" * 20, 0, b""])

    async def user_burns(self) -> None:
        self.network.send_l2(self.random.choice(USERS[:3]), None, value=self.some(), data=VANISH)

    async def passer_is_emptied(self) -> None:
        self.network.send_l2(USERS[2], L2_TO_L1_MESSAGE_PASSER, data=keccak256(b"burn()")[:4])

    async def withdrawals_go_on(self) -> None:
        """Each goes the next step that it can go, as `openledger bridge prove` and `finalize` take it."""
        chain = self.network.node.chain
        for located in chain.logs(0, chain.head().number, [L2_TO_L1_MESSAGE_PASSER], [[MESSAGE_PASSED_TOPIC]]):
            if chain.transaction_location(located.transaction_hash) is None:
                continue  # a step before has let time pass, in which L2 was reorganised
            stage = (await self.bridge.status(located.transaction_hash)).stage
            if stage is Stage.READY_TO_PROVE:
                await self.bridge.prove(PAYER, located.transaction_hash)
            elif stage is Stage.READY_TO_FINALIZE:
                await self.bridge.finalize(PAYER, located.transaction_hash)
            self.check()

    async def l1_reorganises(self) -> None:
        """Up to three of L1's newest blocks are replaced; their transactions go back to the pool."""
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
        await self.network.node.driver.derive_to_tip()
        await self.network.node.driver.derive_to_tip()

    async def settle(self) -> None:
        """Post and derive until nothing is left."""
        for _ in range(2):
            await self.network.advance(8)
            await self.network.node.driver.derive_to_tip()
            while True:
                try:
                    await self.network.post(batcher=self.network.make_batcher())
                    break
                except L1TransactionLost:
                    continue
        await self.network.advance(4, sequence=False)
        await self.network.node.driver.derive_to_tip()


@pytest.mark.parametrize("seed", range(2))
async def test_no_open_appears_or_disappears(network, bridge, seed: int) -> None:
    history = History(network, bridge, seed)
    moves = [
        (history.time_passes, 6),
        (history.user_deposits, 5),
        (history.user_withdraws, 4),
        (history.user_burns, 2),
        (history.passer_is_emptied, 1),
        (history.settle, 2),
        (history.much_time_passes, 1),
        (history.l1_reorganises, 2),
    ]
    for _ in range(30):
        [move] = history.random.choices([move for move, _ in moves], [weight for _, weight in moves])
        await move()
        history.check()

    # In the end everything that was begun is paid, and a node that was not there finds the same.
    for _ in range(4):
        await history.much_time_passes()
    totals = history.check()
    assert totals.begun > 0
    assert totals.vanished > 0
    assert totals.paid == totals.begun
    await history.validator.driver.derive_to_tip()
    safe = network.node.chain.head("safe")
    assert history.validator.chain.head("safe").hash == safe.hash
    origin = network.node.engine.ref(safe).l1_origin.hash
    Auditor(network.l1.chain, history.validator.chain).check(safe.hash, origin)
    history.validator.close()
    assert any(
        transaction.type == DEPOSIT and receipt.status == 0
        for number in range(1, safe.number + 1)
        for transaction, receipt in zip(
            network.node.chain.block_by_number(number).transactions,
            network.node.chain.receipts(network.node.chain.header_by_number(number).hash),
            strict=True,
        )
    )
