// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title L1Block
/// @notice What the L2 knows of its L1: written by the first transaction of every L2 block, a deposit from the
///         depositor account, and read by fee computation in the execution client and by anyone else.
/// @dev Predeploy 0x4200…0015, at the OP-Stack's Isthmus fork (l1-attributes.md). The execution client reads
///      slots 1, 3, 7 and 8 directly: the order of the state variables is part of the protocol.
contract L1Block {
    /// @notice Sender of the L1 attributes deposit; nobody holds its key.
    address public constant DEPOSITOR_ACCOUNT = 0xDeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001;

    string public constant version = "1.6.1-openledger";

    // Where the OP-Stack keeps the identity of a custom gas token; set in genesis.
    uint256 private constant GAS_PAYING_TOKEN_SLOT = uint256(keccak256("opstack.gaspayingtoken")) - 1;
    uint256 private constant GAS_PAYING_TOKEN_NAME_SLOT = uint256(keccak256("opstack.gaspayingtokenname")) - 1;
    uint256 private constant GAS_PAYING_TOKEN_SYMBOL_SLOT = uint256(keccak256("opstack.gaspayingtokensymbol")) - 1;

    /// @notice Number and timestamp (seconds) of the L1 origin. Slot 0.
    uint64 public number;
    uint64 public timestamp;

    /// @notice Base fee of the L1 origin, in wei per gas. Slot 1.
    uint256 public basefee;

    /// @notice Hash of the L1 origin. Slot 2.
    bytes32 public hash;

    /// @notice How many L2 blocks before this one have the same L1 origin. Slot 3, with the two scalars.
    uint64 public sequenceNumber;

    /// @notice Scalars of the L1 fee, in millionths.
    uint32 public blobBaseFeeScalar;
    uint32 public baseFeeScalar;

    /// @notice The batcher's address, left-padded. Slot 4.
    bytes32 public batcherHash;

    /// @notice Unused since Ecotone; they keep slots 5 and 6.
    uint256 public l1FeeOverhead;
    uint256 public l1FeeScalar;

    /// @notice Blob base fee of the L1 origin, in wei per blob gas. Slot 7.
    uint256 public blobBaseFee;

    /// @notice Operator fee: a constant in wei and a scalar in millionths of a wei per gas. Slot 8.
    uint64 public operatorFeeConstant;
    uint32 public operatorFeeScalar;

    /// @notice The caller is not the depositor account.
    error NotDepositor();

    /// @notice Writes the attributes of an L1 origin. The calldata is packed, without ABI padding:
    ///           4 baseFeeScalar u32 | 8 blobBaseFeeScalar u32 | 12 sequenceNumber u64 | 20 timestamp u64
    ///           | 28 number u64 | 36 basefee u256 | 68 blobBaseFee u256 | 100 hash | 132 batcherHash
    ///           | 164 operatorFeeScalar u32 | 168 operatorFeeConstant u64
    function setL1BlockValuesIsthmus() external {
        if (msg.sender != DEPOSITOR_ACCOUNT) revert NotDepositor();
        assembly ("memory-safe") {
            // Fields that lie next to each other in the calldata share a slot in the same order.
            sstore(sequenceNumber.slot, shr(128, calldataload(4)))
            sstore(number.slot, shr(128, calldataload(20)))
            sstore(basefee.slot, calldataload(36))
            sstore(blobBaseFee.slot, calldataload(68))
            sstore(hash.slot, calldataload(100))
            sstore(batcherHash.slot, calldataload(132))
            sstore(operatorFeeConstant.slot, shr(160, calldataload(164)))
        }
    }

    /// @notice The ERC-20 on L1 that is this chain's native currency, and its decimals.
    function gasPayingToken() public view returns (address token, uint8 decimals) {
        uint256 word = _load(GAS_PAYING_TOKEN_SLOT);
        return (address(uint160(word)), uint8(word >> 160));
    }

    function gasPayingTokenName() external view returns (string memory) {
        return _shortString(_load(GAS_PAYING_TOKEN_NAME_SLOT));
    }

    function gasPayingTokenSymbol() external view returns (string memory) {
        return _shortString(_load(GAS_PAYING_TOKEN_SYMBOL_SLOT));
    }

    /// @notice The native currency is OPEN, not ether.
    function isCustomGasToken() external pure returns (bool) {
        return true;
    }

    function _load(uint256 slot) private view returns (uint256 value) {
        assembly ("memory-safe") {
            value := sload(slot)
        }
    }

    /// @dev Text of at most 32 bytes, left-aligned in a word and ended by the first zero byte.
    function _shortString(uint256 word) private pure returns (string memory) {
        uint256 length;
        while (length < 32 && bytes32(word)[length] != 0) ++length;
        bytes memory text = new bytes(length);
        for (uint256 i = 0; i < length; ++i) text[i] = bytes32(word)[i];
        return string(text);
    }
}
