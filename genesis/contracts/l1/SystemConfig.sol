// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title SystemConfig
/// @notice The parameters of the L2 that its owner may change on L1. Every change is an event that all nodes
///         derive from (OP-Stack system-config.md, Isthmus).
/// @dev The portal and the L1 bridges ask it for the gas token and the price of deposits.
contract SystemConfig is Ownable2Step {
    /// @dev The numbers are part of the protocol.
    enum UpdateType {
        BATCHER,
        FEE_SCALARS,
        GAS_LIMIT,
        UNSAFE_BLOCK_SIGNER,
        EIP_1559_PARAMS,
        OPERATOR_FEE_PARAMS
    }

    /// @notice How the portal prices the L2 gas of deposits (its ResourceMetering).
    struct ResourceConfig {
        uint32 maxResourceLimit;
        uint8 elasticityMultiplier;
        uint8 baseFeeMaxChangeDenominator;
        uint32 minimumBaseFee;
        uint32 systemTxMaxGas;
        uint128 maximumBaseFee;
    }

    /// @notice What never changes.
    struct Addresses {
        address gasPayingToken;
        address optimismPortal;
        address l1CrossDomainMessenger;
        address l1StandardBridge;
        address l1ERC721Bridge;
        address batchInbox;
    }

    uint256 public constant VERSION = 0;
    string public constant version = "1.0.0-openledger";

    uint64 private constant MAXIMUM_GAS_LIMIT = 500_000_000;

    address private immutable GAS_PAYING_TOKEN;
    address public immutable optimismPortal;
    address public immutable l1CrossDomainMessenger;
    address public immutable l1StandardBridge;
    address public immutable l1ERC721Bridge;
    address public immutable batchInbox;

    /// @notice The batcher's address, left-padded to 32 bytes.
    bytes32 public batcherHash;
    address public unsafeBlockSigner;
    /// @notice Gas limit of an L2 block.
    uint64 public gasLimit;
    /// @notice Scalars of the L1 fee, in millionths.
    uint32 public basefeeScalar;
    uint32 public blobbasefeeScalar;
    uint32 public eip1559Denominator;
    uint32 public eip1559Elasticity;
    /// @notice Operator fee: a scalar in millionths of a wei per gas and a constant in wei.
    uint32 public operatorFeeScalar;
    uint64 public operatorFeeConstant;
    /// @notice L1 block at which derivation begins to look for updates.
    uint256 public startBlock;

    event ConfigUpdate(uint256 indexed version, UpdateType indexed updateType, bytes data);

    /// @notice An L2 block must hold the deposits that L1 can force into it, and no more than a node can run.
    error GasLimitOutOfRange(uint64 gasLimit, uint64 minimum, uint64 maximum);
    /// @notice Both EIP-1559 parameters must be at least one.
    error ZeroEIP1559Parameter();

    constructor(
        address owner,
        bytes32 batcherHash_,
        address unsafeBlockSigner_,
        uint64 gasLimit_,
        uint32 basefeeScalar_,
        uint32 blobbasefeeScalar_,
        uint32 eip1559Denominator_,
        uint32 eip1559Elasticity_,
        uint32 operatorFeeScalar_,
        uint64 operatorFeeConstant_,
        Addresses memory addresses
    ) Ownable(owner) {
        GAS_PAYING_TOKEN = addresses.gasPayingToken;
        optimismPortal = addresses.optimismPortal;
        l1CrossDomainMessenger = addresses.l1CrossDomainMessenger;
        l1StandardBridge = addresses.l1StandardBridge;
        l1ERC721Bridge = addresses.l1ERC721Bridge;
        batchInbox = addresses.batchInbox;
        startBlock = block.number;
        _setBatcherHash(batcherHash_);
        _setUnsafeBlockSigner(unsafeBlockSigner_);
        _setGasLimit(gasLimit_);
        _setGasConfig(basefeeScalar_, blobbasefeeScalar_);
        _setEIP1559Params(eip1559Denominator_, eip1559Elasticity_);
        _setOperatorFeeScalars(operatorFeeScalar_, operatorFeeConstant_);
    }

    function setBatcherHash(bytes32 batcherHash_) external onlyOwner {
        _setBatcherHash(batcherHash_);
    }

    function setUnsafeBlockSigner(address unsafeBlockSigner_) external onlyOwner {
        _setUnsafeBlockSigner(unsafeBlockSigner_);
    }

    function setGasLimit(uint64 gasLimit_) external onlyOwner {
        _setGasLimit(gasLimit_);
    }

    function setGasConfigEcotone(uint32 basefeeScalar_, uint32 blobbasefeeScalar_) external onlyOwner {
        _setGasConfig(basefeeScalar_, blobbasefeeScalar_);
    }

    function setEIP1559Params(uint32 denominator, uint32 elasticity) external onlyOwner {
        _setEIP1559Params(denominator, elasticity);
    }

    function setOperatorFeeScalars(uint32 operatorFeeScalar_, uint64 operatorFeeConstant_) external onlyOwner {
        _setOperatorFeeScalars(operatorFeeScalar_, operatorFeeConstant_);
    }

    /// @notice The ERC-20 that the portal locks, and its decimals.
    function gasPayingToken() external view returns (address token, uint8 decimals) {
        return (GAS_PAYING_TOKEN, 18);
    }

    function isCustomGasToken() external pure returns (bool) {
        return true;
    }

    function gasPayingTokenName() external pure returns (string memory) {
        return "Openledger";
    }

    function gasPayingTokenSymbol() external pure returns (string memory) {
        return "OPEN";
    }

    /// @notice Version 1 of the L1 fee's scalars in one word: 0x01 | zeros | blob scalar u32 | base scalar u32.
    function scalar() public view returns (uint256) {
        return (uint256(1) << 248) | (uint256(blobbasefeeScalar) << 32) | basefeeScalar;
    }

    /// @notice Unused since Ecotone.
    function overhead() external pure returns (uint256) {
        return 0;
    }

    function minimumGasLimit() public pure returns (uint64) {
        ResourceConfig memory config = resourceConfig();
        return uint64(config.maxResourceLimit) + config.systemTxMaxGas;
    }

    function maximumGasLimit() external pure returns (uint64) {
        return MAXIMUM_GAS_LIMIT;
    }

    /// @notice The OP-Stack's defaults: 20 Mgas of deposits per L1 block, priced by an EIP-1559 market of their own.
    function resourceConfig() public pure returns (ResourceConfig memory) {
        return ResourceConfig({
            maxResourceLimit: 20_000_000,
            elasticityMultiplier: 10,
            baseFeeMaxChangeDenominator: 8,
            minimumBaseFee: 1 gwei,
            systemTxMaxGas: 1_000_000,
            maximumBaseFee: type(uint128).max
        });
    }

    function _setBatcherHash(bytes32 batcherHash_) private {
        batcherHash = batcherHash_;
        emit ConfigUpdate(VERSION, UpdateType.BATCHER, abi.encode(batcherHash_));
    }

    function _setUnsafeBlockSigner(address unsafeBlockSigner_) private {
        unsafeBlockSigner = unsafeBlockSigner_;
        emit ConfigUpdate(VERSION, UpdateType.UNSAFE_BLOCK_SIGNER, abi.encode(unsafeBlockSigner_));
    }

    function _setGasLimit(uint64 gasLimit_) private {
        if (gasLimit_ < minimumGasLimit() || gasLimit_ > MAXIMUM_GAS_LIMIT) {
            revert GasLimitOutOfRange(gasLimit_, minimumGasLimit(), MAXIMUM_GAS_LIMIT);
        }
        gasLimit = gasLimit_;
        emit ConfigUpdate(VERSION, UpdateType.GAS_LIMIT, abi.encode(gasLimit_));
    }

    function _setGasConfig(uint32 basefeeScalar_, uint32 blobbasefeeScalar_) private {
        basefeeScalar = basefeeScalar_;
        blobbasefeeScalar = blobbasefeeScalar_;
        emit ConfigUpdate(VERSION, UpdateType.FEE_SCALARS, abi.encode(uint256(0), scalar()));
    }

    function _setEIP1559Params(uint32 denominator, uint32 elasticity) private {
        if (denominator == 0 || elasticity == 0) revert ZeroEIP1559Parameter();
        eip1559Denominator = denominator;
        eip1559Elasticity = elasticity;
        emit ConfigUpdate(
            VERSION, UpdateType.EIP_1559_PARAMS, abi.encode((uint256(denominator) << 32) | uint256(elasticity))
        );
    }

    function _setOperatorFeeScalars(uint32 operatorFeeScalar_, uint64 operatorFeeConstant_) private {
        operatorFeeScalar = operatorFeeScalar_;
        operatorFeeConstant = operatorFeeConstant_;
        emit ConfigUpdate(
            VERSION,
            UpdateType.OPERATOR_FEE_PARAMS,
            abi.encode((uint256(operatorFeeScalar_) << 64) | uint256(operatorFeeConstant_))
        );
    }
}
