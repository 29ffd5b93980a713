"""What is executed: accounts, a token, loops, and blocks of transactions over them. The same bytes go to everybody."""

from __future__ import annotations

from openledger.evm_ext import sign_transaction
from openledger.evm_ext.signatures import address_of
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import l1_genesis, preset

CHAIN_ID = 1337
GWEI = 10**9
GAS_LIMIT = 60_000_000
TIME = 1_700_000_000
FEE_RECIPIENT = b"\xfe" * 20
KEYS = [keccak256(b"benchmark %d" % number) for number in range(100)]
ADDRESSES = [address_of(key) for key in KEYS]
TOKEN = b"\x70" * 20
SYSTEM = (
    predeploys.BEACON_ROOTS,
    predeploys.HISTORY_STORAGE,
    predeploys.WITHDRAWAL_REQUESTS,
    predeploys.CONSOLIDATION_REQUESTS,
)


def token_code() -> bytes:
    """transfer(address to, uint256 amount) without a dispatcher: calldata is `to` and `amount` as words.

    The balance of A is at slot keccak256(A || 0), as Solidity puts a mapping at slot 0. Reverts if the sender
    has too little; emits Transfer."""
    transfer_topic = keccak256(b"Transfer(address,address,uint256)")
    return b"".join(
        bytes.fromhex(part.replace(" ", ""))
        for part in (
            "33 5f52 5f602052 60405f20",  # slot of the sender
            "80 54",  # slot, balance
            "6020 35 80 82 10",  # slot, balance, amount, balance < amount
            "15 601a 57 5f5ffd 5b",  # unless so, revert
            "90 03 90 55",  # store balance - amount
            "5f35 5f52 60405f20",  # slot of the recipient
            "80 54 6020 35 01 90 55",  # store balance + amount
            "6020 35 5f52",  # memory: amount
            "5f35 33 7f" + transfer_topic.hex() + " 60205f a3",
            "60015f52 60205ff3",
        )
    )


# --- loops ------------------------------------------------------------------------------------------------

# Each counts to the last word of its calldata: 0 0 JUMPDEST(2) ... the sum is on the stack below the counter.
_HEAD = "5f5f 5b 5f35 81 10 15 60%02x 57"
_TAIL = "6001 01 6002 56 5b 50 5f52 60205ff3"

_BODIES = {
    "arithmetic loop": "80 80 02 82 01 91 50",  # sum += i * i
    "Keccak loop": "90 5f52 80602052 60405f20 90",  # sum = keccak256(sum, i)
    "memory loop": "80 6005 1b 6103ff 16 81 81 52 51 82 01 91 50",  # store i, load it, sum += it
}

# What solc 0.8 makes (optimised, 200 runs, EVM version Prague, no metadata) of
#   contract Loops {
#     function sum(uint256 n) external pure returns (uint256 total) {
#       for (uint256 i = 0; i < n; i++) { if (i % 3 == 0) { total += i * i; } else { total += i ^ 7; } }
#     }
#     function primes(uint256 n) external pure returns (uint256 count) {
#       uint8[] memory sieve = new uint8[](n + 1);
#       for (uint256 i = 2; i <= n; i++) {
#         if (sieve[i] == 0) { count++; for (uint256 j = i * i; j <= n; j += i) { sieve[j] = 1; } }
#       }
#     }
#   }
_SOLIDITY = bytes.fromhex(
    "608060405234801561000f575f5ffd5b5060043610610034575f3560e01c8063188b85b414610038578063bf9d8393146100"
    "5d575b5f5ffd5b61004b6100463660046101b8565b610070565b60405190815260200160405180910390f35b61004b61006b"
    "3660046101b8565b6100c5565b5f805b828110156100bf576100866003826101cf565b5f036100a757610096818061020256"
    "5b6100a0908361021f565b91506100b7565b6100b4600782188361021f565b91505b600101610073565b50919050565b5f80"
    "6100d283600161021f565b67ffffffffffffffff8111156100ea576100ea610232565b604051908082528060200260200182"
    "016040528015610113578160200160208202803683370190505b50905060025b8381116101b1578181815181106101325761"
    "0132610246565b602002602001015160ff165f0361019f578261014d8161025a565b93505f905061015c8280610202565b90"
    "505b84811161019d57600183828151811061017a5761017a610246565b60ff90921660209283029190910190910152610196"
    "828261021f565b905061015f565b505b806101a98161025a565b915050610119565b5050919050565b5f6020828403121561"
    "01c8575f5ffd5b5035919050565b5f826101e957634e487b7160e01b5f52601260045260245ffd5b500690565b634e487b71"
    "60e01b5f52601160045260245ffd5b8082028115828204841417610219576102196101ee565b92915050565b808201808211"
    "15610219576102196101ee565b634e487b7160e01b5f52604160045260245ffd5b634e487b7160e01b5f5260326004526024"
    "5ffd5b5f6001820161026b5761026b6101ee565b506001019056"
)
_SELECTORS = {"Solidity, sum with branches": "188b85b4", "Solidity, sieve of primes": "bf9d8393"}

# Turns that take about twelve million gas.
_TURNS = {
    "arithmetic loop": 180_000,
    "Keccak loop": 107_000,
    "memory loop": 144_000,
    "Solidity, sum with branches": 50_000,
    "Solidity, sieve of primes": 18_000,
}
LOOPS = tuple(_TURNS)
LOOP_GAS = 16_000_000


def loop_code(name: str) -> bytes:
    body = _BODIES.get(name)
    if body is None:
        return _SOLIDITY
    plain = bytes.fromhex((_HEAD % 0 + body + _TAIL).replace(" ", ""))
    end = len(plain) - len(bytes.fromhex(_TAIL.replace(" ", ""))) + 6
    return bytes.fromhex((_HEAD % end + body + _TAIL).replace(" ", ""))


def loop_data(name: str) -> bytes:
    selector = bytes.fromhex(_SELECTORS.get(name, ""))
    return selector + _TURNS[name].to_bytes(32, "big")


def loop_address(name: str) -> bytes:
    return b"\x10" * 19 + bytes([LOOPS.index(name)])


# --- a chain ----------------------------------------------------------------------------------------------


def cold_address(index: int) -> bytes:
    return b"\xcc" * 16 + index.to_bytes(4, "big")


def filler(index: int) -> bytes:
    """The address of an account that only makes the state larger."""
    return keccak256(b"filler %d" % index)[12:]


def genesis(*, accounts: int = 0, cold_contracts: int = 0) -> Genesis:
    """Plain Prague. `accounts` more with a balance; `cold_contracts` tokens whose code differs in bytes nobody runs."""
    l1 = l1_genesis(preset("devnet"), TIME)
    balances = {int.from_bytes(keccak256(bytes(12) + address + bytes(32)), "big"): 10**30 for address in ADDRESSES}
    code = token_code()
    return Genesis(
        rules="ethereum",
        chain_id=CHAIN_ID,
        timestamp=TIME,
        gas_limit=GAS_LIMIT,
        base_fee_per_gas=GWEI,
        alloc={
            **{address: l1.alloc[address] for address in SYSTEM},
            **{address: GenesisAccount(balance=10**24) for address in ADDRESSES},
            TOKEN: GenesisAccount(nonce=1, code=code, storage=balances),
            **{loop_address(name): GenesisAccount(nonce=1, code=loop_code(name)) for name in LOOPS},
            **{
                cold_address(index): GenesisAccount(nonce=1, code=code + index.to_bytes(4, "big"), storage=balances)
                for index in range(cold_contracts)
            },
            **{filler(index): GenesisAccount(balance=1) for index in range(accounts)},
        },
    )


class Senders:
    """Signs, and counts the nonces."""

    def __init__(self) -> None:
        self._nonces = [0] * len(KEYS)

    def sign(self, index: int, to: bytes, *, gas: int, value: int = 0, data: bytes = b"") -> bytes:
        sender = index % len(KEYS)
        nonce = self._nonces[sender]
        self._nonces[sender] += 1
        return sign_transaction(
            KEYS[sender],
            chain_id=CHAIN_ID,
            nonce=nonce,
            gas=gas,
            to=to,
            value=value,
            data=data,
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
        ).raw

    def payments(self, block: int, number: int, kind: str, accounts: int = 0) -> list[bytes]:
        """Encodings of a block's transfers, of ether or of the token: senders in turns, recipients half new; with
        `accounts`, recipients are those accounts."""
        encoded = []
        for index in range(number):
            if accounts:
                recipient = filler((block * number + index) * 7919 % accounts)
            elif index % 2:
                recipient = ADDRESSES[(index * 7 + 1) % len(KEYS)]
            else:
                recipient = keccak256(b"new %d %d" % (block, index))[12:]
            if kind == "transfer":
                encoded.append(self.sign(index, recipient, gas=21_000, value=1))
            else:
                to = TOKEN if kind == "token" else cold_address(index)
                encoded.append(self.sign(index, to, gas=100_000, data=bytes(12) + recipient + (5).to_bytes(32, "big")))
        return encoded
