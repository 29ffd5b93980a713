// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {L1Block} from "L1Block.sol";

/// @title GasPriceOracle
/// @notice What a transaction pays besides L2 gas: the L1 fee (Fjord) and the operator fee (Isthmus).
/// @dev Predeploy 0x4200…000F, at the OP-Stack's Isthmus fork from genesis. The execution client computes the
///      same numbers natively; this contract is for wallets, libraries and other contracts.
contract GasPriceOracle {
    L1Block private constant L1_BLOCK = L1Block(0x4200000000000000000000000000000000000015);

    string public constant version = "1.4.0-openledger";

    /// @notice Decimals of the scalars.
    uint256 public constant DECIMALS = 6;

    /// @notice The forks that change this contract's answers; all are active from genesis.
    bool public constant isEcotone = true;
    bool public constant isFjord = true;
    bool public constant isIsthmus = true;

    // Fjord's regression from FastLZ size to compressed size, both in millionths of a byte (fjord/exec-engine.md).
    int256 private constant COST_INTERCEPT = -42_585_600;
    int256 private constant COST_FASTLZ_COEFFICIENT = 836_500;
    int256 private constant MIN_TRANSACTION_SIZE = 100e6;

    // What a signature adds to an unsigned transaction: 65 bytes and their RLP prefixes.
    uint256 private constant SIGNATURE_BYTES = 68;

    /// @notice A fee that has not existed since Ecotone was asked for.
    error DeprecatedSinceEcotone();

    /// @notice L1 fee, in wei, of an unsigned, serialised transaction.
    function getL1Fee(bytes calldata data) external view returns (uint256) {
        return _l1Fee(_fastLzLength(data) + SIGNATURE_BYTES);
    }

    /// @notice An upper bound of the L1 fee from a transaction's unsigned size alone, cheaper than `getL1Fee`.
    function getL1FeeUpperBound(uint256 unsignedTransactionSize) external view returns (uint256) {
        uint256 size = unsignedTransactionSize + SIGNATURE_BYTES;
        // FastLZ's worst case: incompressible data plus one byte in 255, with some room.
        return _l1Fee(size + size / 255 + 16);
    }

    /// @notice Operator fee, in wei, of a transaction that uses so much gas.
    function getOperatorFee(uint256 gasUsed) external view returns (uint256) {
        return (gasUsed * L1_BLOCK.operatorFeeScalar()) / 1e6 + L1_BLOCK.operatorFeeConstant();
    }

    /// @notice L1 gas that publishing the transaction as calldata would cost; an estimate, not what is charged.
    function getL1GasUsed(bytes calldata data) external pure returns (uint256) {
        return (_compressedSize(_fastLzLength(data) + SIGNATURE_BYTES) * 16) / 1e6;
    }

    function gasPrice() external view returns (uint256) {
        return block.basefee;
    }

    function baseFee() external view returns (uint256) {
        return block.basefee;
    }

    function l1BaseFee() public view returns (uint256) {
        return L1_BLOCK.basefee();
    }

    function blobBaseFee() public view returns (uint256) {
        return L1_BLOCK.blobBaseFee();
    }

    function baseFeeScalar() public view returns (uint32) {
        return L1_BLOCK.baseFeeScalar();
    }

    function blobBaseFeeScalar() public view returns (uint32) {
        return L1_BLOCK.blobBaseFeeScalar();
    }

    function decimals() external pure returns (uint256) {
        return DECIMALS;
    }

    function overhead() external pure returns (uint256) {
        revert DeprecatedSinceEcotone();
    }

    function scalar() external pure returns (uint256) {
        revert DeprecatedSinceEcotone();
    }

    function _l1Fee(uint256 fastLzSize) private view returns (uint256) {
        uint256 price = uint256(baseFeeScalar()) * 16 * l1BaseFee() + uint256(blobBaseFeeScalar()) * blobBaseFee();
        return (_compressedSize(fastLzSize) * price) / 1e12;
    }

    /// @dev In millionths of a byte.
    function _compressedSize(uint256 fastLzSize) private pure returns (uint256) {
        int256 size = COST_INTERCEPT + COST_FASTLZ_COEFFICIENT * int256(fastLzSize);
        return uint256(size < MIN_TRANSACTION_SIZE ? MIN_TRANSACTION_SIZE : size);
    }

    /// @dev Length of `data` after FastLZ level 1 compression, exactly as fee computation in the client counts it:
    ///      a table of 8,192 positions by hash of three bytes, matches of at most 8,191 bytes distance, no match
    ///      in the last 13 bytes.
    function _fastLzLength(bytes calldata data) private pure returns (uint256 length) {
        uint256 literalStart;
        if (data.length >= 13) {
            uint256 limit = data.length - 13;
            uint256 table = _newTable();
            uint256 position = 2;
            while (position < limit) {
                uint256 earlier;
                uint256 distance;
                // Find the next place whose three bytes stood at most 8,191 bytes before.
                while (true) {
                    uint256 sequence = _threeBytes(data, position);
                    earlier = _exchange(table, _hash(sequence), position);
                    distance = position - earlier;
                    if (position >= limit) break;
                    ++position;
                    if (distance < 8_192 && sequence == _threeBytes(data, earlier)) break;
                }
                if (position >= limit) break;
                --position;
                length += _literalsLength(position - literalStart);
                uint256 matched = _matchLength(data, earlier + 3, position + 3, limit + 9);
                length += _backReferenceLength(matched);
                position += matched;
                for (uint256 i = 0; i < 2; ++i) {
                    _exchange(table, _hash(_threeBytes(data, position)), position);
                    ++position;
                }
                literalStart = position;
            }
        }
        return length + _literalsLength(data.length - literalStart);
    }

    /// @dev 8,192 zeroed entries of four bytes; returns where they begin in memory.
    function _newTable() private pure returns (uint256 table) {
        bytes memory memoryOfTable = new bytes(4 * 8_192 + 28);
        assembly ("memory-safe") {
            table := add(memoryOfTable, 32)
        }
    }

    /// @dev Writes `value` into an entry of the table and returns what stood there.
    function _exchange(uint256 table, uint256 index, uint256 value) private pure returns (uint256 previous) {
        assembly ("memory-safe") {
            let place := add(table, shl(2, index))
            let word := mload(place)
            previous := shr(224, word)
            mstore(place, or(shl(224, value), and(word, shr(32, not(0)))))
        }
    }

    function _threeBytes(bytes calldata data, uint256 position) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            let word := calldataload(add(data.offset, position))
            value := or(byte(0, word), or(shl(8, byte(1, word)), shl(16, byte(2, word))))
        }
    }

    function _hash(uint256 sequence) private pure returns (uint256) {
        return ((2_654_435_769 * sequence) >> 19) & 0x1fff;
    }

    /// @dev How many bytes agree from two positions on; the later one stops at `end`.
    function _matchLength(bytes calldata data, uint256 earlier, uint256 later, uint256 end)
        private
        pure
        returns (uint256 length)
    {
        while (later + length < end && data[earlier + length] == data[later + length]) ++length;
        // The client counts the first byte that differs too.
        if (later + length < end) ++length;
    }

    function _literalsLength(uint256 count) private pure returns (uint256) {
        uint256 rest = count % 32;
        return 33 * (count / 32) + (rest == 0 ? 0 : rest + 1);
    }

    function _backReferenceLength(uint256 matched) private pure returns (uint256) {
        uint256 beyondFirst = matched - 1;
        return 3 * (beyondFirst / 262) + (beyondFirst % 262 >= 6 ? 3 : 2);
    }
}
