// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {CREDIT, MICRO_OPEN, REWARDS_DISTRIBUTOR, STAKE_MANAGER} from "Economy.sol";

interface IStakes {
    function isStaked(address provider) external view returns (bool);
}

interface IEpochs {
    function epoch() external view returns (uint32);
}

/// @title InferenceLedger
/// @notice Channels that pay for answers, and settlements that debit them and credit everyone who earned.
/// @dev Amounts are micro-OPEN (1e12 wei) wherever they are not called wei.
///      Invariant: the balance is the sum over channels of deposit − totalClaimed, times 1e12.
contract InferenceLedger is EIP712, ReentrancyGuard {
    using Address for address payable;

    /// @notice One payer's money for one provider. `deposit` counts what was claimed too: what can still be
    ///         claimed is deposit − totalClaimed. `totalClaimed` never falls, so old vouchers stay spent.
    struct Channel {
        address payer;
        uint64 deposit;
        uint32 withdrawDelay;
        address receiver;
        uint64 totalClaimed;
        address authorizer;
        uint64 withdrawableAt;
    }

    /// @notice What is remembered of a settlement, for disputes.
    struct Batch {
        address provider;
        uint32 epoch;
        uint64 blockNumber;
        bytes32 receiptsRoot;
        bytes32 payloadHash;
    }

    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint64 maxClaimable)");
    uint8 private constant VERSION = 1;
    uint256 private constant HEADER_BYTES = 35;
    uint256 private constant GROUP_BYTES = 111;

    mapping(bytes32 channelId => Channel) private _channels;
    mapping(uint256 batch => Batch) private _batches;
    /// @notice Settlements so far; the latest has this number.
    uint64 public batchCount;
    /// @notice Least delay, in L2 blocks, between a payer's request to withdraw and the withdrawal.
    uint32 public minWithdrawDelay;
    /// @notice Everything ever debited, in micro-OPEN.
    uint128 public totalDebited;

    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed receiver,
        address authorizer,
        uint32 withdrawDelay,
        bytes32 salt,
        uint64 deposit
    );
    event ChannelToppedUp(bytes32 indexed channelId, uint64 amount, uint64 deposit);
    event WithdrawalRequested(bytes32 indexed channelId, uint64 withdrawableAt);
    event ChannelWithdrawn(bytes32 indexed channelId, uint64 amount);
    event ChannelDebited(bytes32 indexed channelId, uint256 indexed batch, uint32 release, uint64 fees, uint64 totalClaimed);
    event Settled(
        uint256 indexed batch,
        address indexed provider,
        uint32 epoch,
        bytes32 receiptsRoot,
        bytes32 payloadHash,
        uint64 fees,
        uint256 records
    );

    error NotWholeMicroOpen(uint256 value);
    error ZeroAddress();
    error DelayTooShort(uint32 delay, uint32 minimum);
    error ChannelExists(bytes32 channelId);
    error UnknownChannel(bytes32 channelId);
    error NotPayer(address caller);
    error WithdrawalNotRequested(bytes32 channelId);
    error WithdrawalTooEarly(uint64 withdrawableAt);
    error NothingToWithdraw(bytes32 channelId);
    error NotStaked(address provider);
    error MalformedSettlement();
    error NotReceiver(bytes32 channelId, address caller);
    error VoucherTooSmall(bytes32 channelId, uint256 claimed, uint64 maxClaimable);
    error DepositTooSmall(bytes32 channelId, uint256 claimed, uint64 deposit);
    error InvalidVoucher(bytes32 channelId, address signer);
    error CreditFailed();

    constructor() EIP712("Openledger", "1") {}

    /// @notice Opens a channel from the caller to a provider. Value: a multiple of one micro-OPEN, may be 0.
    /// @param receiver the provider
    /// @param authorizer whose signature makes vouchers; 0: the caller
    /// @param withdrawDelay in L2 blocks, at least `minWithdrawDelay`
    /// @return channelId keccak256(abi.encode(payer, receiver, authorizer, withdrawDelay, salt))
    function open(address receiver, address authorizer, uint32 withdrawDelay, bytes32 salt)
        external
        payable
        returns (bytes32 channelId)
    {
        if (receiver == address(0)) revert ZeroAddress();
        if (authorizer == address(0)) authorizer = msg.sender;
        if (withdrawDelay < minWithdrawDelay) revert DelayTooShort(withdrawDelay, minWithdrawDelay);
        channelId = keccak256(abi.encode(msg.sender, receiver, authorizer, withdrawDelay, salt));
        Channel storage opened = _channels[channelId];
        if (opened.payer != address(0)) revert ChannelExists(channelId);
        uint64 amount = _micro(msg.value);
        opened.payer = msg.sender;
        opened.deposit = amount;
        opened.withdrawDelay = withdrawDelay;
        opened.receiver = receiver;
        opened.authorizer = authorizer;
        emit ChannelOpened(channelId, msg.sender, receiver, authorizer, withdrawDelay, salt, amount);
    }

    /// @notice Adds to a channel's deposit; anyone may. Value: a multiple of one micro-OPEN.
    function topUp(bytes32 channelId) external payable {
        Channel storage raised = _known(channelId);
        uint64 amount = _micro(msg.value);
        raised.deposit += amount;
        emit ChannelToppedUp(channelId, amount, raised.deposit);
    }

    /// @notice Starts the delay after which the payer may take back what was not claimed by then.
    function requestWithdraw(bytes32 channelId) external {
        Channel storage asked = _known(channelId);
        if (asked.payer != msg.sender) revert NotPayer(msg.sender);
        asked.withdrawableAt = uint64(block.number) + asked.withdrawDelay;
        emit WithdrawalRequested(channelId, asked.withdrawableAt);
    }

    /// @notice Pays the payer everything not claimed. The channel may be topped up and used again.
    function withdraw(bytes32 channelId) external nonReentrant {
        Channel storage emptied = _known(channelId);
        if (emptied.payer != msg.sender) revert NotPayer(msg.sender);
        if (emptied.withdrawableAt == 0) revert WithdrawalNotRequested(channelId);
        if (block.number < emptied.withdrawableAt) revert WithdrawalTooEarly(emptied.withdrawableAt);
        uint64 amount = emptied.deposit - emptied.totalClaimed;
        if (amount == 0) revert NothingToWithdraw(channelId);
        emptied.deposit = emptied.totalClaimed;
        emptied.withdrawableAt = 0;
        emit ChannelWithdrawn(channelId, amount);
        payable(msg.sender).sendValue(uint256(amount) * MICRO_OPEN);
    }

    /// @notice Settles answers: debits their channels and credits everyone who earned. Only a staked provider.
    /// @param payload see evm_ext/proofs/settlement.py; CREDIT checks whatever is not checked here
    /// @return batch the settlement's number
    function settle(bytes calldata payload) external nonReentrant returns (uint256 batch) {
        if (!IStakes(STAKE_MANAGER).isStaked(msg.sender)) revert NotStaked(msg.sender);
        if (payload.length < HEADER_BYTES || uint8(payload[0]) != VERSION) revert MalformedSettlement();
        batch = ++batchCount;
        (uint64 fees, uint256 records) = _debit(payload, batch);
        totalDebited += fees;

        uint32 epoch = IEpochs(REWARDS_DISTRIBUTOR).epoch();
        Batch storage made = _batches[batch];
        made.provider = msg.sender;
        made.epoch = epoch;
        made.blockNumber = uint64(block.number);
        made.receiptsRoot = bytes32(payload[1:33]);
        made.payloadHash = keccak256(payload);
        emit Settled(batch, msg.sender, epoch, made.receiptsRoot, made.payloadHash, fees, records);

        payable(REWARDS_DISTRIBUTOR).sendValue(uint256(fees) * MICRO_OPEN);
        (bool credited,) =
            CREDIT.call(abi.encodePacked(VERSION, epoch, msg.sender, fees, payload));
        if (!credited) revert CreditFailed();
    }

    /// @notice A channel's record; reverts for an unknown one.
    function getChannel(bytes32 channelId) external view returns (Channel memory) {
        return _known(channelId);
    }

    /// @notice What is remembered of a settlement; all zero for an unknown number.
    function getBatch(uint256 number) external view returns (Batch memory) {
        return _batches[number];
    }

    /// @notice The EIP-712 domain separator of vouchers and receipts.
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @dev Debits each group's channel by its fees. Returns all fees and the number of records.
    function _debit(bytes calldata payload, uint256 batch) private returns (uint64 fees, uint256 records) {
        uint256 groups = uint16(bytes2(payload[33:35]));
        uint256 offset = HEADER_BYTES;
        for (uint256 g = 0; g < groups; ++g) {
            if (offset + GROUP_BYTES > payload.length) revert MalformedSettlement();
            bytes calldata group = payload[offset:offset + GROUP_BYTES];
            uint256 count = uint16(bytes2(group[109:111]));
            uint64 groupFees;
            (groupFees, offset) = _sumFees(payload, offset + GROUP_BYTES, count);
            _debitChannel(group, groupFees, batch);
            fees += groupFees;
            records += count;
        }
        if (offset != payload.length || records == 0) revert MalformedSettlement();
    }

    /// @dev Sum of the fees of `count` records that begin at `offset`, and where they end.
    function _sumFees(bytes calldata payload, uint256 offset, uint256 count)
        private
        pure
        returns (uint64 sum, uint256 end)
    {
        // At most 65,535 fees of 40 bits: no overflow of 64. A record that begins past the payload's end stops the loop.
        uint256 left = count;
        assembly ("memory-safe") {
            let total := 0
            for {} and(gt(left, 0), lt(offset, payload.length)) { left := sub(left, 1) } {
                let word := calldataload(add(payload.offset, offset))
                total := add(total, shr(216, word))
                offset := add(offset, add(6, mul(6, byte(5, word))))
            }
            sum := total
            end := offset
        }
        if (left != 0) revert MalformedSettlement();
        if (end > payload.length) revert MalformedSettlement();
    }

    function _debitChannel(bytes calldata group, uint64 fees, uint256 batch) private {
        bytes32 channelId = bytes32(group[0:32]);
        uint64 maxClaimable = uint64(bytes8(group[36:44]));
        Channel storage debited = _channels[channelId];
        if (debited.receiver != msg.sender) revert NotReceiver(channelId, msg.sender);
        uint256 claimed = uint256(debited.totalClaimed) + fees;
        if (claimed > maxClaimable) revert VoucherTooSmall(channelId, claimed, maxClaimable);
        if (claimed > debited.deposit) revert DepositTooSmall(channelId, claimed, debited.deposit);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, maxClaimable)));
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, group[44:109]);
        if (problem != ECDSA.RecoverError.NoError || signer != debited.authorizer) {
            revert InvalidVoucher(channelId, signer);
        }
        debited.totalClaimed = uint64(claimed);
        emit ChannelDebited(channelId, batch, uint32(bytes4(group[32:36])), fees, uint64(claimed));
    }

    function _known(bytes32 channelId) private view returns (Channel storage known) {
        known = _channels[channelId];
        if (known.payer == address(0)) revert UnknownChannel(channelId);
    }

    function _micro(uint256 value) private pure returns (uint64) {
        if (value % MICRO_OPEN != 0) revert NotWholeMicroOpen(value);
        return uint64(value / MICRO_OPEN);
    }
}
