"""Runs a case in revm, by pyrevm: Cancun's rules, whatever one asks for; no set-code transactions, no base fee."""

from __future__ import annotations

from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env

from openledger.genesis.hardforks import Hardfork
from openledger.genesis.hashing import keccak256

from .case import CHAIN_ID, SENDER, AccountAfter, Case, Outcome

FORK = Hardfork.CANCUN


def _hex(address: bytes) -> str:
    return "0x" + address.hex()


def _code(evm: EVM, address: bytes, info: AccountInfo, like: Outcome) -> bytes:
    """An account's code. What was created in the call comes with zeros behind it; its hash is that of the code."""
    code = bytes(evm.get_code(_hex(address)) or b"")
    known = like.accounts.get(address)
    if known is not None and keccak256(known.code) == bytes(info.code_hash):
        return known.code
    return code


def can_run(case: Case) -> bool:
    """Whether pyrevm can be asked: a call with free gas at Cancun, and no storage, which it takes for touched."""
    if case.before or case.is_op:
        return False
    has_storage = any(account.storage for account in case.accounts.values())
    return (
        case.fork == FORK
        and not case.is_op
        and case.type == 0
        and case.to is not None
        and not case.max_fee
        and not has_storage
    )


def run(case: Case, like: Outcome) -> Outcome:
    """What revm makes of a case, told of the accounts and slots that `like` knows."""
    block = case.block
    evm = EVM(env=Env(cfg=CfgEnv(chain_id=CHAIN_ID)), gas_limit=block.gas_limit)
    evm.set_block_env(
        BlockEnv(
            number=block.number,
            coinbase=_hex(block.coinbase),
            timestamp=block.timestamp,
            difficulty=block.difficulty,
            prevrandao=block.prev_randao,
            basefee=0,
            gas_limit=block.gas_limit,
            excess_blob_gas=block.excess_blob_gas,
        )
    )
    for address, account in case.accounts.items():
        evm.insert_account_info(
            _hex(address), AccountInfo(balance=account.balance, nonce=account.nonce, code=account.code)
        )
        for slot, value in account.storage.items():
            evm.insert_account_storage(_hex(address), slot, value)
    assert case.to is not None
    try:
        output = evm.message_call(
            _hex(SENDER), _hex(case.to), calldata=case.data, value=case.value, gas=case.gas, gas_price=0
        )
    except RuntimeError as error:
        if evm.result is None or "Transaction(" in str(error):
            return Outcome(True, error=str(error))
        output, words = b"", str(error)
    else:
        words = ""
    result = evm.result
    accounts: dict[bytes, AccountAfter] = {}
    for address in {*like.accounts, *case.accounts}:
        info = evm.basic(_hex(address))
        slots = set(like.slots.get(address, ()))
        slots |= set(case.accounts[address].storage) if address in case.accounts else set()
        found = AccountAfter(
            balance=evm.get_balance(_hex(address)),
            nonce=info.nonce + (address == SENDER),  # pyrevm's calls leave the sender's nonce alone
            code=_code(evm, address, info, like),
            storage={slot: value for slot in slots if (value := evm.storage(_hex(address), slot))},
        )
        if not found.is_nothing:
            accounts[address] = found
    return Outcome(
        refused=False,
        success=result.is_success,
        gas_used=result.gas_used,
        output=bytes(output) if result.is_success else None,
        logs=tuple(
            (bytes.fromhex(log.address[2:]), tuple(bytes.fromhex(t[2:]) for t in log.topics), bytes(log.data[1]))
            for log in result.logs
        ),
        accounts=accounts,
        error=words,
    )
