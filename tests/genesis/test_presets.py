import subprocess
import sys
from dataclasses import replace

import pytest
from eth_account import Account

from openledger.genesis import dev_accounts
from openledger.genesis.alloc import NoEmbeddedL1
from openledger.genesis.parameters import EconomyParameters, ForkSchedule, Split
from openledger.genesis.preset import DevelopmentKeyRefused, Roles, RolesMissing
from openledger.genesis.presets import (
    DEV_L1_CONTRACTS,
    DEVNET,
    MAINNET,
    TESTNET,
    UnknownPreset,
    l1_genesis,
    l2_genesis,
    preset,
)

OWN_ROLES = Roles(owner=b"\x01" * 20, batcher=b"\x02" * 20, proposer=b"\x03" * 20, unsafe_block_signer=b"\x04" * 20)


def test_the_three_networks_have_their_published_chain_ids():
    assert {p.name: p.l2_chain_id for p in (DEVNET, TESTNET, MAINNET)} == {
        "devnet": 161299,
        "testnet": 161201,
        "mainnet": 1612,
    }
    assert DEVNET.l1_chain_id == 900
    assert preset("testnet") is TESTNET


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(UnknownPreset, match="devnet, testnet, mainnet"):
        preset("localnet")


def test_the_batch_inbox_ends_in_the_chain_id_as_one_reads_it():
    assert DEVNET.batch_inbox.hex() == "ff00000000000000000000000000000000161299"
    assert MAINNET.batch_inbox.hex() == "ff00000000000000000000000000000000001612"


@pytest.mark.parametrize("public", [TESTNET, MAINNET])
def test_a_public_network_has_no_chain_until_its_roles_are_configured(public):
    with pytest.raises(RolesMissing, match="configuration"):
        l2_genesis(public, 1)
    with pytest.raises(RolesMissing, match="l1_contracts"):
        l2_genesis(public.with_roles(OWN_ROLES), 1)
    with pytest.raises(NoEmbeddedL1):
        l1_genesis(public, 1)
    configured = l2_genesis(public.with_roles(OWN_ROLES, DEV_L1_CONTRACTS), 1)
    assert not any(account.address in configured.alloc for account in dev_accounts.DEV_ACCOUNTS)


@pytest.mark.parametrize("public", [TESTNET, MAINNET])
@pytest.mark.parametrize("role", ["owner", "batcher", "proposer", "unsafe_block_signer"])
def test_a_public_network_refuses_development_keys_in_every_role(public, role):
    with pytest.raises(DevelopmentKeyRefused, match=role):
        public.with_roles(replace(OWN_ROLES, **{role: dev_accounts.DEV_ACCOUNTS[3].address}))


def test_a_role_is_a_real_address():
    with pytest.raises(ValueError, match="batcher"):
        replace(OWN_ROLES, batcher=bytes(20))


def test_development_accounts_are_those_of_the_mnemonic():
    Account.enable_unaudited_hdwallet_features()
    for account in dev_accounts.DEV_ACCOUNTS:
        derived = Account.from_mnemonic(
            dev_accounts.DEV_MNEMONIC, account_path=dev_accounts.DERIVATION_PATH.format(index=account.index)
        )
        assert (bytes(derived.key), derived.address) == (
            account.private_key,
            Account.from_key(account.private_key).address,
        )
        assert bytes.fromhex(derived.address[2:]) == account.address


def test_every_development_role_has_an_account_of_its_own():
    roles = (DEVNET.owner, DEVNET.batcher, DEVNET.proposer, DEVNET.unsafe_block_signer, dev_accounts.PROVIDER.address)
    assert len({*roles, *(user.address for user in dev_accounts.USERS)}) == 10


def test_a_claim_on_devnet_takes_about_a_minute():
    economy = DEVNET.economy
    assert 30 <= economy.ripen_epochs * economy.epoch_blocks * DEVNET.l2_block_time_s <= 90


@pytest.mark.parametrize(
    "wrong",
    [
        {"dispute_window_epochs": 3},
        {"withdraw_delay_epochs": 3},
        {"unbonding_epochs": 2},
        {"epoch_blocks": 0},
        {"reveal_max_blocks": 1},
    ],
)
def test_contradicting_periods_are_refused(wrong):
    with pytest.raises(ValueError):
        replace(DEVNET.economy, **wrong)


def test_a_split_must_sum_to_the_whole():
    assert sum(DEVNET.economy.split.parts) == 10_000
    with pytest.raises(ValueError, match="sum"):
        Split(owner_bps=1_501)


def test_a_fork_is_active_from_its_timestamp_on():
    schedule = ForkSchedule(step=100, bn254_kzg=None)
    assert [schedule.active("step", t) for t in (99, 100)] == [False, True]
    assert schedule.active("credit", 0)
    assert not schedule.active("bn254_kzg", 2**63)


def test_economy_parameters_are_plain_values():
    assert EconomyParameters(**vars(DEVNET.economy)) == DEVNET.economy


def test_writing_a_genesis_needs_no_execution_client():
    program = (
        "import sys; from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis;"
        "l1_genesis(DEVNET, 1); l2_genesis(DEVNET, 1);"
        "print([m for m in ('eth', 'torch', 'eth_account', 'web3', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_proposer_needs_bonds_for_all_outputs_that_are_open_at_once():
    assert (DEVNET.open_outputs, MAINNET.open_outputs) == (2, 169)  # 60 s at one a minute; 7 days at one an hour
