// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// What the client tests deploy: state, an event, and every way to fail.
contract Counter {
    uint256 public number;
    address public immutable owner;

    event Increased(address indexed by, uint256 indexed number, string note);

    error TooLarge(uint256 given, uint256 most);

    constructor(uint256 start) {
        number = start;
        owner = msg.sender;
    }

    function increase(uint256 by, string calldata note) external payable returns (uint256) {
        require(by != 0, "nothing to add");
        if (by > 100) revert TooLarge(by, 100);
        number += by;
        emit Increased(msg.sender, number, note);
        return number;
    }

    function divide(uint256 by) external view returns (uint256) {
        return number / by;
    }
}
