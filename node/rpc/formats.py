"""Chain values as the Ethereum JSON-RPC shows them (execution-apis schemas, and op-geth's additions)."""

from collections.abc import Iterable
from typing import Any

import orjson

from openledger.evm_ext.block import HEADER_FIELDS, Block, Header, HeaderForm
from openledger.evm_ext.chain import LocatedLog
from openledger.evm_ext.header_json import RPC_NAMES
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.receipts import Receipt
from openledger.evm_ext.transactions import BLOB, DEPOSIT, DYNAMIC_FEE, LEGACY, SET_CODE, Transaction

Json = dict[str, Any]


def hex_bytes(value: bytes) -> str:
    return "0x" + value.hex()


def hex_word(value: int) -> str:
    """32 bytes, zero-padded."""
    return f"0x{value:064x}"


def header_json(header: Header) -> Json:
    """A header, as newHeads and blocks show it: no field that its fork does not have."""
    body: Json = {"hash": hex_bytes(header.hash)}
    for field in HEADER_FIELDS[: header.form]:
        value = getattr(header, field)
        body[RPC_NAMES[field]] = hex(value) if isinstance(value, int) else hex_bytes(value)
    return body


def block_json(block: Block, full: bool, receipts: tuple[Receipt, ...] = ()) -> Json:
    """A block. With `full`, transactions are objects; deposits then take their nonce from `receipts`."""
    body = header_json(block.header)
    body["size"] = hex(len(block.encode()))
    body["uncles"] = [hex_bytes(uncle.hash) for uncle in block.uncles]
    if block.header.form >= HeaderForm.SHANGHAI:
        body["withdrawals"] = withdrawals_json(block.withdrawals)
    if full:
        body["transactions"] = [
            transaction_json(item, block.header, index, receipts[index] if receipts else None)
            for index, item in enumerate(block.transactions)
        ]
    else:
        body["transactions"] = [hex_bytes(item.hash) for item in block.transactions]
    return body


def uncle_json(uncle: Header) -> Json:
    """An uncle: a block without its transactions."""
    body = header_json(uncle)
    body["size"] = hex(len(Block(uncle, ()).encode()))
    body["uncles"] = []
    return body


def withdrawals_json(withdrawals: tuple[Withdrawal, ...]) -> list[Json]:
    """Validator withdrawals; amounts are gwei."""
    return [
        {
            "index": hex(item.index),
            "validatorIndex": hex(item.validator_index),
            "address": hex_bytes(item.address),
            "amount": hex(item.amount),
        }
        for item in withdrawals
    ]


def transaction_json(
    transaction: Transaction, header: Header | None, index: int | None = None, receipt: Receipt | None = None
) -> Json:
    """A transaction; one that is pending has no header."""
    body: Json = {
        "blockHash": hex_bytes(header.hash) if header else None,
        "blockNumber": hex(header.number) if header else None,
        "blockTimestamp": hex(header.timestamp) if header else None,
        "transactionIndex": hex(index) if index is not None else None,
        "hash": hex_bytes(transaction.hash),
        "type": hex(transaction.type),
        "from": hex_bytes(transaction.sender),
        "to": hex_bytes(transaction.to) if transaction.to is not None else None,
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas),
        "value": hex(transaction.value),
        "input": hex_bytes(transaction.data),
        "v": hex(transaction.v),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
        "gasPrice": hex(transaction.gas_price),
    }
    if transaction.deposit is not None:
        return body | _deposit_fields(transaction, receipt)
    if transaction.chain_id is not None:
        body["chainId"] = hex(transaction.chain_id)
    if transaction.type != LEGACY:
        body["yParity"] = hex(transaction.y_parity)
        body["accessList"] = access_list_json(transaction.access_list)
    if transaction.type >= DYNAMIC_FEE:
        body["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        body["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
        if header is not None:
            body["gasPrice"] = hex(transaction.effective_gas_price(header.base_fee_per_gas))
    if transaction.type == BLOB:
        body["maxFeePerBlobGas"] = hex(transaction.max_fee_per_blob_gas)
        body["blobVersionedHashes"] = [hex_bytes(item) for item in transaction.blob_versioned_hashes]
    if transaction.type == SET_CODE:
        body["authorizationList"] = [
            {
                "chainId": hex(item.chain_id),
                "address": hex_bytes(item.address),
                "nonce": hex(item.nonce),
                "yParity": hex(item.y_parity),
                "r": hex(item.r),
                "s": hex(item.s),
            }
            for item in transaction.authorization_list
        ]
    return body


def access_list_json(access_list: Iterable[tuple[bytes, tuple[int, ...]]]) -> list[Json]:
    return [
        {"address": hex_bytes(address), "storageKeys": [hex_word(slot) for slot in slots]}
        for address, slots in access_list
    ]


def receipts_json(block: Block, receipts: tuple[Receipt, ...]) -> list[Json]:
    """All receipts of a block, in its order."""
    result = []
    log_index = 0
    for index, receipt in enumerate(receipts):
        result.append(receipt_json(block, receipts, index, log_index))
        log_index += len(receipt.logs)
    return result


def receipt_json(block: Block, receipts: tuple[Receipt, ...], index: int, first_log: int | None = None) -> Json:
    """One receipt of a block, with the fields of its fee on an OP chain. `first_log` is the index in the
    block of the receipt's first log, counted here if not given."""
    header, transaction, receipt = block.header, block.transactions[index], receipts[index]
    if first_log is None:
        first_log = sum(len(item.logs) for item in receipts[:index])
    body: Json = {
        "blockHash": hex_bytes(header.hash),
        "blockNumber": hex(header.number),
        "transactionHash": hex_bytes(transaction.hash),
        "transactionIndex": hex(index),
        "type": hex(transaction.type),
        "from": hex_bytes(transaction.sender),
        "to": hex_bytes(transaction.to) if transaction.to is not None else None,
        "cumulativeGasUsed": hex(receipt.cumulative_gas_used),
        "gasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": hex(receipt.effective_gas_price),
        "contractAddress": hex_bytes(receipt.contract_address) if receipt.contract_address else None,
        "logs": [
            located_log_json(
                LocatedLog(
                    log,
                    header.hash,
                    header.number,
                    header.timestamp,
                    transaction.hash,
                    index,
                    first_log + offset,
                )
            )
            for offset, log in enumerate(receipt.logs)
        ],
        "logsBloom": hex_bytes(receipt.bloom),
    }
    if receipt.state_root:  # before Byzantium
        body["root"] = hex_bytes(receipt.state_root)
    else:
        body["status"] = hex(receipt.status)
    for name, key in _OPTIONAL_RECEIPT_FIELDS:
        value = getattr(receipt, name)
        if value is not None:
            body[key] = hex(value)
    return body


_OPTIONAL_RECEIPT_FIELDS = (
    ("deposit_nonce", "depositNonce"),
    ("deposit_version", "depositReceiptVersion"),
    ("l1_fee", "l1Fee"),
    ("l1_gas_used", "l1GasUsed"),
    ("l1_gas_price", "l1GasPrice"),
    ("l1_blob_base_fee", "l1BlobBaseFee"),
    ("l1_base_fee_scalar", "l1BaseFeeScalar"),
    ("l1_blob_base_fee_scalar", "l1BlobBaseFeeScalar"),
    ("operator_fee_scalar", "operatorFeeScalar"),
    ("operator_fee_constant", "operatorFeeConstant"),
    ("blob_gas_used", "blobGasUsed"),
    ("blob_gas_price", "blobGasPrice"),
)


def located_log_json(located: LocatedLog, removed: bool = False) -> Json:
    """A log that was searched for; `removed` by a reorganisation."""
    return {
        "address": hex_bytes(located.log.address),
        "topics": [hex_bytes(topic) for topic in located.log.topics],
        "data": hex_bytes(located.log.data),
        "blockNumber": hex(located.block_number),
        "blockHash": hex_bytes(located.block_hash),
        "blockTimestamp": hex(located.block_timestamp),
        "transactionHash": hex_bytes(located.transaction_hash),
        "transactionIndex": hex(located.transaction_index),
        "logIndex": hex(located.log_index),
        "removed": removed,
    }


def located_logs_json(found: Iterable[LocatedLog], removed: bool = False) -> list[orjson.Fragment]:
    """As `located_log_json` of each, encoded already: an answer may hold ten thousand."""
    texts: list[orjson.Fragment] = []
    end = f'","removed":{"true" if removed else "false"}}}'
    block_hash, of_block = b"", ""
    for located in found:
        if located.block_hash is not block_hash:
            block_hash = located.block_hash
            of_block = (
                f'","blockNumber":"{located.block_number:#x}","blockHash":"0x{block_hash.hex()}",'
                f'"blockTimestamp":"{located.block_timestamp:#x}","transactionHash":"0x'
            )
        log = located.log
        topics = [f'"0x{topic.hex()}"' for topic in log.topics]
        texts.append(
            orjson.Fragment(
                f'{{"address":"0x{log.address.hex()}","topics":[{",".join(topics)}],"data":"0x{log.data.hex()}'
                f'{of_block}{located.transaction_hash.hex()}","transactionIndex":"{hex(located.transaction_index)}'
                f'","logIndex":"{hex(located.log_index)}{end}'
            )
        )
    return texts


def _deposit_fields(transaction: Transaction, receipt: Receipt | None) -> Json:
    deposit = transaction.deposit
    assert deposit is not None
    assert transaction.type == DEPOSIT
    fields: Json = {
        "sourceHash": hex_bytes(deposit.source_hash),
        "mint": hex(deposit.mint),
        "isSystemTx": deposit.is_system_transaction,
    }
    if receipt is not None and receipt.deposit_nonce is not None:
        fields["nonce"] = hex(receipt.deposit_nonce)
        fields["depositReceiptVersion"] = hex(receipt.deposit_version or 0)
    return fields
