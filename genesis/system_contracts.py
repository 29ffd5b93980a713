"""Runtime code of the contracts that block processing itself calls, and of two that tools expect everywhere.

The system contracts' bytes are those of the EIPs; tests derive each address back from the EIP's deployment
transaction.
"""

from typing import Final

from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.genesis import GenesisAccount

# EIP-4788: beacon block roots.
_BEACON_ROOTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff8106908154"
    "14603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500"
)
# EIP-2935: block hashes from state.
_HISTORY_STORAGE_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff814303116042"
    "57611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
# EIP-7002: withdrawal requests.
_WITHDRAWAL_REQUESTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe1460cb5760115f54807fffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffff146101f457600182026001905f5b5f82111560685781019083028483029004916001019190604d565b90"
    "9390049250505036603814608857366101f457346101f4575f5260205ff35b34106101f45760015460010160015560035480600302"
    "6004013381556001015f35815560010160203590553360601b5f5260385f601437604c5fa0600101600355005b6003546002548082"
    "038060101160df575060105b5f5b8181146101835782810160030260040181604c02815460601b8152601401816001015481526020"
    "019060020154807fffffffffffffffffffffffffffffffff00000000000000000000000000000000168252906010019060401c9081"
    "60381c81600701538160301c81600601538160281c81600501538160201c81600401538160181c81600301538160101c8160020153"
    "8160081c81600101535360010160e1565b910180921461019557906002556101a0565b90505f6002555f6003555b5f54807fffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffff14156101cd57505f5b6001546002828201116101e2575050"
    "5f6101e8565b01600290035b5f555f600155604c025ff35b5f5ffd"
)
# EIP-7251: consolidation requests.
_CONSOLIDATION_REQUESTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe1460d35760115f54807fffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffff1461019a57600182026001905f5b5f82111560685781019083028483029004916001019190604d565b90"
    "93900492505050366060146088573661019a573461019a575f5260205ff35b341061019a5760015460010160015560035480600402"
    "6004013381556001015f358155600101602035815560010160403590553360601b5f5260605f60143760745fa0600101600355005b"
    "6003546002548082038060021160e7575060025b5f5b8181146101295782810160040260040181607402815460601b815260140181"
    "600101548152602001816002015481526020019060030154905260010160e9565b910180921461013b5790600255610146565b9050"
    "5f6002555f6003555b5f54807fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff141561017357505f"
    "5b6001546001828201116101885750505f61018e565b01600190035b5f555f6001556074025ff35b5f5ffd"
)


def system_contracts(*, with_requests: bool) -> dict[bytes, GenesisAccount]:
    """EIP-4788 and EIP-2935, and on a plain Ethereum chain also the EIP-7002 and EIP-7251 request queues;

    and on both Multicall3 and the deterministic deployment proxy.
    """
    codes = {
        predeploys.BEACON_ROOTS: _BEACON_ROOTS_CODE,
        predeploys.HISTORY_STORAGE: _HISTORY_STORAGE_CODE,
    }
    if with_requests:
        codes[predeploys.WITHDRAWAL_REQUESTS] = _WITHDRAWAL_REQUESTS_CODE
        codes[predeploys.CONSOLIDATION_REQUESTS] = _CONSOLIDATION_REQUESTS_CODE
    codes[predeploys.MULTICALL3] = artifact("Multicall3").deployed_bytecode
    codes[predeploys.DETERMINISTIC_DEPLOYER] = artifact("DeterministicDeployer").deployed_bytecode
    return {address: GenesisAccount(nonce=1, code=code) for address, code in codes.items()}
