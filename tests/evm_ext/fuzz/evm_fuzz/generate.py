"""Random cases: call trees of generated contracts, raw bytes, transactions of every type."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from openledger.evm_ext.fees import L1_BASE_FEE_SLOT, L1_BLOB_BASE_FEE_SLOT, L1_SCALARS_SLOT, OPERATOR_FEE_SLOT
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import Authorization, sign_authorization
from openledger.evm_ext.vm.entry import DELEGATION_PREFIX, contract_address
from openledger.genesis import predeploys
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork

from .case import CHAIN_ID, ETHER, KEYS, SENDER, BlockValues, Case
from .programs import Generator
from .variables import VariableProgram

CONTRACTS = tuple(bytes([0xC0 + number]) * 20 for number in range(4))
EMPTY = b"\xee" * 20
_FLAVOURS = ("tree", "single", "variables", "bytes", "mutants", "create")


def addresses_for(fork: Hardfork) -> list[bytes]:
    """Whom generated code calls and looks at: contracts, itself, the sender, nobody, precompiles."""
    low = [1, 2, 3, 4]
    if fork >= Hardfork.BYZANTIUM:
        low += [5, 6]
    if fork >= Hardfork.ISTANBUL:
        low.append(9)
    return [*CONTRACTS, *CONTRACTS, SENDER, EMPTY, *(number.to_bytes(20, "big") for number in low)]


def program_case(chance: random.Random, fork: Hardfork) -> Case:
    """A call or creation with free gas, of the kind that exercises opcodes."""
    flavour = chance.choices(_FLAVOURS, (5, 2, 6, 1, 2, 1))[0]
    generator = Generator(chance, fork, addresses_for(fork))
    count = 4 if flavour == "tree" else 1
    codes = [generator.program() for _ in range(count)]
    if flavour == "bytes":
        codes = [chance.randbytes(chance.randrange(1, 120))]
    elif flavour == "variables":
        codes = [VariableProgram(chance, fork).code()]
        if chance.random() < 0.1:
            codes = [generator.mutate(codes[0])]
    elif flavour == "mutants":
        codes = [generator.mutate(codes[0], generator.program())]
    accounts = {SENDER: GenesisAccount(balance=1_000 * ETHER)}
    most_slots = chance.choice((1, 3))
    for address, code in zip(CONTRACTS, codes):
        storage = {chance.randrange(4): chance.choice((1, 2, 2**255)) for _ in range(chance.randrange(most_slots))}
        accounts[address] = GenesisAccount(balance=chance.choice((0, 5, ETHER)), nonce=1, code=code, storage=storage)
    if chance.random() < 0.25:
        accounts.update(_obstacles(chance))
    data = chance.choice((b"", chance.randbytes(chance.randrange(1, 100)), bytes(40)))
    to: bytes | None = CONTRACTS[0]
    if flavour == "create":
        to, data = None, generator._creation_code()
    gas = chance.choice((60_000, 100_000, 200_000, 500_000, 2_000_000))
    case = Case(fork, accounts, to, gas, data, chance.choice((0, 0, 0, 1, ETHER)))
    return _later(chance, case, generator) if flavour == "tree" and chance.random() < 0.4 else case


def _later(chance: random.Random, case: Case, generator: Generator) -> Case:
    """The case with transactions before it: what they leave behind is what it finds."""
    before: list[bytes] = []
    for _ in range(chance.randrange(1, 4)):
        to: bytes | None = chance.choice(CONTRACTS)
        data = chance.randbytes(chance.randrange(40))
        if chance.random() < 0.2:
            to, data = None, generator._creation_code()
        one = replace(case, to=to, data=data, gas=chance.choice((100_000, 300_000)), value=0, nonce=len(before))
        before.append(one.transaction.raw)
    return replace(case, nonce=len(before), before=tuple(before))


def _obstacles(chance: random.Random) -> dict[bytes, GenesisAccount]:
    """Accounts where contracts will be created, and accounts that are delegated to others (EIP-7702)."""
    found: dict[bytes, GenesisAccount] = {}
    for creator, nonce in ((CONTRACTS[0], 1), (CONTRACTS[0], 2), (CONTRACTS[1], 1), (SENDER, 0)):
        kind = chance.randrange(8)
        if kind < 4:
            found[contract_address(creator, nonce)] = (
                GenesisAccount(balance=3),
                GenesisAccount(nonce=1),
                GenesisAccount(nonce=1, code=b"\x00"),
                GenesisAccount(balance=1, storage={0: 1}),
            )[kind]
    if chance.random() < 0.5:
        target = chance.choice((*CONTRACTS, CONTRACTS[3], SENDER, EMPTY, (4).to_bytes(20, "big")))
        found[CONTRACTS[3]] = GenesisAccount(nonce=1, balance=9, code=DELEGATION_PREFIX + target, storage={1: 5})
    return found


def transaction_case(chance: random.Random, fork: Hardfork) -> Case:
    """A transaction whose own fields are what is tried: types, fees, lists, gas at the edges."""
    generator = Generator(chance, fork, addresses_for(fork))
    accounts = {
        SENDER: GenesisAccount(
            balance=chance.choice((1_000 * ETHER,) * 9 + (0, 10**15, ETHER)), nonce=chance.choice((0, 0, 7))
        )
    }
    for address in CONTRACTS[:2]:
        accounts[address] = GenesisAccount(balance=1, nonce=1, code=generator.program(3), storage={1: 1})
    types = [0]
    if fork >= Hardfork.BERLIN:
        types.append(1)
    if fork >= Hardfork.LONDON:
        types.append(2)
    if fork >= Hardfork.CANCUN:
        types.append(3)
    if fork >= Hardfork.PRAGUE:
        types += [4, 4]
    kind = chance.choice(types)
    base_fee = chance.choice((0, 7, 10**9)) if fork >= Hardfork.LONDON else 0
    max_fee = chance.choice((base_fee, base_fee + 1, 2 * base_fee + 3, 10**10))
    if chance.random() < 0.05:
        max_fee = max(base_fee - 1, 0)
    to: bytes | None = chance.choice((*CONTRACTS[:2], EMPTY, SENDER, (4).to_bytes(20, "big")))
    data = chance.randbytes(chance.randrange(60)) + bytes(chance.randrange(60))
    if kind < 3 and chance.random() < 0.25:
        to, data = None, generator._creation_code()
    access_list: Sequence[tuple[bytes, tuple[int, ...]]] = ()
    if kind and chance.random() < 0.6:
        access_list = [
            (chance.choice(addresses_for(fork)), tuple(chance.randrange(4) for _ in range(chance.randrange(4))))
            for _ in range(chance.randrange(4))
        ]
    authorizations = ()
    if kind == 4:
        authorizations = tuple(_authorization(chance) for _ in range(chance.randrange(1, 4)))
        if chance.random() < 0.6:
            for key in KEYS[1:]:
                accounts[address_of(key)] = GenesisAccount(balance=chance.randrange(3), nonce=chance.choice((0, 0, 1)))
        if chance.random() < 0.4:
            to = SENDER
    blob_hashes: tuple[bytes, ...] = ()
    if kind == 3:
        blob_hashes = tuple(
            chance.choice((b"\x01",) * 19 + (b"\x02",)) + chance.randbytes(31)
            for _ in range(chance.choice((1, 1, 2, 2, 6, 6, 7, 0)))
        )
    if chance.random() < 0.15:
        # A sender that is delegated, or has other code and may not send since EIP-3607.
        code = chance.choice((DELEGATION_PREFIX + CONTRACTS[0], DELEGATION_PREFIX + CONTRACTS[0], b"\x00"))
        accounts[SENDER] = replace(accounts[SENDER], code=code)
    nonce = accounts[SENDER].nonce + chance.choice((0,) * 30 + (1, -1))
    case = Case(
        fork,
        accounts,
        to,
        gas=0,
        data=data,
        value=chance.choice((0, 0, 0, 1, 1, ETHER, ETHER)) if chance.random() < 0.95 else 2_000 * ETHER,
        nonce=max(nonce, 0),
        type=kind,
        max_fee=max_fee,
        priority_fee=min(max_fee, chance.choice((0, 1, 10**9))) if chance.random() < 0.95 else max_fee + 1,
        access_list=tuple(access_list),
        authorizations=authorizations,
        blob_hashes=blob_hashes,
        max_blob_fee=chance.choice((1, 1, 1, 10**9, 10**9, 0)) if kind == 3 else 0,
        block=BlockValues(
            base_fee=base_fee,
            excess_blob_gas=chance.choice((0, 10**6, 10**8)) if fork >= Hardfork.CANCUN else 0,
            coinbase=chance.choice((BlockValues.coinbase, SENDER, CONTRACTS[1], EMPTY, (3).to_bytes(20, "big"))),
        ),
    )
    return _with_gas(chance, case)


def op_case(chance: random.Random) -> Case:
    """A transaction on an OP chain at Isthmus, with random L1 and operator fees."""
    while True:
        case = transaction_case(chance, Hardfork.PRAGUE)
        if case.type != 3:
            break

    def number(bits: int) -> int:
        return chance.choice((0, 1, chance.getrandbits(bits), (1 << bits) - 1))

    blob_scalar, base_scalar = number(20), number(20)
    slots = {
        L1_BASE_FEE_SLOT: number(40),
        L1_SCALARS_SLOT: (base_scalar << 96) | (blob_scalar << 64) | chance.getrandbits(64),
        L1_BLOB_BASE_FEE_SLOT: number(40),
        OPERATOR_FEE_SLOT: (chance.choice((0, number(30))) << 64) | chance.choice((0, number(50))),
    }
    l1_block = GenesisAccount(nonce=1, code=b"\x00", storage={slot: value for slot, value in slots.items() if value})
    accounts = {**case.accounts, predeploys.L1_BLOCK: l1_block}
    return replace(case, accounts=accounts, is_op=True)


def _with_gas(chance: random.Random, case: Case) -> Case:
    """Gas around what the transaction pays before it begins, or plenty."""
    zeros = case.data.count(0)
    nonzero = 16 if case.fork >= Hardfork.ISTANBUL else 68
    base = 21_000 + 4 * zeros + nonzero * (len(case.data) - zeros)
    if case.to is None:
        base += 32_000 if case.fork >= Hardfork.HOMESTEAD else 0
        base += 2 * ((len(case.data) + 31) // 32) if case.fork >= Hardfork.SHANGHAI else 0
    base += sum(2_400 + 1_900 * len(slots) for _, slots in case.access_list) + 25_000 * len(case.authorizations)
    floor = 21_000 + 10 * (zeros + 4 * (len(case.data) - zeros)) if case.fork >= Hardfork.PRAGUE else 0
    least = max(base, floor)
    gas = chance.choice((least, least + 1, least + 2_300, least + 50_000, least + 50_000, 1_000_000, 2_000_000))
    if chance.random() < 0.06:
        gas = chance.choice((base - 1, base, max(floor - 1, 0)))
    if chance.random() < 0.02:
        gas = chance.choice((2**24, 2**24 + 1, 30_000_000, 30_000_001))
    return replace(case, gas=gas)


def _authorization(chance: random.Random) -> Authorization:
    key = chance.choice(KEYS)
    nonce = chance.choice((0, 0, 0, 1, 2, 8, 2**64 - 1))
    target = chance.choice((*CONTRACTS[:3], EMPTY, bytes(20), SENDER, (4).to_bytes(20, "big")))
    chain_id = chance.choice((0, CHAIN_ID, CHAIN_ID, CHAIN_ID + 1))
    return sign_authorization(key, chain_id=chain_id, address=target, nonce=nonce)
