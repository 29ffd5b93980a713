"""The one place where an address constant lives.

Every address is 20 raw bytes; hex belongs to the edges (RPC, CLI, JSON).
Sources: OP-Stack specification, "Predeploys"; EIP-4788, EIP-2935, EIP-7002, EIP-7251; Yellow Paper, appendix E, and
the EIPs of later precompiles.
"""

from typing import Final


def _predeploy(low: int) -> bytes:
    """An address of the L2 predeploy range, 0x4200…0000 + `low`."""
    return b"\x42" + low.to_bytes(19, "big")


def _low_address(number: int) -> bytes:
    return number.to_bytes(20, "big")


def implementation_address(predeploy: bytes) -> bytes:
    """Where the code behind a proxied predeploy lives: 0xc0d3…c0d3 + its low two bytes.

    Source: OP-Stack `Predeploys.predeployToCodeNamespace`.
    """
    return b"\xc0\xd3" * 9 + predeploy[-2:]


# --- OP-Stack predeploys (L2) ---
WETH: Final = _predeploy(0x06)
L2_CROSS_DOMAIN_MESSENGER: Final = _predeploy(0x07)
GAS_PRICE_ORACLE: Final = _predeploy(0x0F)
L2_STANDARD_BRIDGE: Final = _predeploy(0x10)
SEQUENCER_FEE_VAULT: Final = _predeploy(0x11)
OPTIMISM_MINTABLE_ERC20_FACTORY: Final = _predeploy(0x12)
L2_ERC721_BRIDGE: Final = _predeploy(0x14)
L1_BLOCK: Final = _predeploy(0x15)
L2_TO_L1_MESSAGE_PASSER: Final = _predeploy(0x16)
OPTIMISM_MINTABLE_ERC721_FACTORY: Final = _predeploy(0x17)
PROXY_ADMIN: Final = _predeploy(0x18)
BASE_FEE_VAULT: Final = _predeploy(0x19)
L1_FEE_VAULT: Final = _predeploy(0x1A)
OPERATOR_FEE_VAULT: Final = _predeploy(0x1B)

# Sends the L1 attributes deposit of every block; nobody holds its key.
DEPOSITOR_ACCOUNT: Final = bytes.fromhex("deaddeaddeaddeaddeaddeaddeaddeaddead0001")

# --- our predeploys (L2) ---
DATANET_REGISTRY: Final = _predeploy(0xA000)
MODEL_REGISTRY: Final = _predeploy(0xA001)
INFERENCE_LEDGER: Final = _predeploy(0xA002)
REWARDS_DISTRIBUTOR: Final = _predeploy(0xA003)
STAKE_MANAGER: Final = _predeploy(0xA004)

# --- Ethereum's precompiles ---
ECRECOVER: Final = _low_address(0x01)
SHA256: Final = _low_address(0x02)
RIPEMD160: Final = _low_address(0x03)
IDENTITY: Final = _low_address(0x04)
MODEXP: Final = _low_address(0x05)
BN254_ADD: Final = _low_address(0x06)
BN254_MUL: Final = _low_address(0x07)
BN254_PAIRING: Final = _low_address(0x08)
BLAKE2F: Final = _low_address(0x09)
POINT_EVALUATION: Final = _low_address(0x0A)
BLS12_G1ADD: Final = _low_address(0x0B)
BLS12_G1MSM: Final = _low_address(0x0C)
BLS12_G2ADD: Final = _low_address(0x0D)
BLS12_G2MSM: Final = _low_address(0x0E)
BLS12_PAIRING_CHECK: Final = _low_address(0x0F)
BLS12_MAP_FP_TO_G1: Final = _low_address(0x10)
BLS12_MAP_FP2_TO_G2: Final = _low_address(0x11)
P256VERIFY: Final = _low_address(0x100)

# --- precompiles of the L2 ---
CREDIT: Final = _low_address(0xA700)
SPANS: Final = _low_address(0xA701)
SCORES: Final = _low_address(0xA702)
STEP: Final = _low_address(0xA703)
BN254_KZG: Final = _low_address(0xA704)

# --- contracts that block processing itself calls ---
SYSTEM_ADDRESS: Final = bytes.fromhex("fffffffffffffffffffffffffffffffffffffffe")
BEACON_ROOTS: Final = bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02")
HISTORY_STORAGE: Final = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")
WITHDRAWAL_REQUESTS: Final = bytes.fromhex("00000961ef480eb55e80d19ad83579a64c007002")
CONSOLIDATION_REQUESTS: Final = bytes.fromhex("0000bbddc7ce488642fb579f8b00f3a590007251")

# --- contracts that wallets and libraries expect at the same address on every chain ---
MULTICALL3: Final = bytes.fromhex("ca11bde05977b3631167028862be2a173976ca11")
DETERMINISTIC_DEPLOYER: Final = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")

# --- our contracts in the embedded L1 of the development preset ---
_L1_PREFIX: Final = bytes.fromhex("1612") + bytes(16)
L1_OPEN_TOKEN: Final = _L1_PREFIX + b"\x00\x01"
L1_PORTAL: Final = _L1_PREFIX + b"\x00\x02"
L1_SYSTEM_CONFIG: Final = _L1_PREFIX + b"\x00\x03"
L1_OUTPUT_ORACLE: Final = _L1_PREFIX + b"\x00\x04"
L1_CROSS_DOMAIN_MESSENGER: Final = _L1_PREFIX + b"\x00\x05"
L1_STANDARD_BRIDGE: Final = _L1_PREFIX + b"\x00\x06"
L1_ERC721_BRIDGE: Final = _L1_PREFIX + b"\x00\x07"
L1_PROXY_ADMIN: Final = _L1_PREFIX + b"\x00\x08"
L1_SUPERCHAIN_CONFIG: Final = _L1_PREFIX + b"\x00\x09"
