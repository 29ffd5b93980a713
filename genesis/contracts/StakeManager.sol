// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {REWARDS_DISTRIBUTOR} from "Economy.sol";

/// @title StakeManager
/// @notice What providers put at risk to be allowed to settle, and the stakers' part of all fees.
/// @dev A stake that was asked back stays slashable until it is withdrawn. Only `court` slashes; it is the
///      zero address until there is a court, so nobody does.
contract StakeManager is ReentrancyGuard {
    using Address for address payable;

    struct Stake {
        uint128 active;
        uint128 unbonding;
        uint64 withdrawableAt;
        uint256 rewardPerStakePaid;
        uint256 reward;
    }

    /// @notice Scale of `rewardPerStake`.
    uint256 private constant SCALE = 1e18;

    mapping(address staker => Stake) private _stakes;
    /// @notice Least active stake, in wei, of someone who may settle.
    uint128 public minProviderStake;
    /// @notice Sum of all active stakes in wei.
    uint128 public totalActive;
    /// @notice L2 blocks between asking a stake back and withdrawing it.
    uint64 public unbondingBlocks;
    /// @notice Who may slash.
    address public court;
    /// @notice Rewards per wei of active stake since genesis, times 1e18.
    uint256 public rewardPerStake;
    /// @notice Rewards in wei that arrived while nobody staked, or were too small to divide; the next ones carry them.
    uint256 public undistributed;

    event Staked(address indexed staker, uint256 amount, uint256 active);
    event UnstakeRequested(address indexed staker, uint256 amount, uint256 withdrawableAt);
    event Withdrawn(address indexed staker, uint256 amount);
    event RewardReceived(uint256 amount);
    event RewardClaimed(address indexed staker, uint256 amount);
    event Slashed(address indexed staker, uint256 amount, address indexed recipient, bytes32 evidence);

    error NothingStaked();
    error StakeTooSmall(uint256 active, uint256 requested);
    error StillUnbonding(uint256 withdrawableAt);
    error NothingToWithdraw();
    error NotCourt(address caller);
    error NotDistributor(address caller);

    /// @notice Takes the stakers' part of fees, from the RewardsDistributor's `claim(address(this))`.
    receive() external payable {
        if (msg.sender != REWARDS_DISTRIBUTOR) revert NotDistributor(msg.sender);
        emit RewardReceived(msg.value);
        uint256 amount = undistributed + msg.value;
        if (totalActive != 0) {
            uint256 perStake = Math.mulDiv(amount, SCALE, totalActive);
            rewardPerStake += perStake;
            amount -= Math.mulDiv(perStake, totalActive, SCALE);
        }
        undistributed = amount;
    }

    /// @notice Adds native OPEN to the caller's active stake.
    function stake() external payable {
        if (msg.value == 0) revert NothingStaked();
        Stake storage mine = _settled(msg.sender);
        mine.active += uint128(msg.value);
        totalActive += uint128(msg.value);
        emit Staked(msg.sender, msg.value, mine.active);
    }

    /// @notice Asks part of the stake back. Asking again adds to what is unbonding and starts its wait anew.
    /// @param amount in wei
    function requestUnstake(uint128 amount) external {
        Stake storage mine = _settled(msg.sender);
        if (amount == 0 || amount > mine.active) revert StakeTooSmall(mine.active, amount);
        mine.active -= amount;
        totalActive -= amount;
        mine.unbonding += amount;
        mine.withdrawableAt = uint64(block.number) + unbondingBlocks;
        emit UnstakeRequested(msg.sender, amount, mine.withdrawableAt);
    }

    /// @notice Pays out what has finished unbonding.
    function withdraw() external nonReentrant {
        Stake storage mine = _stakes[msg.sender];
        uint256 amount = mine.unbonding;
        if (amount == 0) revert NothingToWithdraw();
        if (block.number < mine.withdrawableAt) revert StillUnbonding(mine.withdrawableAt);
        mine.unbonding = 0;
        emit Withdrawn(msg.sender, amount);
        payable(msg.sender).sendValue(amount);
    }

    /// @notice Pays a staker its part of the fees; anyone may ask, the staker is paid.
    function claimReward(address staker) external nonReentrant {
        Stake storage theirs = _settled(staker);
        uint256 amount = theirs.reward;
        if (amount == 0) revert NothingToWithdraw();
        theirs.reward = 0;
        emit RewardClaimed(staker, amount);
        payable(staker).sendValue(amount);
    }

    /// @notice Takes stake for a judgement, unbonding first, and sends it where the judgement says.
    /// @param evidence content hash of the judgement's evidence
    /// @return taken wei, at most what is there
    function slash(address staker, uint128 amount, address payable recipient, bytes32 evidence)
        external
        nonReentrant
        returns (uint128 taken)
    {
        if (msg.sender != court) revert NotCourt(msg.sender);
        Stake storage theirs = _settled(staker);
        uint128 fromUnbonding = amount < theirs.unbonding ? amount : theirs.unbonding;
        uint128 rest = amount - fromUnbonding;
        uint128 fromActive = rest < theirs.active ? rest : theirs.active;
        theirs.unbonding -= fromUnbonding;
        theirs.active -= fromActive;
        totalActive -= fromActive;
        taken = fromUnbonding + fromActive;
        emit Slashed(staker, taken, recipient, evidence);
        recipient.sendValue(taken);
    }

    /// @notice Whether a provider has enough at stake to settle.
    function isStaked(address provider) external view returns (bool) {
        return _stakes[provider].active >= minProviderStake;
    }

    /// @notice A staker's amounts in wei; `reward` is what `claimReward` would pay.
    function stakeOf(address staker)
        external
        view
        returns (uint256 active, uint256 unbonding, uint256 withdrawableAt, uint256 reward)
    {
        Stake storage theirs = _stakes[staker];
        return (theirs.active, theirs.unbonding, theirs.withdrawableAt, theirs.reward + _unsettled(theirs));
    }

    function _settled(address staker) private returns (Stake storage theirs) {
        theirs = _stakes[staker];
        theirs.reward += _unsettled(theirs);
        theirs.rewardPerStakePaid = rewardPerStake;
    }

    function _unsettled(Stake storage theirs) private view returns (uint256) {
        return Math.mulDiv(theirs.active, rewardPerStake - theirs.rewardPerStakePaid, SCALE);
    }
}
