// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

/// @title L2OutputOracle
/// @notice The output roots of the L2, each with a bond in OPEN behind it that anybody can challenge with a bond of
///         his own. What is asked by the OptimismPortal and by the OP-Stack's tools is answered as they expect.
/// @dev A challenged output is frozen, and with it all after it, because deleting it deletes them: their timestamp
///      reads as the present moment, so the portal finds their finalization period not over. The `challenger` role
///      decides and is trusted in that. Where it does not decide in time anybody can have the output deleted and both
///      bonds given back: an output in dispute never becomes final by waiting.
///      The loser's bond goes half to the winner; the other half nobody gets, so who challenges himself loses too.
///      The storage continues the layout of the OP-Stack's oracle, so a proxy of that can be upgraded to this.
contract L2OutputOracle is Initializable, ReentrancyGuard {
    using SafeERC20 for IERC20;

    struct OutputProposal {
        bytes32 outputRoot;
        uint128 timestamp;
        uint128 l2BlockNumber;
    }

    /// @notice What is locked behind an output, and whose it is.
    struct Bond {
        address account;
        uint96 amount;
    }

    /// @notice A dispute about one output; none while `challenger` is zero.
    struct Challenge {
        address challenger;
        uint96 bond;
        uint64 openedAt;
    }

    /// @notice The variables of these names.
    struct BondTerms {
        IERC20 bondToken;
        uint96 proposerBond;
        uint96 challengerBond;
        uint64 decisionPeriodSeconds;
    }

    string public constant version = "1.8.0-openledger";

    /// @notice So many outputs can be open at once that deleting them all fits into any transaction.
    uint256 public constant MAX_OPEN_OUTPUTS = 512;

    /// @dev Where the OP-Stack's oracle keeps whether it is initialised.
    bytes32 private formerInitializable;
    uint256 public startingBlockNumber;
    uint256 public startingTimestamp;
    OutputProposal[] private l2Outputs;
    /// @notice L2 blocks between two outputs.
    uint256 public submissionInterval;
    /// @notice Seconds between two L2 blocks.
    uint256 public l2BlockTime;
    /// @notice Decides challenges, and may delete what nobody challenged.
    address public challenger;
    address public proposer;
    /// @notice Seconds for which an output can be challenged, and after which withdrawals may rely on it.
    uint256 public finalizationPeriodSeconds;

    /// @notice OPEN on this L1.
    IERC20 public bondToken;
    /// @notice Wei of OPEN behind each output, until it is final.
    uint96 public proposerBond;
    /// @notice Wei of OPEN that a challenge costs who is wrong.
    uint96 public challengerBond;
    /// @notice Seconds after which an undecided challenge can be ended by anybody.
    uint64 public decisionPeriodSeconds;
    /// @notice Wei of OPEN that an account can withdraw, or put behind outputs and challenges.
    mapping(address account => uint256) public freeBond;
    /// @notice Wei of OPEN that losers lost and nobody gets.
    uint256 public forfeited;
    /// @notice Outputs below this index have given their bonds back.
    uint256 public releasedOutputs;
    /// @notice How many challenges are open.
    uint256 public openChallenges;
    /// @dev The lowest challenged index, while any challenge is open.
    uint256 private firstChallenged;
    /// @dev Of deleted outputs old values stay; `proposeL2Output` writes over them.
    mapping(uint256 index => Bond) private bonds;
    mapping(uint256 index => Challenge) private challenges;

    event OutputProposed(
        bytes32 indexed outputRoot, uint256 indexed l2OutputIndex, uint256 indexed l2BlockNumber, uint256 l1Timestamp
    );
    event OutputsDeleted(uint256 indexed prevNextOutputIndex, uint256 indexed newNextOutputIndex);
    event BondDeposited(address indexed account, uint256 amount);
    event BondWithdrawn(address indexed account, uint256 amount);
    event OutputChallenged(
        uint256 indexed l2OutputIndex, bytes32 indexed outputRoot, address indexed challenger, uint256 bond
    );
    event ChallengeDecided(
        uint256 indexed l2OutputIndex, address indexed challenger, bool outputIsRight, uint256 reward, uint256 forfeited
    );
    /// @notice A challenge ended without a decision: nobody decided in time, or an earlier output was deleted.
    event ChallengeDropped(uint256 indexed l2OutputIndex, address indexed challenger);

    error NotProposer(address caller);
    error NotChallenger(address caller);
    error UnexpectedBlock(uint256 l2BlockNumber, uint256 expected);
    error BlockInFuture(uint256 l2BlockNumber);
    error ZeroOutputRoot();
    error UnexpectedL1Block(uint256 l1BlockNumber);
    error TooManyOpenOutputs(uint256 maximum);
    error UnknownOutput(uint256 l2OutputIndex);
    error OutputFinal(uint256 l2OutputIndex);
    /// @notice Another root stands at this index than the caller thinks.
    error OutputChanged(uint256 l2OutputIndex, bytes32 outputRoot);
    error AlreadyChallenged(uint256 l2OutputIndex, address challenger);
    error NotChallenged(uint256 l2OutputIndex);
    /// @notice A challenged output is decided, not deleted.
    error ChallengeOpen(uint256 l2OutputIndex);
    error DecisionPending(uint256 l2OutputIndex, uint256 until);
    /// @notice The account has neither enough free bond nor allowed the oracle to take what is missing.
    error BondMissing(address account, uint256 free, uint256 needed);
    /// @notice More than the account's free bond, of which what stands behind open outputs and challenges is no part.
    error BondLocked(address account, uint256 free, uint256 asked);
    error BondIsInOpen();
    error TokenKeptPart(uint256 received, uint256 expected);
    error InvalidTerms();

    constructor() {
        _disableInitializers();
    }

    function initialize(
        uint256 submissionInterval_,
        uint256 l2BlockTime_,
        uint256 startingBlockNumber_,
        uint256 startingTimestamp_,
        address proposer_,
        address challenger_,
        uint256 finalizationPeriodSeconds_,
        BondTerms calldata terms
    ) external initializer {
        if (
            submissionInterval_ == 0 || l2BlockTime_ == 0 || startingTimestamp_ > block.timestamp
                || address(terms.bondToken) == address(0) || terms.proposerBond == 0 || terms.challengerBond == 0
        ) revert InvalidTerms();
        submissionInterval = submissionInterval_;
        l2BlockTime = l2BlockTime_;
        startingBlockNumber = startingBlockNumber_;
        startingTimestamp = startingTimestamp_;
        proposer = proposer_;
        challenger = challenger_;
        finalizationPeriodSeconds = finalizationPeriodSeconds_;
        bondToken = terms.bondToken;
        proposerBond = terms.proposerBond;
        challengerBond = terms.challengerBond;
        decisionPeriodSeconds = terms.decisionPeriodSeconds;
        // An upgraded oracle holds outputs that no bond stands behind.
        releasedOutputs = l2Outputs.length;
    }

    // --- outputs ---

    /// @notice Put an output root on L1, with `proposerBond` behind it: from the proposer's free bond, and what is
    ///         missing there by its allowance. A zero `l1BlockHash` is not compared.
    function proposeL2Output(bytes32 outputRoot, uint256 l2BlockNumber, bytes32 l1BlockHash, uint256 l1BlockNumber)
        external
        payable
        nonReentrant
    {
        if (msg.sender != proposer) revert NotProposer(msg.sender);
        if (msg.value != 0) revert BondIsInOpen();
        uint256 index = l2Outputs.length;
        if (l2BlockNumber != nextBlockNumber()) revert UnexpectedBlock(l2BlockNumber, nextBlockNumber());
        if (computeL2Timestamp(l2BlockNumber) >= block.timestamp) revert BlockInFuture(l2BlockNumber);
        if (outputRoot == 0) revert ZeroOutputRoot();
        if (l1BlockHash != 0 && blockhash(l1BlockNumber) != l1BlockHash) revert UnexpectedL1Block(l1BlockNumber);
        _release(2); // more than one comes in, so that those waiting become fewer
        if (index - releasedOutputs >= MAX_OPEN_OUTPUTS) revert TooManyOpenOutputs(MAX_OPEN_OUTPUTS);
        uint96 amount = proposerBond;
        _lock(amount);
        bonds[index] = Bond(msg.sender, amount);
        l2Outputs.push(OutputProposal(outputRoot, uint128(block.timestamp), uint128(l2BlockNumber)));
        emit OutputProposed(outputRoot, index, l2BlockNumber, block.timestamp);
    }

    /// @notice Delete an output that is not final, and all after it; their bonds go back. Refused while one of them is
    ///         challenged: then it must be decided who loses.
    function deleteL2Outputs(uint256 index) external nonReentrant {
        if (msg.sender != challenger) revert NotChallenger(msg.sender);
        _requireOpen(index);
        if (openChallenges != 0) {
            for (uint256 each = index; each < l2Outputs.length; ++each) {
                if (challenges[each].challenger != address(0)) revert ChallengeOpen(each);
            }
        }
        _truncate(index);
    }

    // --- challenges ---

    /// @notice Freeze an output and all after it until it is decided, with `challengerBond` from the caller's free bond
    ///         and by its allowance. `outputRoot` names what is held to be wrong.
    function challengeL2Output(uint256 index, bytes32 outputRoot) external nonReentrant {
        _requireOutput(index, outputRoot);
        if (challenges[index].challenger != address(0)) {
            revert AlreadyChallenged(index, challenges[index].challenger);
        }
        // Measured from the proposal also while it is frozen by another challenge.
        if (block.timestamp - l2Outputs[index].timestamp >= finalizationPeriodSeconds) revert OutputFinal(index);
        uint96 amount = challengerBond;
        _lock(amount);
        challenges[index] = Challenge(msg.sender, amount, uint64(block.timestamp));
        if (openChallenges == 0 || index < firstChallenged) firstChallenged = index;
        ++openChallenges;
        emit OutputChallenged(index, outputRoot, msg.sender, amount);
    }

    /// @notice Say whether a challenged output is right. A wrong one is deleted with all after it and costs its
    ///         proposer the bond; a right one costs the challenger his, and may be challenged again.
    function decideChallenge(uint256 index, bytes32 outputRoot, bool outputIsRight) external nonReentrant {
        if (msg.sender != challenger) revert NotChallenger(msg.sender);
        _requireOutput(index, outputRoot);
        Challenge memory challenge = _requireChallenge(index);
        Bond memory bond = bonds[index];
        uint256 lost = outputIsRight ? challenge.bond : bond.amount;
        uint256 reward = lost / 2;
        forfeited += lost - reward;
        emit ChallengeDecided(index, challenge.challenger, outputIsRight, reward, lost - reward);
        if (outputIsRight) {
            freeBond[bond.account] += reward;
            _close(index);
        } else {
            freeBond[challenge.challenger] += challenge.bond + reward;
            bonds[index].amount = 0;
            _close(index);
            _truncate(index);
        }
    }

    /// @notice End a challenge that was not decided in time: the output and all after it are deleted, and everybody
    ///         gets his bond back.
    function expireChallenge(uint256 index) external nonReentrant {
        Challenge memory challenge = _requireChallenge(index);
        uint256 until = uint256(challenge.openedAt) + decisionPeriodSeconds;
        if (block.timestamp <= until) revert DecisionPending(index, until);
        _truncate(index);
    }

    // --- bonds ---

    /// @notice Add to the caller's free bond, by its allowance of OPEN.
    function depositBond(uint256 amount) external nonReentrant {
        freeBond[msg.sender] += amount;
        _pull(amount);
    }

    /// @notice Pay out of the caller's free bond, what final outputs have set free included.
    function withdrawBond(uint256 amount) external nonReentrant {
        _release(MAX_OPEN_OUTPUTS);
        uint256 free = freeBond[msg.sender];
        if (amount > free) revert BondLocked(msg.sender, free, amount);
        freeBond[msg.sender] = free - amount;
        emit BondWithdrawn(msg.sender, amount);
        bondToken.safeTransfer(msg.sender, amount);
    }

    /// @notice Wei of OPEN that an account could withdraw now, and that stand behind outputs and challenges.
    function bondOf(address account) external view returns (uint256 free, uint256 locked) {
        free = freeBond[account];
        uint256 frozen = frozenFrom();
        for (uint256 index = releasedOutputs; index < l2Outputs.length; ++index) {
            Bond storage bond = bonds[index];
            if (bond.account == account) {
                if (index < frozen && _periodIsOver(index)) free += bond.amount;
                else locked += bond.amount;
            }
            Challenge storage challenge = challenges[index];
            if (challenge.challenger == account) locked += challenge.bond;
        }
    }

    // --- what the portal and the OP-Stack's tools read ---

    /// @notice An output. While it is frozen its timestamp is the present one.
    function getL2Output(uint256 index) public view returns (OutputProposal memory output) {
        if (index >= l2Outputs.length) revert UnknownOutput(index);
        output = l2Outputs[index];
        if (index >= frozenFrom()) output.timestamp = uint128(block.timestamp);
    }

    /// @notice The first output that commits to an L2 block.
    function getL2OutputAfter(uint256 l2BlockNumber) external view returns (OutputProposal memory) {
        return getL2Output(getL2OutputIndexAfter(l2BlockNumber));
    }

    /// @notice The index of the first output that commits to an L2 block. Where there is none it reverts in the words
    /// of the OP-Stack's oracle, by which wallets know that a withdrawal cannot be proved yet.
    function getL2OutputIndexAfter(uint256 l2BlockNumber) public view returns (uint256 index) {
        uint256 end = l2Outputs.length;
        if (end == 0 || l2BlockNumber > latestBlockNumber()) {
            revert("L2OutputOracle: cannot get output for a block that has not been proposed");
        }
        while (index < end) {
            uint256 middle = (index + end) / 2;
            if (l2Outputs[middle].l2BlockNumber < l2BlockNumber) index = middle + 1;
            else end = middle;
        }
    }

    /// @notice The lowest frozen index; the largest number while none is.
    function frozenFrom() public view returns (uint256) {
        return openChallenges == 0 ? type(uint256).max : firstChallenged;
    }

    /// @notice The open challenge of an output; all zero for none.
    function challengeOf(uint256 index) external view returns (Challenge memory) {
        return challenges[index];
    }

    /// @notice Reverts while there is none.
    function latestOutputIndex() external view returns (uint256) {
        return l2Outputs.length - 1;
    }

    function nextOutputIndex() external view returns (uint256) {
        return l2Outputs.length;
    }

    function latestBlockNumber() public view returns (uint256) {
        uint256 count = l2Outputs.length;
        return count == 0 ? startingBlockNumber : l2Outputs[count - 1].l2BlockNumber;
    }

    function nextBlockNumber() public view returns (uint256) {
        return latestBlockNumber() + submissionInterval;
    }

    function computeL2Timestamp(uint256 l2BlockNumber) public view returns (uint256) {
        return startingTimestamp + (l2BlockNumber - startingBlockNumber) * l2BlockTime;
    }

    function SUBMISSION_INTERVAL() external view returns (uint256) {
        return submissionInterval;
    }

    function L2_BLOCK_TIME() external view returns (uint256) {
        return l2BlockTime;
    }

    function CHALLENGER() external view returns (address) {
        return challenger;
    }

    function PROPOSER() external view returns (address) {
        return proposer;
    }

    function FINALIZATION_PERIOD_SECONDS() external view returns (uint256) {
        return finalizationPeriodSeconds;
    }

    // --- inside ---

    /// @dev As the portal counts, for an output that is not frozen.
    function _periodIsOver(uint256 index) private view returns (bool) {
        return block.timestamp > l2Outputs[index].timestamp + finalizationPeriodSeconds;
    }

    function _requireOutput(uint256 index, bytes32 outputRoot) private view {
        if (index >= l2Outputs.length) revert UnknownOutput(index);
        bytes32 found = l2Outputs[index].outputRoot;
        if (found != outputRoot) revert OutputChanged(index, found);
    }

    function _requireOpen(uint256 index) private view {
        if (index >= l2Outputs.length) revert UnknownOutput(index);
        bool frozen = index >= frozenFrom();
        if (!frozen && block.timestamp - l2Outputs[index].timestamp >= finalizationPeriodSeconds) {
            revert OutputFinal(index);
        }
    }

    function _requireChallenge(uint256 index) private view returns (Challenge memory challenge) {
        challenge = challenges[index];
        if (challenge.challenger == address(0)) revert NotChallenged(index);
    }

    /// @dev Give back the bonds of up to `limit` outputs that have become final; finality comes in order of index.
    function _release(uint256 limit) private {
        uint256 index = releasedOutputs;
        uint256 count = l2Outputs.length;
        uint256 end = frozenFrom() < count ? frozenFrom() : count;
        if (index + limit < end) end = index + limit;
        for (; index < end && _periodIsOver(index); ++index) {
            freeBond[bonds[index].account] += bonds[index].amount;
        }
        releasedOutputs = index;
    }

    /// @dev End a challenge; what becomes of its bond is the caller's business.
    function _close(uint256 index) private {
        delete challenges[index];
        if (--openChallenges == 0 || index != firstChallenged) return;
        do ++index;
        while (challenges[index].challenger == address(0));
        firstChallenged = index;
    }

    /// @dev Delete outputs from `index` on. Bonds behind them and open challenges' bonds go back.
    function _truncate(uint256 index) private {
        uint256 count = l2Outputs.length;
        for (uint256 each = index; each < count; ++each) {
            freeBond[bonds[each].account] += bonds[each].amount;
            if (openChallenges == 0) continue;
            Challenge memory challenge = challenges[each];
            if (challenge.challenger == address(0)) continue;
            freeBond[challenge.challenger] += challenge.bond;
            delete challenges[each];
            --openChallenges;
            emit ChallengeDropped(each, challenge.challenger);
        }
        if (index < releasedOutputs) releasedOutputs = index;
        // Solidity has no way to make an array shorter at once; what stays behind is written over or never read.
        assembly ("memory-safe") {
            sstore(l2Outputs.slot, index)
        }
        emit OutputsDeleted(count, index);
    }

    /// @dev Take from the caller's free bond, and what is missing there by its allowance.
    function _lock(uint256 amount) private {
        uint256 free = freeBond[msg.sender];
        if (free >= amount) {
            freeBond[msg.sender] = free - amount;
            return;
        }
        IERC20 token = bondToken;
        if (
            token.allowance(msg.sender, address(this)) < amount - free || token.balanceOf(msg.sender) < amount - free
        ) revert BondMissing(msg.sender, free, amount);
        freeBond[msg.sender] = 0;
        _pull(amount - free);
    }

    function _pull(uint256 amount) private {
        IERC20 token = bondToken;
        uint256 before = token.balanceOf(address(this));
        emit BondDeposited(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert TokenKeptPart(received, amount);
    }
}
