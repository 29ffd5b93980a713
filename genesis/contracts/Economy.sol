// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// Where the economy's contracts find each other, and the units they count in.

address constant DATANET_REGISTRY = 0x420000000000000000000000000000000000a000;
address constant INFERENCE_LEDGER = 0x420000000000000000000000000000000000a002;
address constant REWARDS_DISTRIBUTOR = 0x420000000000000000000000000000000000A003;
address constant STAKE_MANAGER = 0x420000000000000000000000000000000000a004;
address constant CREDIT = 0x000000000000000000000000000000000000a700;

// One micro-OPEN in wei: vouchers, fees and credits are counted in micro-OPEN.
uint256 constant MICRO_OPEN = 1e12;
// Shares are in basis points.
uint256 constant BASIS_POINTS = 10_000;
