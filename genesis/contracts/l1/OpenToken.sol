// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title OpenToken
/// @notice OPEN: one billion, all minted once. Locked in the portal it is the native currency of the L2.
contract OpenToken is ERC20Permit {
    uint256 public constant TOTAL_SUPPLY = 1_000_000_000 ether;

    constructor(address holder) ERC20("Openledger", "OPEN") ERC20Permit("Openledger") {
        _mint(holder, TOTAL_SUPPLY);
    }
}
