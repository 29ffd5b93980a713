// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// OpenZeppelin's token with EIP-2612 permits, and nothing else.
contract PermitToken is ERC20Permit {
    constructor(uint256 supply) ERC20("Permit Token", "PERMIT") ERC20Permit("Permit Token") {
        _mint(msg.sender, supply);
    }
}
