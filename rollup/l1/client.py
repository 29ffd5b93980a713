"""L1 over JSON-RPC: everything it answers is checked against the block hash it belongs to."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson
import structlog
import trio

from openledger.evm_ext.block import Header
from openledger.evm_ext.receipts import Receipt, receipts_root
from openledger.evm_ext.trie import ordered_root
from openledger.genesis.hashing import keccak256
from openledger.rollup.l1.blob_fee import has_cell_proofs
from openledger.rollup.l1.rpc_values import (
    data,
    header_from_json,
    quantity,
    receipt_from_json,
    transaction_from_json,
)
from openledger.rollup.l1.source import (
    ENCODINGS,
    Inclusion,
    L1BlockMissing,
    L1CallFailed,
    L1DataInvalid,
    L1Fees,
    L1TransactionRejected,
    L1Unavailable,
    Label,
)

MAX_ANSWER_BYTES = 256 << 20
DEFAULT_PRIORITY_FEE_WEI = 1_000_000_000

log = structlog.get_logger(__name__)
Value = TypeVar("Value")


class L1RpcError(L1Unavailable):
    """L1 answered a request with a JSON-RPC error."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"L1 answered {method} with error {code}: {message}")
        self.code = code
        self.message = message


class WrongL1Chain(Exception):
    """The endpoint serves another chain than the rollup's L1."""


class _Recent(Generic[Value]):
    """Values by block hash, the most recently used ones; an entry never goes stale."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    def get(self, key: bytes) -> Value | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: bytes, value: Value) -> Value:
        self._values[key] = value
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value


class L1Client:
    """An `L1Source` and `L1Submitter` over an HTTP endpoint. Use as an async context manager.

    A request is tried `attempts` times, `backoff_s` apart (doubled each time), before `L1Unavailable`; a try may be
    silent for `timeout_s` and take `deadline_s` as a whole, so that dripping bytes hold nobody up. `requests_per_s` keeps to an endpoint's rate limit; 0 knows none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        deadline_s: float = 30.0,
        attempts: int = 4,
        backoff_s: float = 0.25,
        requests_per_s: float = 0.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            timeout=timeout_s, transport=transport, trust_env=False, headers={"accept-encoding": ", ".join(ENCODINGS)}
        )
        self.url = url
        self._deadline_s = deadline_s
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._pace_s = 1.0 / requests_per_s if requests_per_s else 0.0
        self._next_request = 0.0
        self._request_id = 0
        self._headers: _Recent[Header] = _Recent(4096)
        self._transactions: _Recent[tuple[bytes, ...]] = _Recent(32)
        self._receipts: _Recent[tuple[Receipt, ...]] = _Recent(128)

    @property
    def name(self) -> str:
        """The endpoint without what may be secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    async def __aenter__(self) -> "L1Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --- reading ---

    async def chain_id(self) -> int:
        """The chain id of the endpoint."""
        return quantity(await self._call("eth_chainId"), "eth_chainId")

    async def check_chain_id(self, expected: int) -> None:
        """Raises `WrongL1Chain` if the endpoint serves another chain."""
        found = await self.chain_id()
        if found != expected:
            raise WrongL1Chain(f"{self.name} serves chain {found}, but this rollup's L1 is chain {expected}")

    async def header_by_number(self, number: int) -> Header | None:
        """See `L1Source`."""
        block = await self._call("eth_getBlockByNumber", hex(number), False)
        if block is None:
            return None
        header = header_from_json(block)
        if header.number != number:
            raise L1DataInvalid(f"asked for L1 block {number}, got {header.number}")
        return self._headers.put(header.hash, header)

    async def header_by_hash(self, block_hash: bytes) -> Header:
        """See `L1Source`."""
        known = self._headers.get(block_hash)
        if known is not None:
            return known
        block = await self._call("eth_getBlockByHash", _hex(block_hash), False)
        if block is None:
            raise L1BlockMissing(f"{self.name} does not have L1 block {_hex(block_hash)}")
        return self._headers.put(block_hash, self._expect(header_from_json(block), block_hash))

    async def header_by_label(self, label: Label) -> Header:
        """See `L1Source`."""
        block = await self._call("eth_getBlockByNumber", label, False)
        if block is None:
            block = await self._call("eth_getBlockByNumber", "0x0", False)
        if block is None:
            raise L1Unavailable(f"{self.name} has no genesis block")
        return header_from_json(block)

    async def transactions(self, header: Header) -> tuple[bytes, ...]:
        """See `L1Source`."""
        known = self._transactions.get(header.hash)
        if known is not None:
            return known
        block = await self._call("eth_getBlockByHash", _hex(header.hash), True)
        if block is None:
            raise L1BlockMissing(f"{self.name} no longer has L1 block {header.number} {_hex(header.hash)}")
        items = block.get("transactions") if isinstance(block, Mapping) else None
        if not isinstance(items, list):
            raise L1DataInvalid(f"{self.name} answered no list of the transactions of L1 block {header.number}")
        found = tuple(map(transaction_from_json, items))
        if ordered_root(found) != header.transactions_root:
            raise L1DataInvalid(f"the transactions of L1 block {header.number} do not belong to its transactions root")
        return self._transactions.put(header.hash, found)

    async def receipts(self, header: Header) -> tuple[Receipt, ...]:
        """See `L1Source`."""
        known = self._receipts.get(header.hash)
        if known is not None:
            return known
        items = await self._call("eth_getBlockReceipts", _hex(header.hash))
        if not isinstance(items, list):
            raise L1BlockMissing(f"{self.name} has no receipts of L1 block {header.number} {_hex(header.hash)}")
        found = tuple(receipt_from_json(item) for item in items)
        if receipts_root(found) != header.receipts_root:
            raise L1DataInvalid(f"the receipts of L1 block {header.number} do not belong to its receipts root")
        return self._receipts.put(header.hash, found)

    # --- sending ---

    async def nonce(self, address: bytes, *, pending: bool) -> int:
        """See `L1Submitter`."""
        label = "pending" if pending else "latest"
        return quantity(await self._call("eth_getTransactionCount", _hex(address), label), "nonce")

    async def balance(self, address: bytes) -> int:
        """The account's balance in wei at the latest block."""
        return quantity(await self._call("eth_getBalance", _hex(address), "latest"), "balance")

    async def fees(self) -> L1Fees:
        """See `L1Submitter`."""
        latest = await self.header_by_label("latest")
        try:
            tip = quantity(await self._call("eth_maxPriorityFeePerGas"), "eth_maxPriorityFeePerGas")
        except L1RpcError:
            tip = DEFAULT_PRIORITY_FEE_WEI
        try:
            blob_fee = quantity(await self._call("eth_blobBaseFee"), "eth_blobBaseFee")
        except L1RpcError:
            blob_fee = 1
        return L1Fees(latest.base_fee_per_gas, max(tip, 1), max(blob_fee, 1))

    async def wants_cell_proofs(self) -> bool | None:
        """See `L1Submitter`. By the schedule of a public L1, else by what it says of its fork (EIP-7910)."""
        head = await self.header_by_label("latest")
        known = has_cell_proofs(await self.chain_id(), head.timestamp)
        if known is not None:
            return known
        try:
            rules = await self._call("eth_config")
            return "P256VERIFY" in rules["current"]["precompiles"]  # both came with Osaka
        except (L1RpcError, TypeError, KeyError):
            return None

    async def send_transaction(self, raw: bytes) -> bytes:
        """See `L1Submitter`."""
        transaction_hash = keccak256(raw)
        try:
            await self._call("eth_sendRawTransaction", _hex(raw))
        except L1RpcError as error:
            # geth's words, and anvil's: the answer to an earlier try was lost.
            if not any(words in error.message.lower() for words in ("already known", "already imported")):
                raise L1TransactionRejected(error.message) from error
        return transaction_hash

    async def inclusion(self, transaction_hash: bytes) -> Inclusion | None:
        """See `L1Submitter`."""
        receipt = await self._call("eth_getTransactionReceipt", _hex(transaction_hash))
        if not receipt:
            return None
        if not isinstance(receipt, Mapping):
            raise L1DataInvalid(f"{self.name} answered {type(receipt).__name__} where a receipt belongs")
        return Inclusion(
            data(receipt.get("blockHash"), "blockHash", 32),
            quantity(receipt.get("blockNumber"), "blockNumber"),
            quantity(receipt.get("status"), "status") == 1,
        )

    async def call(self, to: bytes, calldata: bytes) -> bytes:
        """See `L1Submitter`."""
        try:
            answer = await self._call("eth_call", {"to": _hex(to), "data": _hex(calldata)}, "latest")
        except L1RpcError as error:
            if error.code != 3:
                raise
            raise L1CallFailed(f"{self.name}: call of {_hex(to)}: {error.message}") from error
        return data(answer, "eth_call")

    # --- transport ---

    def _expect(self, header: Header, block_hash: bytes) -> Header:
        if header.hash != block_hash:
            raise L1DataInvalid(f"asked for L1 block {_hex(block_hash)}, got {_hex(header.hash)}")
        return header

    async def _call(self, method: str, *params: object) -> Any:
        """The result of a call. Raises `L1RpcError` for an error answer, `L1Unavailable` when there is none."""
        self._request_id += 1
        body = orjson.dumps({"jsonrpc": "2.0", "id": self._request_id, "method": method, "params": list(params)})
        problem = ""
        for attempt in range(self._attempts):
            if attempt:
                log.warning("L1 request failed, trying again", endpoint=self.name, method=method, problem=problem)
                await trio.sleep(self._backoff_s * 2 ** (attempt - 1))
            if self._pace_s:
                await self._wait_for_turn()
            try:
                with trio.fail_after(self._deadline_s):
                    return await self._exchange(method, body)
            except trio.TooSlowError as error:
                raise L1Unavailable(
                    f"L1 at {self.name} is too slow: no whole answer to {method} in {self._deadline_s:g} s"
                ) from error
            except (httpx.HTTPError, _BadAnswer) as error:
                problem = f"{type(error).__name__}: {error}"
        raise L1Unavailable(f"cannot reach L1 at {self.name}: {problem}")

    async def _wait_for_turn(self) -> None:
        """Requests keep their distance, in the order in which they came."""
        now = trio.current_time()
        turn = max(now, self._next_request)
        self._next_request = turn + self._pace_s
        if turn > now:
            await trio.sleep_until(turn)

    async def _exchange(self, method: str, body: bytes) -> Any:
        received = bytearray()
        async with self._http.stream(
            "POST", self.url, content=body, headers={"content-type": "application/json"}
        ) as response:
            encoding = response.headers.get("content-encoding", "identity")
            if encoding not in ENCODINGS:
                raise L1DataInvalid(f"{self.name} packed its answer to {method} as {encoding}, unasked")
            async for piece in response.aiter_bytes():
                received += piece
                if len(received) > MAX_ANSWER_BYTES:
                    raise L1DataInvalid(f"{self.name} answered {method} with more than {MAX_ANSWER_BYTES} bytes")
        try:
            answer = orjson.loads(received)
        except orjson.JSONDecodeError:
            raise _BadAnswer(f"HTTP {response.status_code}, not JSON") from None
        if not isinstance(answer, dict):
            raise _BadAnswer(f"HTTP {response.status_code}, not a JSON-RPC answer")
        if answer.get("error") is not None:
            error = answer["error"] if isinstance(answer["error"], dict) else {}
            code = error.get("code", 0)
            if response.status_code == 429 or code == -32005:
                raise _BadAnswer(f"rate limit: {error.get('message')}")
            raise L1RpcError(method, code if isinstance(code, int) else 0, str(error.get("message")))
        if response.status_code != 200 or "result" not in answer:
            raise _BadAnswer(f"HTTP {response.status_code} without a result")
        return answer["result"]


class _BadAnswer(Exception):
    """An answer that a healthy endpoint does not give; worth another try."""


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
