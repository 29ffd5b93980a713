// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BASIS_POINTS, DATANET_REGISTRY} from "Economy.sol";

interface ICorpora {
    struct Corpus {
        bytes32 corpusRoot;
        bytes32 retrievalRoot;
        bytes32 informationRoot;
        uint64 tokens;
        uint64 blockNumber;
    }

    function getCorpus(uint32 datanet, uint32 version, bytes32 tokenizerHash) external view returns (Corpus memory);
}

/// @title ModelRegistry
/// @notice Releases: what answers, at which price, and how a fee is divided.
/// @dev CREDIT reads owner, trainer, split and Datanets: the layout of `Release` is consensus. Prices are pinned by
///      the L2 block that a receipt names.
contract ModelRegistry {
    enum Status {
        None,
        Active,
        Deprecated
    }

    /// @dev Slot 0 from the right: owner, five shares u16, status u8. Slot 1: trainer, number of Datanets u8, block u64.
    struct Release {
        address owner;
        uint16 ownerBps;
        uint16 trainerBps;
        uint16 stakersBps;
        uint16 providerBps;
        uint16 contributorsBps;
        Status status;
        address trainer;
        uint8 datanetCount;
        uint64 blockNumber;
        uint64 priceIn;
        uint64 priceOut;
        bytes32 releaseHash;
        bytes32 manifestHash;
        bytes32 adapterHash;
        bytes32 tokenizerHash;
        bytes32 trainingRecord;
        DatanetShare[] datanets;
        string name;
    }

    /// @dev One to a slot; from the right: datanet u32, version u32, tokens u64.
    struct DatanetShare {
        uint32 datanet;
        uint32 version;
        uint64 tokens;
    }

    struct DatanetPin {
        uint32 datanet;
        uint32 version;
    }

    /// @notice What is registered. Prices in micro-OPEN per 1,000 tokens; shares in basis points of what the
    ///         platform leaves: owner, trainer, stakers, provider, contributors, sum 10,000.
    struct Registration {
        bytes32 releaseHash;
        bytes32 manifestHash;
        bytes32 adapterHash;
        bytes32 tokenizerHash;
        bytes32 trainingRecord;
        address trainer;
        uint64 priceIn;
        uint64 priceOut;
        uint16[5] split;
        DatanetPin[] datanets;
        string name;
    }

    uint256 private constant MAX_DATANETS = 16;
    uint256 private constant MAX_NAME_BYTES = 128;

    /// @dev Slot 0.
    mapping(uint32 release => Release) private _releases;
    uint32 public releaseCount;
    mapping(bytes32 releaseHash => uint32) public releaseOf;

    event ReleaseRegistered(
        uint32 indexed release,
        bytes32 indexed releaseHash,
        address indexed owner,
        address trainer,
        bytes32 manifestHash,
        bytes32 adapterHash,
        bytes32 trainingRecord,
        string name
    );
    event PriceChanged(uint32 indexed release, uint64 priceIn, uint64 priceOut);
    event ReleaseDeprecated(uint32 indexed release);

    error InvalidName(uint256 length);
    error ZeroHash();
    error ZeroAddress();
    error ReleaseExists(uint32 release);
    error UnknownRelease(uint32 release);
    error NotOwner(uint32 release, address caller);
    error AlreadyDeprecated(uint32 release);
    error InvalidSplit(uint256 sum);
    error InvalidDatanets(uint256 count);
    error DatanetsNotAscending(uint32 datanet);
    error CorpusMissing(uint32 datanet, uint32 version, bytes32 tokenizerHash);

    /// @notice Registers a release owned by the caller. Its Datanets' corpora under its tokenizer must be set:
    ///         their token counts divide what no contribution earned.
    function register(Registration calldata what) external returns (uint32 release) {
        if (bytes(what.name).length == 0 || bytes(what.name).length > MAX_NAME_BYTES) {
            revert InvalidName(bytes(what.name).length);
        }
        if (what.releaseHash == 0 || what.manifestHash == 0) revert ZeroHash();
        if (what.trainer == address(0)) revert ZeroAddress();
        if (releaseOf[what.releaseHash] != 0) revert ReleaseExists(releaseOf[what.releaseHash]);
        uint256 sum = 0;
        for (uint256 i = 0; i < 5; ++i) {
            sum += what.split[i];
        }
        if (sum != BASIS_POINTS) revert InvalidSplit(sum);
        uint256 count = what.datanets.length;
        if (count > MAX_DATANETS || (count == 0 && what.split[4] != 0)) revert InvalidDatanets(count);

        release = ++releaseCount;
        releaseOf[what.releaseHash] = release;
        Release storage made = _releases[release];
        made.owner = msg.sender;
        made.ownerBps = what.split[0];
        made.trainerBps = what.split[1];
        made.stakersBps = what.split[2];
        made.providerBps = what.split[3];
        made.contributorsBps = what.split[4];
        made.status = Status.Active;
        made.trainer = what.trainer;
        made.datanetCount = uint8(count);
        made.blockNumber = uint64(block.number);
        made.priceIn = what.priceIn;
        made.priceOut = what.priceOut;
        made.releaseHash = what.releaseHash;
        made.manifestHash = what.manifestHash;
        made.adapterHash = what.adapterHash;
        made.tokenizerHash = what.tokenizerHash;
        made.trainingRecord = what.trainingRecord;
        made.name = what.name;
        _pinDatanets(made, what);
        emit ReleaseRegistered(
            release,
            what.releaseHash,
            msg.sender,
            what.trainer,
            what.manifestHash,
            what.adapterHash,
            what.trainingRecord,
            what.name
        );
        emit PriceChanged(release, what.priceIn, what.priceOut);
    }

    /// @notice Changes a release's prices from this block on.
    function setPrice(uint32 release, uint64 priceIn, uint64 priceOut) external {
        Release storage changed = _owned(release);
        changed.priceIn = priceIn;
        changed.priceOut = priceOut;
        emit PriceChanged(release, priceIn, priceOut);
    }

    /// @notice Says that a release should no longer be served; answers given before still settle.
    function deprecate(uint32 release) external {
        Release storage changed = _owned(release);
        if (changed.status == Status.Deprecated) revert AlreadyDeprecated(release);
        changed.status = Status.Deprecated;
        emit ReleaseDeprecated(release);
    }

    /// @notice A release's record; reverts for an unknown one.
    function getRelease(uint32 id) external view returns (Release memory shown) {
        shown = _releases[id];
        if (shown.status == Status.None) revert UnknownRelease(id);
    }

    /// @notice A release's prices in micro-OPEN per 1,000 tokens.
    function getPrice(uint32 id) external view returns (uint64 priceIn, uint64 priceOut) {
        Release storage shown = _releases[id];
        if (shown.status == Status.None) revert UnknownRelease(id);
        return (shown.priceIn, shown.priceOut);
    }

    function _pinDatanets(Release storage made, Registration calldata what) private {
        uint32 last = 0;
        for (uint256 i = 0; i < what.datanets.length; ++i) {
            DatanetPin calldata pin = what.datanets[i];
            if (pin.datanet <= last) revert DatanetsNotAscending(pin.datanet);
            last = pin.datanet;
            uint64 tokens =
                ICorpora(DATANET_REGISTRY).getCorpus(pin.datanet, pin.version, what.tokenizerHash).tokens;
            if (tokens == 0) revert CorpusMissing(pin.datanet, pin.version, what.tokenizerHash);
            made.datanets.push(DatanetShare(pin.datanet, pin.version, tokens));
        }
    }

    function _owned(uint32 id) private view returns (Release storage owned) {
        owned = _releases[id];
        if (owned.status == Status.None) revert UnknownRelease(id);
        if (owned.owner != msg.sender) revert NotOwner(id, msg.sender);
    }
}
