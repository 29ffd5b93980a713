// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC7821} from "@openzeppelin/contracts/account/extensions/draft-ERC7821.sol";

/// What an account delegates to (EIP-7702) to make several calls in one transaction (ERC-7821).
contract BatchAccount is ERC7821 {
    receive() external payable {}
}
