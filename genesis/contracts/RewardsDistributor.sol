// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {INFERENCE_LEDGER, MICRO_OPEN} from "Economy.sol";

/// @title RewardsDistributor
/// @notice Holds what settlements credited, one slot a payee, and pays it out once it has ripened.
/// @dev The CREDIT precompile writes `_accounts` directly; nothing else but `claim` touches it. The layout of
///      `Account`, the slot numbers of the first three variables and the rule of ripening are consensus.
///      Invariant: the balance is the sum of all amounts in `_accounts`, times 1e12.
contract RewardsDistributor is ReentrancyGuard {
    using Address for address payable;

    /// @notice One payee's amounts in micro-OPEN, as of `epoch`.
    /// @dev In the word, from the left: epoch u32 | claimable u56 | pending0 u56 | pending1 u56 | pending2 u56.
    ///      pendingI ripens at epoch + 1 + I; credits of epoch e go to pending2 and ripen at e + 3.
    struct Account {
        uint56 pending2;
        uint56 pending1;
        uint56 pending0;
        uint56 claimable;
        uint32 epoch;
    }

    /// @dev Slot 0.
    mapping(address payee => Account) private _accounts;
    /// @notice Who gets the platform's part. Slot 1, with the two numbers below.
    address public platform;
    /// @notice The platform's part of every fee, in basis points.
    uint16 public platformBps;
    /// @notice Length of an epoch in L2 blocks.
    uint32 public epochBlocks;
    /// @notice Who gets the stakers' part. Slot 2.
    address public stakers;
    /// @notice All wei that ever was claimed.
    uint256 public totalClaimed;

    /// @notice `payee` was paid `amount` wei; `caller` asked for it.
    event Claimed(address indexed payee, uint256 amount, address indexed caller);

    error NotLedger(address caller);
    error NothingToClaim(address payee);

    /// @notice Takes what the ledger debited from channels.
    receive() external payable {
        if (msg.sender != INFERENCE_LEDGER) revert NotLedger(msg.sender);
    }

    /// @notice The current payout period: L2 block number divided by the epoch's length.
    function epoch() public view returns (uint32) {
        return uint32(block.number / epochBlocks);
    }

    /// @notice What a payee can claim now and what ripens in the next three epochs, in micro-OPEN.
    /// @return currentEpoch the epoch this is as of
    /// @return claimable what `claim` would pay
    /// @return pending amounts that ripen at currentEpoch + 1, + 2 and + 3
    function account(address payee)
        external
        view
        returns (uint32 currentEpoch, uint256 claimable, uint256[3] memory pending)
    {
        Account memory rolled = _rolled(payee);
        return (rolled.epoch, rolled.claimable, [uint256(rolled.pending0), rolled.pending1, rolled.pending2]);
    }

    /// @notice Pays a payee everything that has ripened; anyone may ask, the payee is paid.
    /// @return amount in wei
    function claim(address payee) external nonReentrant returns (uint256 amount) {
        Account memory rolled = _rolled(payee);
        amount = uint256(rolled.claimable) * MICRO_OPEN;
        if (amount == 0) revert NothingToClaim(payee);
        rolled.claimable = 0;
        _accounts[payee] = rolled;
        totalClaimed += amount;
        emit Claimed(payee, amount, msg.sender);
        payable(payee).sendValue(amount);
    }

    /// @dev The account brought forward to the current epoch, as CREDIT does it.
    function _rolled(address payee) private view returns (Account memory rolled) {
        rolled = _accounts[payee];
        uint32 current = epoch();
        uint32 passed = current - rolled.epoch;
        if (passed > 0) rolled.claimable += rolled.pending0;
        if (passed > 1) rolled.claimable += rolled.pending1;
        if (passed > 2) rolled.claimable += rolled.pending2;
        if (passed == 1) (rolled.pending0, rolled.pending1, rolled.pending2) = (rolled.pending1, rolled.pending2, 0);
        else if (passed == 2) (rolled.pending0, rolled.pending1, rolled.pending2) = (rolled.pending2, 0, 0);
        else if (passed > 2) (rolled.pending0, rolled.pending1, rolled.pending2) = (0, 0, 0);
        rolled.epoch = current;
    }
}
