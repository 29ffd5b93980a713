"""The calls of the explorer Otterscan, over HTTP."""

from __future__ import annotations

import pytest

from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.predeploys import L2_TO_L1_MESSAGE_PASSER

GWEI = 10**9
PAID = "0x" + "d1" * 20
ALICE = "0x" + USERS[0].address.hex()
# pays CALLVALUE to PAID
FORWARDER = "600060006000600034" + "73" + PAID[2:] + "5af100"
# reverts with the selector of a custom error
REVERTER = "63deadbeef60e01b60005260046000fd"


def _deployment(runtime: str) -> bytes:
    size = len(runtime) // 2
    return bytes.fromhex(f"60{size:02x}600c60003960{size:02x}6000f3" + runtime)


class Explored:
    """A chain with an index, and somebody who sends to it."""

    def __init__(self, node, rpc) -> None:
        self.node, self.rpc, self.nonce = node, rpc, 0

    def send(self, to=None, data=b"", value=0, key=0, nonce=None) -> str:
        transaction = sign_transaction(
            USERS[key].private_key,
            chain_id=self.node.chain.chain_id,
            nonce=self.nonce if nonce is None else nonce,
            to=None if to is None else bytes.fromhex(to[2:]),
            data=data,
            value=value,
            gas=200_000,
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
        )
        self.nonce += nonce is None
        return self.rpc("eth_sendRawTransaction", "0x" + transaction.raw.hex())

    def deploy(self, runtime: str) -> tuple[str, str]:
        sent = self.send(data=_deployment(runtime))
        self.node.mine()
        return self.rpc("eth_getTransactionReceipt", sent)["contractAddress"], sent


@pytest.fixture
def explored(tmp_path, genesis, chain_thread, rpc_to):
    with chain_thread(tmp_path, genesis, automine=False, address_index=True) as node:
        yield Explored(node, rpc_to(node))


def test_the_api_level_and_code(explored):
    rpc = explored.rpc
    assert rpc("ots_getApiLevel") == 8
    assert rpc("ots_hasCode", "0x" + L2_TO_L1_MESSAGE_PASSER.hex(), "latest") is True
    assert rpc("ots_hasCode", ALICE, "latest") is False
    contract, _ = explored.deploy(FORWARDER)
    assert rpc("ots_hasCode", contract, "0x1") is True
    assert rpc("ots_hasCode", contract, "0x0") is False


def test_a_contract_names_its_creator_and_an_account_its_transactions(explored):
    rpc = explored.rpc
    contract, deployment = explored.deploy(FORWARDER)
    assert rpc("ots_getContractCreator", contract) == {"hash": deployment, "creator": ALICE}
    assert rpc("ots_getContractCreator", ALICE) is None
    assert rpc("ots_getContractCreator", "0x" + L2_TO_L1_MESSAGE_PASSER.hex()) is None
    assert rpc("ots_getTransactionBySenderAndNonce", ALICE, 0) == deployment
    assert rpc("ots_getTransactionBySenderAndNonce", ALICE, "0x1") is None


def test_a_transaction_is_taken_apart(explored):
    rpc = explored.rpc
    contract, _ = explored.deploy(FORWARDER)
    sent = explored.send(contract, value=7)
    explored.node.mine()
    assert rpc("ots_getInternalOperations", sent) == [{"type": 0, "from": contract, "to": PAID, "value": "0x7"}]
    assert rpc("ots_getTransactionError", sent) == "0x"
    top, inner = rpc("ots_traceTransaction", sent)
    assert top == {
        "type": "CALL",
        "depth": 0,
        "from": ALICE,
        "to": contract,
        "value": "0x7",
        "input": "0x",
        "output": "0x",
    }
    assert (inner["type"], inner["depth"], inner["from"], inner["to"]) == ("CALL", 1, contract, PAID)


def test_operations_of_a_block_without_an_index_are_found_by_executing_it(tmp_path, genesis, chain_thread, rpc_to):
    with chain_thread(tmp_path, genesis, automine=False) as node:
        explored = Explored(node, rpc_to(node))
        contract, _ = explored.deploy(FORWARDER)
        explored.send(contract, value=3)
        sent = explored.send(contract, value=7)
        node.mine()
        operations = explored.rpc("ots_getInternalOperations", sent)
        assert operations == [{"type": 0, "from": contract, "to": PAID, "value": "0x7"}]
        error = explored.rpc.error("ots_searchTransactionsBefore", PAID, 0, 5)
        assert error["code"] == -32000
        assert "address_index = true" in error["message"]


def test_a_failed_transaction_tells_its_revert_data(explored):
    rpc = explored.rpc
    contract, _ = explored.deploy(REVERTER)
    sent = explored.send(contract)
    explored.node.mine()
    assert rpc("eth_getTransactionReceipt", sent)["status"] == "0x0"
    assert rpc("ots_getTransactionError", sent) == "0xdeadbeef"


def test_a_block_has_details_and_pages_of_short_transactions(explored):
    rpc = explored.rpc
    contract, _ = explored.deploy(FORWARDER)
    hashes = [explored.send(contract, data=b"\x01" * 40, value=value) for value in range(5)]
    block = explored.node.mine()
    details = rpc("ots_getBlockDetails", hex(block.number))
    assert details == rpc("ots_getBlockDetailsByHash", "0x" + block.hash.hex())
    assert details == rpc("ots_getBlockDetails", block.number)  # Otterscan sends the number of its page as it is
    assert details["block"]["transactionCount"] == 5
    assert "transactions" not in details["block"]
    assert details["issuance"] == {"blockReward": "0x0", "uncleReward": "0x0", "issuance": "0x0"}
    receipts = rpc("eth_getBlockReceipts", hex(block.number))
    fees = sum(int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16) for receipt in receipts)
    assert int(details["totalFees"], 16) == fees

    last = rpc("ots_getBlockTransactions", hex(block.number), 0, 2)
    assert [item["hash"] for item in last["fullblock"]["transactions"]] == hashes[3:]
    assert last["fullblock"]["transactions"][0]["input"] == "0x01010101"
    assert [receipt["transactionHash"] for receipt in last["receipts"]] == hashes[3:]
    assert last["receipts"][0]["logs"] is None
    assert last == rpc("ots_getBlockTransactions", block.number, 0, 2)
    first = rpc("ots_getBlockTransactions", hex(block.number), 2, 2)
    assert [item["hash"] for item in first["fullblock"]["transactions"]] == hashes[:1]
    assert rpc("ots_getBlockTransactions", hex(block.number), 3, 2)["receipts"] == []
    assert rpc("ots_getBlockDetails", "0x99") is None


def _hashes(result) -> list[str]:
    assert [item["hash"] for item in result["txs"]] == [item["transactionHash"] for item in result["receipts"]]
    return [item["hash"] for item in result["txs"]]


def test_transactions_of_an_account_are_paged_from_both_ends(explored):
    rpc = explored.rpc
    contract, _ = explored.deploy(FORWARDER)
    sent = []
    for _ in range(4):
        sent.append([explored.send(contract, value=1), explored.send(PAID, value=2)])
        block = explored.node.mine()
    newest_first = [item for of_block in reversed(sent) for item in reversed(of_block)]

    page = rpc("ots_searchTransactionsBefore", PAID, 0, 3)
    assert _hashes(page) == newest_first[:4]  # a block is never torn apart
    assert (page["firstPage"], page["lastPage"]) == (True, False)
    assert page["receipts"][0]["timestamp"] == block.header.timestamp
    rest = rpc("ots_searchTransactionsBefore", PAID, int(page["txs"][-1]["blockNumber"], 16), 25)
    assert _hashes(rest) == newest_first[4:]
    assert (rest["firstPage"], rest["lastPage"]) == (False, True)

    oldest = rpc("ots_searchTransactionsAfter", PAID, 0, 2)
    assert _hashes(oldest) == newest_first[-2:]
    assert (oldest["firstPage"], oldest["lastPage"]) == (False, True)
    newer = rpc("ots_searchTransactionsAfter", PAID, int(oldest["txs"][0]["blockNumber"], 16), 25)
    assert _hashes(newer) == newest_first[:-2]
    assert (newer["firstPage"], newer["lastPage"]) == (True, False)
    assert rpc("ots_searchTransactionsBefore", "0x" + "99" * 20, 0, 5) == {
        "txs": [],
        "receipts": [],
        "firstPage": True,
        "lastPage": True,
    }


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("ots_searchTransactionsBefore", [PAID, 0, 26], -32602),
        ("ots_searchTransactionsAfter", [PAID, 0, 0], -32602),
        ("ots_searchTransactionsBefore", [PAID, -1, 5], -32602),
        ("ots_getInternalOperations", ["0x" + "00" * 32], -32000),
        ("ots_getTransactionError", ["0x" + "00" * 31], -32602),
        ("ots_hasCode", [PAID, "0x999"], -32000),
    ],
)
def test_bad_calls_are_refused(explored, method, params, code):
    assert explored.rpc.error(method, *params)["code"] == code
