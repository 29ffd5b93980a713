// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {MICRO_OPEN, REWARDS_DISTRIBUTOR} from "Economy.sol";

interface IPlatform {
    function platform() external view returns (address);
}

/// @title DatanetRegistry
/// @notice Datanets, the contributions in them, and the versions that commit to them.
/// @dev Ids of Datanets, contributions and contributors are chain-global, begin at 1 and are never reused.
///      CREDIT reads `_contributions` and the treasury in `_datanets`: their layout is consensus.
contract DatanetRegistry is EIP712 {
    using Address for address payable;

    enum Status {
        None,
        Pending,
        Approved,
        Rejected,
        Retired
    }

    struct Datanet {
        address owner;
        uint32 approvals;
        uint32 versions;
        bool isPublic;
        address treasury;
        bytes32 metadataHash;
        string name;
        bytes32[32] branch;
    }

    struct Contribution {
        address contributor;
        uint32 datanet;
        uint32 contributorId;
        Status status;
        uint32 size;
        uint64 commitBlock;
        uint64 revealBlock;
        bytes32 documentHash;
        bytes32 metadataHash;
    }

    /// @notice What a contributor signs; see evm_ext/proofs/datanet.py.
    struct Reveal {
        uint32 datanet;
        address contributor;
        bytes32 documentHash;
        bytes32 metadataHash;
        uint32 size;
        bytes32 salt;
        uint64 deadline;
    }

    struct Commitment {
        address payer;
        uint40 blockNumber;
        uint56 deposit;
    }

    struct Version {
        bytes32 root;
        uint32 count;
        uint64 blockNumber;
    }

    struct Corpus {
        bytes32 corpusRoot;
        bytes32 retrievalRoot;
        bytes32 informationRoot;
        uint64 tokens;
        uint64 blockNumber;
    }

    bytes32 private constant REVEAL_TYPEHASH = keccak256(
        "Contribution(uint32 datanet,address contributor,bytes32 documentHash,bytes32 metadataHash,uint32 size,bytes32 salt,uint64 deadline)"
    );
    uint256 private constant TREE_HEIGHT = 32;
    uint256 private constant MAX_NAME_BYTES = 64;

    /// @dev Slot 2 (the first two are EIP712's).
    mapping(uint32 contribution => Contribution) private _contributions;
    /// @dev Slot 3.
    mapping(uint32 datanet => Datanet) private _datanets;
    uint32 public datanetCount;
    uint32 public contributionCount;
    uint32 public contributorCount;
    /// @notice Least number of blocks between a commitment and its reveal.
    uint32 public revealMinBlocks;
    /// @notice Most blocks between a commitment and its reveal.
    uint32 public revealMaxBlocks;
    /// @notice Most bytes of a document.
    uint32 public maxDocumentBytes;
    /// @notice Refundable deposit of a commitment, in micro-OPEN.
    uint56 public commitDeposit;

    mapping(address contributor => uint32) public contributorIds;
    mapping(uint32 contributorId => address) public contributors;
    mapping(bytes32 commitment => Commitment) public commitments;
    /// @notice Deposits in wei that their payers can take back.
    mapping(address payer => uint256) public refunds;
    mapping(uint32 datanet => mapping(bytes32 documentHash => uint32)) public contributionOf;
    mapping(uint32 datanet => mapping(uint32 version => Version)) private _versions;
    mapping(uint32 datanet => mapping(uint32 version => mapping(bytes32 tokenizerHash => Corpus))) private _corpora;

    event DatanetCreated(
        uint32 indexed datanet, address indexed owner, address treasury, string name, bytes32 metadataHash, bool isPublic
    );
    event TreasuryChanged(uint32 indexed datanet, address treasury);
    event Committed(uint32 indexed datanet, bytes32 indexed commitment, address indexed payer);
    event CommitmentForfeited(bytes32 indexed commitment, uint256 deposit);
    event Contributed(
        uint32 indexed datanet,
        uint32 indexed contribution,
        address indexed contributor,
        uint32 contributorId,
        bytes32 documentHash,
        bytes32 metadataHash,
        uint32 size,
        uint64 commitBlock
    );
    event Approved(uint32 indexed datanet, uint32 indexed contribution, uint32 index, bytes32 leaf);
    event Rejected(uint32 indexed datanet, uint32 indexed contribution, string reason);
    event Retired(uint32 indexed datanet, uint32 indexed contribution, string reason);
    event VersionPublished(uint32 indexed datanet, uint32 indexed version, bytes32 root, uint32 count);
    event CorpusSet(
        uint32 indexed datanet,
        uint32 indexed version,
        bytes32 indexed tokenizerHash,
        bytes32 corpusRoot,
        bytes32 retrievalRoot,
        bytes32 informationRoot,
        uint64 tokens
    );
    event Announced(bytes32 indexed contentHash, uint32 indexed contribution, address indexed announcer, bytes daCommitment);

    error InvalidName(uint256 length);
    error ZeroAddress();
    error UnknownDatanet(uint32 datanet);
    error UnknownContribution(uint32 contribution);
    error UnknownVersion(uint32 datanet, uint32 version);
    error NotOwner(uint32 datanet, address caller);
    error WrongDeposit(uint256 sent, uint256 required);
    error CommitmentExists(bytes32 commitment);
    error UnknownCommitment(bytes32 commitment);
    error RevealTooEarly(uint256 firstBlock);
    error RevealTooLate(uint256 lastBlock);
    error DeadlinePassed(uint64 deadline);
    error InvalidSize(uint32 size, uint32 limit);
    error InvalidSignature(address contributor);
    error DuplicateDocument(uint32 contribution);
    error WrongStatus(uint32 contribution, Status status);
    error NothingApproved(uint32 datanet);
    error CorpusAlreadySet(uint32 datanet, uint32 version, bytes32 tokenizerHash);
    error EmptyCorpus();
    error NothingToRefund(address payer);

    constructor() EIP712("Openledger", "1") {}

    /// @notice Creates a Datanet owned by the caller.
    /// @param name 1 to 64 bytes
    /// @param metadataHash content hash of its description
    /// @param treasury who gets what retired contributions and unattributed answers earn; 0: the caller
    /// @param isPublic whether anyone may read its documents
    function create(string calldata name, bytes32 metadataHash, address treasury, bool isPublic)
        external
        returns (uint32 datanet)
    {
        uint256 length = bytes(name).length;
        if (length == 0 || length > MAX_NAME_BYTES) revert InvalidName(length);
        if (treasury == address(0)) treasury = msg.sender;
        datanet = ++datanetCount;
        Datanet storage created = _datanets[datanet];
        created.owner = msg.sender;
        created.treasury = treasury;
        created.isPublic = isPublic;
        created.metadataHash = metadataHash;
        created.name = name;
        emit DatanetCreated(datanet, msg.sender, treasury, name, metadataHash, isPublic);
    }

    /// @notice Changes who the Datanet's treasury is.
    function setTreasury(uint32 datanet, address treasury) external {
        Datanet storage changed = _owned(datanet);
        if (treasury == address(0)) revert ZeroAddress();
        changed.treasury = treasury;
        emit TreasuryChanged(datanet, treasury);
    }

    /// @notice Commits to a contribution without showing it; its block decides who was first.
    /// @dev Anyone may pay for it: the author is bound inside. Value: `commitDeposit` micro-OPEN exactly.
    /// @param commitment keccak256(abi.encode(chainId, datanet, contributor, documentHash, salt))
    function commit(uint32 datanet, bytes32 commitment) external payable {
        if (_datanets[datanet].owner == address(0)) revert UnknownDatanet(datanet);
        uint256 required = uint256(commitDeposit) * MICRO_OPEN;
        if (msg.value != required) revert WrongDeposit(msg.value, required);
        if (commitments[commitment].payer != address(0)) revert CommitmentExists(commitment);
        commitments[commitment] = Commitment(msg.sender, uint40(block.number), commitDeposit);
        emit Committed(datanet, commitment, msg.sender);
    }

    /// @notice Shows what was committed to; anyone may submit what the contributor signed.
    /// @param signature the contributor's over the EIP-712 struct `Contribution`, or what its ERC-1271 contract accepts
    /// @return contribution the new id; it is pending until the Datanet's owner decides
    function reveal(Reveal calldata what, bytes calldata signature) external returns (uint32 contribution) {
        if (_datanets[what.datanet].owner == address(0)) revert UnknownDatanet(what.datanet);
        if (block.timestamp > what.deadline) revert DeadlinePassed(what.deadline);
        if (what.size == 0 || what.size > maxDocumentBytes) revert InvalidSize(what.size, maxDocumentBytes);
        if (what.contributor == address(0)) revert ZeroAddress();
        uint64 commitBlock = _redeem(what);
        bytes32 structHash = keccak256(
            abi.encode(
                REVEAL_TYPEHASH,
                what.datanet,
                what.contributor,
                what.documentHash,
                what.metadataHash,
                what.size,
                what.salt,
                what.deadline
            )
        );
        if (!SignatureChecker.isValidSignatureNowCalldata(what.contributor, _hashTypedDataV4(structHash), signature)) {
            revert InvalidSignature(what.contributor);
        }
        _supersede(what.datanet, what.documentHash, commitBlock);

        uint32 contributorId = contributorIds[what.contributor];
        if (contributorId == 0) {
            contributorId = ++contributorCount;
            contributorIds[what.contributor] = contributorId;
            contributors[contributorId] = what.contributor;
        }
        contribution = ++contributionCount;
        contributionOf[what.datanet][what.documentHash] = contribution;
        _contributions[contribution] = Contribution({
            contributor: what.contributor,
            datanet: what.datanet,
            contributorId: contributorId,
            status: Status.Pending,
            size: what.size,
            commitBlock: commitBlock,
            revealBlock: uint64(block.number),
            documentHash: what.documentHash,
            metadataHash: what.metadataHash
        });
        emit Contributed(
            what.datanet,
            contribution,
            what.contributor,
            contributorId,
            what.documentHash,
            what.metadataHash,
            what.size,
            commitBlock
        );
    }

    /// @notice Gives up a commitment that was not revealed in time: its deposit goes to the platform.
    function forfeit(bytes32 commitment) external {
        Commitment memory made = commitments[commitment];
        if (made.payer == address(0)) revert UnknownCommitment(commitment);
        uint256 open = uint256(made.blockNumber) + revealMaxBlocks + 1;
        if (block.number < open) revert RevealTooEarly(open);
        delete commitments[commitment];
        uint256 deposit = uint256(made.deposit) * MICRO_OPEN;
        refunds[IPlatform(REWARDS_DISTRIBUTOR).platform()] += deposit;
        emit CommitmentForfeited(commitment, deposit);
    }

    /// @notice Sends a payer the deposits of its revealed commitments.
    function withdrawRefund(address payable payer) external {
        uint256 amount = refunds[payer];
        if (amount == 0) revert NothingToRefund(payer);
        refunds[payer] = 0;
        payer.sendValue(amount);
    }

    /// @notice Admits pending contributions to their Datanet's tree, in the given order.
    function approve(uint32 datanet, uint32[] calldata contributions) external {
        Datanet storage into = _owned(datanet);
        for (uint256 i = 0; i < contributions.length; ++i) {
            uint32 id = contributions[i];
            Contribution storage admitted = _contributions[id];
            if (admitted.datanet != datanet) revert UnknownContribution(id);
            if (admitted.status != Status.Pending) revert WrongStatus(id, admitted.status);
            admitted.status = Status.Approved;
            bytes32 leaf = keccak256(abi.encodePacked(bytes1(0x06), id, admitted.contributor, admitted.documentHash));
            uint32 index = _append(into, leaf);
            emit Approved(datanet, id, index, leaf);
        }
    }

    /// @notice Turns a pending contribution down.
    function reject(uint32 contribution, string calldata reason) external {
        Contribution storage rejected = _contributions[contribution];
        if (rejected.status == Status.None) revert UnknownContribution(contribution);
        _owned(rejected.datanet);
        if (rejected.status != Status.Pending) revert WrongStatus(contribution, rejected.status);
        rejected.status = Status.Rejected;
        emit Rejected(rejected.datanet, contribution, reason);
    }

    /// @notice Ends an approved contribution's pay; what it still earns goes to the Datanet's treasury.
    /// @dev By the Datanet's owner or by the contributor.
    function retire(uint32 contribution, string calldata reason) external {
        Contribution storage retired = _contributions[contribution];
        if (retired.status == Status.None) revert UnknownContribution(contribution);
        if (msg.sender != retired.contributor) _owned(retired.datanet);
        if (retired.status != Status.Approved) revert WrongStatus(contribution, retired.status);
        retired.status = Status.Retired;
        emit Retired(retired.datanet, contribution, reason);
    }

    /// @notice Fixes the approved contributions of now as the next version; the root is computed here.
    /// @return version counted from 1 in each Datanet
    /// @return root keccak256(0x07 | datanet u32 | version u32 | count u32 | tree root)
    function publishVersion(uint32 datanet) external returns (uint32 version, bytes32 root) {
        Datanet storage published = _owned(datanet);
        uint32 count = published.approvals;
        if (count == 0) revert NothingApproved(datanet);
        version = ++published.versions;
        root = keccak256(abi.encodePacked(bytes1(0x07), datanet, version, count, _treeRoot(published, count)));
        _versions[datanet][version] = Version(root, count, uint64(block.number));
        emit VersionPublished(datanet, version, root, count);
    }

    /// @notice Commits to a version's tokens and vectors under one tokenizer, once.
    /// @dev The owner attests it; anyone can recompute it from the version's documents.
    function setCorpus(
        uint32 datanet,
        uint32 version,
        bytes32 tokenizerHash,
        bytes32 corpusRoot,
        bytes32 retrievalRoot,
        bytes32 informationRoot,
        uint64 tokens
    ) external {
        _owned(datanet);
        if (_versions[datanet][version].root == 0) revert UnknownVersion(datanet, version);
        if (corpusRoot == 0 || tokens == 0) revert EmptyCorpus();
        Corpus storage corpus_ = _corpora[datanet][version][tokenizerHash];
        if (corpus_.corpusRoot != 0) revert CorpusAlreadySet(datanet, version, tokenizerHash);
        corpus_.corpusRoot = corpusRoot;
        corpus_.retrievalRoot = retrievalRoot;
        corpus_.informationRoot = informationRoot;
        corpus_.tokens = tokens;
        corpus_.blockNumber = uint64(block.number);
        emit CorpusSet(datanet, version, tokenizerHash, corpusRoot, retrievalRoot, informationRoot, tokens);
    }

    /// @notice Says where a contribution's document was published on the DA layer.
    function announce(uint32 contribution, bytes calldata daCommitment) external {
        Contribution storage announced = _contributions[contribution];
        if (announced.status == Status.None) revert UnknownContribution(contribution);
        emit Announced(announced.documentHash, contribution, msg.sender, daCommitment);
    }

    /// @notice Says where other content (an adapter, a receipt's body) was published on the DA layer.
    function announceContent(bytes32 contentHash, bytes calldata daCommitment) external {
        emit Announced(contentHash, 0, msg.sender, daCommitment);
    }

    /// @notice A contribution's record; status None when there is none.
    function getContribution(uint32 id) external view returns (Contribution memory) {
        return _contributions[id];
    }

    /// @notice A Datanet's record, without its tree.
    function getDatanet(uint32 id)
        external
        view
        returns (
            address owner,
            address treasury,
            string memory name,
            bytes32 metadataHash,
            bool isPublic,
            uint32 approvals,
            uint32 versions
        )
    {
        Datanet storage shown = _datanets[id];
        if (shown.owner == address(0)) revert UnknownDatanet(id);
        return (
            shown.owner,
            shown.treasury,
            shown.name,
            shown.metadataHash,
            shown.isPublic,
            shown.approvals,
            shown.versions
        );
    }

    /// @notice A published version; reverts for an unknown one.
    function getVersion(uint32 datanet, uint32 version) external view returns (Version memory published) {
        published = _versions[datanet][version];
        if (published.root == 0) revert UnknownVersion(datanet, version);
    }

    /// @notice A version's corpus under a tokenizer; all zero when it was not set.
    function getCorpus(uint32 datanet, uint32 version, bytes32 tokenizerHash) external view returns (Corpus memory) {
        return _corpora[datanet][version][tokenizerHash];
    }

    /// @notice The EIP-712 domain separator of what contributors sign.
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function _owned(uint32 id) private view returns (Datanet storage owned) {
        owned = _datanets[id];
        if (owned.owner == address(0)) revert UnknownDatanet(id);
        if (owned.owner != msg.sender) revert NotOwner(id, msg.sender);
    }

    /// @dev Uses a commitment up; the payer's deposit can be taken back. Returns its block.
    function _redeem(Reveal calldata what) private returns (uint64 commitBlock) {
        bytes32 commitment =
            keccak256(abi.encode(block.chainid, what.datanet, what.contributor, what.documentHash, what.salt));
        Commitment memory made = commitments[commitment];
        if (made.payer == address(0)) revert UnknownCommitment(commitment);
        commitBlock = made.blockNumber;
        if (block.number < commitBlock + revealMinBlocks) revert RevealTooEarly(commitBlock + revealMinBlocks);
        if (block.number > commitBlock + revealMaxBlocks) revert RevealTooLate(commitBlock + revealMaxBlocks);
        delete commitments[commitment];
        if (made.deposit != 0) refunds[made.payer] += uint256(made.deposit) * MICRO_OPEN;
    }

    /// @dev A document belongs to who committed first: a later commitment's contribution gives way to an earlier one's.
    function _supersede(uint32 id, bytes32 documentHash, uint64 commitBlock) private {
        uint32 earlier = contributionOf[id][documentHash];
        if (earlier == 0) return;
        Contribution storage other = _contributions[earlier];
        if (other.status == Status.Rejected) return;
        if (other.commitBlock <= commitBlock) revert DuplicateDocument(earlier);
        if (other.status == Status.Approved) {
            other.status = Status.Retired;
            emit Retired(id, earlier, "committed earlier by another");
        } else if (other.status == Status.Pending) {
            other.status = Status.Rejected;
            emit Rejected(id, earlier, "committed earlier by another");
        }
    }

    /// @dev The deposit contract's incremental tree: `branch[h]` is the last left node of height h still alone.
    function _append(Datanet storage into, bytes32 leaf) private returns (uint32 index) {
        index = into.approvals;
        uint256 size = uint256(index) + 1;
        into.approvals = uint32(size);
        for (uint256 height = 0; height < TREE_HEIGHT; ++height) {
            if (size & 1 == 1) {
                into.branch[height] = leaf;
                return index;
            }
            leaf = _node(into.branch[height], leaf);
            size >>= 1;
        }
    }

    function _treeRoot(Datanet storage of_, uint256 size) private view returns (bytes32 root) {
        bytes32 zero;
        for (uint256 height = 0; height < TREE_HEIGHT; ++height) {
            root = size & 1 == 1 ? _node(of_.branch[height], root) : _node(root, zero);
            zero = _node(zero, zero);
            size >>= 1;
        }
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }
}
