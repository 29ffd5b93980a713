// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

interface IL2ToL1MessagePasser {
    function initiateWithdrawal(address target, uint256 gasLimit, bytes memory data) external payable;
}

/// @title OperatorFeeVault
/// @notice Collects the operator fee of every transaction (Isthmus) until anyone sends it to its recipient.
/// @dev Predeploy 0x4200…001B, with the interface of the other OP-Stack fee vaults.
contract OperatorFeeVault {
    enum WithdrawalNetwork {
        L1,
        L2
    }

    IL2ToL1MessagePasser private constant MESSAGE_PASSER =
        IL2ToL1MessagePasser(0x4200000000000000000000000000000000000016);
    uint256 private constant WITHDRAWAL_MIN_GAS = 400_000;

    string public constant version = "1.0.0-openledger";

    uint256 public immutable MIN_WITHDRAWAL_AMOUNT;
    address public immutable RECIPIENT;
    WithdrawalNetwork public immutable WITHDRAWAL_NETWORK;

    /// @notice All wei that ever left the vault.
    uint256 public totalProcessed;

    event Withdrawal(uint256 value, address to, address from);
    event Withdrawal(uint256 value, address to, address from, WithdrawalNetwork withdrawalNetwork);

    /// @notice The vault holds less than the least amount it sends.
    error BelowMinimum(uint256 balance, uint256 minimum);
    /// @notice The recipient did not accept the payment.
    error PaymentRefused(address recipient);

    constructor(address recipient_, uint256 minWithdrawalAmount_, WithdrawalNetwork withdrawalNetwork_) {
        RECIPIENT = recipient_;
        MIN_WITHDRAWAL_AMOUNT = minWithdrawalAmount_;
        WITHDRAWAL_NETWORK = withdrawalNetwork_;
    }

    receive() external payable {}

    function minWithdrawalAmount() external view returns (uint256) {
        return MIN_WITHDRAWAL_AMOUNT;
    }

    function recipient() external view returns (address) {
        return RECIPIENT;
    }

    function withdrawalNetwork() external view returns (WithdrawalNetwork) {
        return WITHDRAWAL_NETWORK;
    }

    /// @notice Sends the whole balance to the recipient; anyone may call.
    function withdraw() external {
        uint256 value = address(this).balance;
        if (value < MIN_WITHDRAWAL_AMOUNT) revert BelowMinimum(value, MIN_WITHDRAWAL_AMOUNT);
        totalProcessed += value;
        emit Withdrawal(value, RECIPIENT, msg.sender);
        emit Withdrawal(value, RECIPIENT, msg.sender, WITHDRAWAL_NETWORK);
        if (WITHDRAWAL_NETWORK == WithdrawalNetwork.L2) {
            (bool accepted,) = RECIPIENT.call{value: value}("");
            if (!accepted) revert PaymentRefused(RECIPIENT);
        } else {
            MESSAGE_PASSER.initiateWithdrawal{value: value}(RECIPIENT, WITHDRAWAL_MIN_GAS, "");
        }
    }
}
