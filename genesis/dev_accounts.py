"""The development accounts: ten well-known keys, public by design.

They are derived from DEV_MNEMONIC by m/44'/60'/0'/0/i, as anvil, hardhat and `cast` derive theirs, and
written down here so that starting a node need not derive them. Never send anything of value to them:
the testnet and mainnet presets refuse them in every role.
"""

from dataclasses import dataclass
from typing import Final

DEV_MNEMONIC: Final = "test test test test test test test test test test test junk"
DERIVATION_PATH: Final = "m/44'/60'/0'/0/{index}"


@dataclass(frozen=True)
class DevAccount:
    """A 20-byte address, the 32-byte private key behind it, and its index in the derivation path."""

    index: int
    address: bytes
    private_key: bytes


_KEYS: Final = (
    (
        "f39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    ),
    (
        "70997970c51812dc3a010c7d01b50e0d17dc79c8",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    ),
    (
        "3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ),
    (
        "90f79bf6eb2c4f870365e785982e1f101e93b906",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    ),
    (
        "15d34aaf54267db7d7c367839aaf71a00a2c6a65",
        "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    ),
    (
        "9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
        "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    ),
    (
        "976ea74026e726554db657fa54763abd0c3a0aa9",
        "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    ),
    (
        "14dc79964da2c08b23698b3d3cc7ca32193d9955",
        "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    ),
    (
        "23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f",
        "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    ),
    (
        "a0ee7a142d267c1f36714e4a8f75612f20a79720",
        "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    ),
)

DEV_ACCOUNTS: Final[tuple[DevAccount, ...]] = tuple(
    DevAccount(index, bytes.fromhex(address), bytes.fromhex(key)) for index, (address, key) in enumerate(_KEYS)
)

# Accounts 0 to 4 are for people to use; the node itself never sends from them.
USERS: Final = DEV_ACCOUNTS[:5]
PROVIDER: Final = DEV_ACCOUNTS[5]
"""Serves answers, signs receipts, settles."""
BATCHER: Final = DEV_ACCOUNTS[6]
PROPOSER: Final = DEV_ACCOUNTS[7]
SEQUENCER_P2P: Final = DEV_ACCOUNTS[8]
"""Signs unsafe blocks for gossip; never sends a transaction."""
OWNER: Final = DEV_ACCOUNTS[9]
"""Owns SystemConfig and ProxyAdmin, holds the undistributed supply on L1, receives fees."""


def dev_account(index: int) -> DevAccount:
    """The account of one derivation index; raises IndexError outside 0 to 9."""
    if not 0 <= index < len(DEV_ACCOUNTS):
        raise IndexError(f"there are {len(DEV_ACCOUNTS)} development accounts, 0 to {len(DEV_ACCOUNTS) - 1}")
    return DEV_ACCOUNTS[index]


def is_dev_address(address: bytes) -> bool:
    """Whether an address belongs to one of the public keys above."""
    return any(account.address == address for account in DEV_ACCOUNTS)
