"""The output oracle's bonds and challenges, attacked on an EVM that is not ours."""

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from eth_abi import encode

from openledger.genesis.artifact import artifact
from openledger.genesis.dev_accounts import OWNER, PROPOSER, USERS
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_OUTPUT_ORACLE, L1_PROXY_ADMIN, implementation_address
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.genesis.storage import EIP1967_ADMIN_SLOT, EIP1967_IMPLEMENTATION_SLOT, array_slot, mapping_slot

TIMESTAMP = 1_700_000_000
GENESIS = l1_genesis(DEVNET, TIMESTAMP)
INTERVAL, PERIOD, DECISION = DEVNET.output_interval_blocks, DEVNET.finalization_period_s, DEVNET.decision_period_s
BOND, STAKE = DEVNET.proposer_bond_wei, DEVNET.challenger_bond_wei
DECIDER, PROPOSING = OWNER.address, PROPOSER.address
ALICE, BOB = USERS[0].address, USERS[1].address
ACTORS = (PROPOSING, ALICE, BOB, DECIDER)
ORACLE = artifact("L2OutputOracle")
INITIALIZE = "initialize(uint256,uint256,uint256,uint256,address,address,uint256,(address,uint96,uint96,uint64))"


def root_of(number: int) -> bytes:
    return keccak256(b"output %d" % number)


def error(name: str, *arguments: Any) -> str:
    """The revert data of a custom error, as it stands in what the EVM says."""
    (entry,) = [e for e in ORACLE.abi if e["type"] == "error" and e["name"] == name]
    types = [i["type"] for i in entry["inputs"]]
    selector = keccak256(f"{name}({','.join(types)})".encode())[:4]
    return (selector + (encode(types, arguments) if arguments else b"")).hex()


@dataclass
class Oracle:
    """The oracle of the development network, with a clock."""

    evm: Any
    now: int = TIMESTAMP + 10_000 * INTERVAL

    def __post_init__(self) -> None:
        self.later(0)
        for actor in ACTORS:
            self.allow(actor, 2**255)

    def later(self, seconds: int) -> None:
        self.now += seconds
        self.evm.set_timestamp(self.now)

    def allow(self, actor: bytes, amount: int) -> None:
        self.evm.call(L1_OPEN_TOKEN, "approve(address,uint256)", L1_OUTPUT_ORACLE, amount, caller=actor)

    def send(self, actor: bytes, signature: str, *arguments: Any, value: int = 0) -> None:
        self.evm.call(L1_OUTPUT_ORACLE, signature, *arguments, caller=actor, value=value)

    def ask(self, signature: str, *arguments: Any, returns: str = "(uint256)") -> Any:
        return self.evm.call(L1_OUTPUT_ORACLE, signature, *arguments, returns=returns)

    def propose(self, count: int = 1, *, actor: bytes = PROPOSING, value: int = 0) -> None:
        for _ in range(count):
            number = self.ask("nextBlockNumber()")
            arguments = (root_of(number), number, bytes(32), 0)
            self.send(actor, "proposeL2Output(bytes32,uint256,bytes32,uint256)", *arguments, value=value)

    def challenge(self, actor: bytes, index: int) -> None:
        self.send(actor, "challengeL2Output(uint256,bytes32)", index, self.root(index))

    def decide(self, index: int, *, right: bool, actor: bytes = DECIDER) -> None:
        self.send(actor, "decideChallenge(uint256,bytes32,bool)", index, self.root(index), right)

    def expire(self, actor: bytes, index: int) -> None:
        self.send(actor, "expireChallenge(uint256)", index)

    def delete(self, index: int, *, actor: bytes = DECIDER) -> None:
        self.send(actor, "deleteL2Outputs(uint256)", index)

    def withdraw(self, actor: bytes, amount: int) -> None:
        self.send(actor, "withdrawBond(uint256)", amount)

    def root(self, index: int) -> bytes:
        return root_of((index + 1) * INTERVAL)

    @property
    def count(self) -> int:
        return self.ask("nextOutputIndex()")

    def output(self, index: int) -> tuple[bytes, int, int]:
        return self.ask("getL2Output(uint256)", index, returns="(bytes32,uint128,uint128)")

    def is_final(self, index: int) -> bool:
        """By what the portal reads."""
        return self.output(index)[1] + PERIOD < self.now

    def bond(self, actor: bytes) -> tuple[int, int]:
        return self.ask("bondOf(address)", actor, returns="(uint256,uint256)")

    def held(self, actor: bytes) -> int:
        return self.evm.call(L1_OPEN_TOKEN, "balanceOf(address)", actor, returns="(uint256)")

    def check_sums(self) -> None:
        """All bonds are there: read from storage, and as every account is told."""
        slot, count = ORACLE.slot, self.count
        free = sum(self.evm.storage(L1_OUTPUT_ORACLE, mapping_slot(slot("freeBond"), actor)) for actor in ACTORS)
        locked = 0
        for index in range(count):
            if index >= self.ask("releasedOutputs()"):
                locked += self.evm.storage(L1_OUTPUT_ORACLE, mapping_slot(slot("bonds"), index)) >> 160
            locked += self.evm.storage(L1_OUTPUT_ORACLE, mapping_slot(slot("challenges"), index)) >> 160
        told = sum(sum(self.bond(actor)) for actor in ACTORS)
        assert told == free + locked
        assert self.held(L1_OUTPUT_ORACLE) == free + locked + self.ask("forfeited()")


@pytest.fixture
def oracle(machine):
    return Oracle(machine(GENESIS.chain_id, GENESIS.alloc))


def test_an_output_costs_its_proposer_a_bond_until_it_is_final(oracle, reverted):
    before = oracle.held(PROPOSING)
    oracle.allow(PROPOSING, BOND - 1)
    with pytest.raises(reverted, match=error("BondMissing", PROPOSING, 0, BOND)):
        oracle.propose()
    oracle.allow(PROPOSING, 10 * BOND)
    with pytest.raises(reverted, match=error("BondIsInOpen")):
        oracle.propose(value=1)
    oracle.propose(2)
    assert (oracle.held(PROPOSING), oracle.bond(PROPOSING)) == (before - 2 * BOND, (0, 2 * BOND))
    for seconds in (0, PERIOD):
        oracle.later(seconds)
        with pytest.raises(reverted, match=error("BondLocked", PROPOSING, 0, 1)):
            oracle.withdraw(PROPOSING, 1)
    oracle.later(1)
    assert oracle.bond(PROPOSING) == (2 * BOND, 0)
    oracle.propose(2)  # from what the first two have set free
    assert oracle.held(PROPOSING) == before - 2 * BOND
    oracle.later(PERIOD + 1)
    oracle.withdraw(PROPOSING, 2 * BOND)
    assert (oracle.held(PROPOSING), oracle.held(L1_OUTPUT_ORACLE)) == (before, 0)


def test_a_deposit_is_enough_without_an_allowance(oracle, reverted):
    oracle.allow(PROPOSING, BOND)
    oracle.send(PROPOSING, "depositBond(uint256)", BOND)
    oracle.propose()
    with pytest.raises(reverted, match=error("BondMissing", PROPOSING, 0, BOND)):
        oracle.propose()
    with pytest.raises(reverted):  # what was not allowed
        oracle.send(PROPOSING, "depositBond(uint256)", 1)


def test_a_wrong_output_pays_who_challenged_it_and_is_deleted_with_what_stands_on_it(oracle):
    oracle.propose(4)
    before = oracle.held(ALICE)
    oracle.challenge(ALICE, 1)
    assert (oracle.held(ALICE), oracle.bond(ALICE)) == (before - STAKE, (0, STAKE))
    oracle.decide(1, right=False)
    assert oracle.count == 1
    assert oracle.bond(ALICE) == (STAKE + BOND // 2, 0)
    assert oracle.bond(PROPOSING) == (2 * BOND, BOND)  # only the output in dispute was judged
    assert oracle.ask("forfeited()") == BOND - BOND // 2
    oracle.withdraw(ALICE, STAKE + BOND // 2)
    assert oracle.held(ALICE) == before + BOND // 2
    oracle.check_sums()
    oracle.propose()
    assert not oracle.is_final(1)


def test_challenging_a_right_output_costs_the_challenger(oracle, reverted):
    oracle.propose(2)
    oracle.challenge(ALICE, 0)
    oracle.decide(0, right=True)
    assert oracle.bond(ALICE) == (0, 0)
    with pytest.raises(reverted, match=error("BondLocked", ALICE, 0, 1)):
        oracle.withdraw(ALICE, 1)
    assert oracle.bond(PROPOSING) == (STAKE // 2, 2 * BOND)
    assert oracle.count == 2
    oracle.challenge(BOB, 0)  # a lost challenge bars no other one
    oracle.decide(0, right=False)
    oracle.check_sums()


def test_who_challenges_himself_loses_half(oracle):
    oracle.allow(PROPOSING, 2**255)
    before = oracle.held(PROPOSING)
    oracle.propose()
    oracle.challenge(PROPOSING, 0)
    oracle.decide(0, right=False)
    oracle.withdraw(PROPOSING, oracle.bond(PROPOSING)[0])
    assert oracle.held(PROPOSING) == before - BOND // 2


def test_an_output_is_challenged_once_at_a_time_and_in_time_and_by_its_root(oracle, reverted):
    oracle.propose(2)
    oracle.challenge(ALICE, 0)
    with pytest.raises(reverted, match=error("AlreadyChallenged", 0, "0x" + ALICE.hex())):
        oracle.challenge(BOB, 0)
    with pytest.raises(reverted, match=error("OutputChanged", 1, oracle.root(1))):
        oracle.send(BOB, "challengeL2Output(uint256,bytes32)", 1, oracle.root(0))
    with pytest.raises(reverted, match=error("UnknownOutput", 2)):
        oracle.challenge(BOB, 2)
    oracle.decide(0, right=True)
    oracle.later(PERIOD)
    with pytest.raises(reverted, match=error("OutputFinal", 1)):
        oracle.challenge(BOB, 1)
    oracle.propose()
    oracle.allow(BOB, STAKE - 1)
    with pytest.raises(reverted, match=error("BondMissing", BOB, 0, STAKE)):
        oracle.challenge(BOB, 2)


def test_only_the_decider_decides_and_only_what_is_challenged(oracle, reverted):
    oracle.propose(2)
    with pytest.raises(reverted, match=error("NotChallenged", 0)):
        oracle.decide(0, right=False)
    oracle.challenge(ALICE, 0)
    for stranger in (ALICE, BOB, PROPOSING):
        with pytest.raises(reverted, match=error("NotChallenger", stranger)):
            oracle.decide(0, right=False, actor=stranger)
        with pytest.raises(reverted, match=error("NotChallenger", stranger)):
            oracle.delete(1, actor=stranger)
    with pytest.raises(reverted, match=error("OutputChanged", 0, oracle.root(0))):
        oracle.send(DECIDER, "decideChallenge(uint256,bytes32,bool)", 0, oracle.root(1), False)
    oracle.decide(0, right=True)
    with pytest.raises(reverted, match=error("NotChallenged", 0)):
        oracle.decide(0, right=True)


def test_a_challenge_freezes_all_that_stands_on_the_output_however_long_it_takes(oracle, reverted):
    oracle.propose()
    oracle.later(PERIOD // 2)
    oracle.propose(2)
    oracle.challenge(ALICE, 1)
    oracle.later(100 * PERIOD)
    assert [oracle.is_final(index) for index in range(3)] == [True, False, False]
    assert oracle.output(2)[1] == oracle.now
    assert oracle.ask("frozenFrom()") == 1
    assert oracle.bond(PROPOSING) == (BOND, 2 * BOND)
    with pytest.raises(reverted, match=error("BondLocked", PROPOSING, BOND, BOND + 1)):
        oracle.withdraw(PROPOSING, BOND + 1)
    with pytest.raises(reverted, match=error("OutputFinal", 2)):  # being frozen gives no more time to challenge
        oracle.challenge(BOB, 2)
    oracle.decide(1, right=True)
    assert all(oracle.is_final(index) for index in range(3))
    assert oracle.bond(PROPOSING) == (3 * BOND + STAKE // 2, 0)


def test_a_challenge_of_a_right_output_hides_no_wrong_one(oracle):
    oracle.propose(3)
    oracle.challenge(BOB, 0)
    oracle.challenge(BOB, 1)
    oracle.challenge(ALICE, 2)
    oracle.later(10 * PERIOD)
    oracle.decide(0, right=True)
    assert oracle.ask("frozenFrom()") == 1
    oracle.decide(1, right=True)
    assert oracle.ask("frozenFrom()") == 2
    assert [oracle.is_final(index) for index in range(3)] == [True, True, False]
    oracle.decide(2, right=False)
    assert (oracle.count, oracle.ask("openChallenges()"), oracle.ask("frozenFrom()")) == (2, 0, 2**256 - 1)
    assert oracle.bond(ALICE) == (STAKE + BOND // 2, 0)


def test_a_deletion_gives_back_the_bonds_of_challenges_above_it(oracle):
    oracle.propose(4)
    for index in (1, 2, 3):
        oracle.challenge((ALICE, BOB, BOB)[index - 1], index)
    oracle.decide(2, right=False)
    assert (oracle.count, oracle.ask("openChallenges()"), oracle.ask("frozenFrom()")) == (2, 1, 1)
    assert oracle.bond(BOB) == (2 * STAKE + BOND // 2, 0)
    oracle.decide(1, right=False)
    assert (oracle.count, oracle.ask("openChallenges()")) == (1, 0)
    oracle.check_sums()
    oracle.propose(3)
    assert oracle.ask("frozenFrom()") == 2**256 - 1  # nothing of the former challenges is left


def test_the_decider_cannot_delete_its_way_around_a_challenge(oracle, reverted):
    oracle.propose(4)
    oracle.challenge(ALICE, 2)
    for index in range(3):
        with pytest.raises(reverted, match=error("ChallengeOpen", 2)):
            oracle.delete(index)
    oracle.delete(3)  # stands on it, and is not challenged itself
    assert oracle.bond(PROPOSING) == (BOND, 3 * BOND)
    oracle.decide(2, right=True)
    oracle.delete(1)
    assert oracle.bond(PROPOSING) == (3 * BOND + STAKE // 2, BOND)
    with pytest.raises(reverted, match=error("UnknownOutput", 1)):
        oracle.delete(1)
    oracle.later(PERIOD)
    with pytest.raises(reverted, match=error("OutputFinal", 0)):
        oracle.delete(0)


def test_what_nobody_decides_is_deleted_and_nobody_loses(oracle, reverted):
    oracle.propose(3)
    oracle.challenge(ALICE, 1)
    oracle.later(DECISION)
    with pytest.raises(reverted, match=error("DecisionPending", 1, oracle.now)):
        oracle.expire(BOB, 1)
    with pytest.raises(reverted, match=error("NotChallenged", 0)):
        oracle.expire(BOB, 0)
    oracle.later(1)
    oracle.expire(BOB, 1)
    assert (oracle.count, oracle.ask("openChallenges()"), oracle.ask("forfeited()")) == (1, 0, 0)
    assert (oracle.bond(ALICE), oracle.bond(PROPOSING)) == ((STAKE, 0), (3 * BOND, 0))
    with pytest.raises(reverted, match=error("NotChallenged", 1)):
        oracle.expire(BOB, 1)


def calls_back(to: bytes, data: bytes) -> bytes:
    """Runtime code that passes data on to a contract; called without any, it makes the call `data` there, once, and
    does not care how that ends."""
    assert len(data) == 36
    call = b"\x7f" + data[:32] + bytes.fromhex("5f52")  # MSTORE(0, …)
    call += b"\x63" + data[32:] + bytes.fromhex("60e01b602052")  # MSTORE(32, … << 224)
    call += bytes.fromhex("5f5f60245f5f73") + to + bytes.fromhex("5af1505b00")  # POP(CALL(GAS, to, 0, 0, 36, 0, 0))
    once = bytes.fromhex("5f5460") + bytes([13 + len(call) - 2]) + bytes.fromhex("5760015f55") + call
    forward = bytes.fromhex("5b365f5f375f5f365f5f73") + to + bytes.fromhex("5af160")
    code = b"\x36\x60" + bytes([4 + len(once)]) + b"\x57" + once + forward
    return code + bytes([len(code) + 5]) + bytes.fromhex("575f5ffd5b00")


def calls_first(first: bytes, then: bytes) -> bytes:
    """Runtime code that calls an account without data, whatever that says, and goes on as the code of another one."""
    code = bytes.fromhex("5f5f5f5f5f73") + first + bytes.fromhex("5af150")
    code += bytes.fromhex("365f5f375f5f365f73") + then + bytes.fromhex("5af43d5f5f3e")  # DELEGATECALL with all data
    return code + bytes([0x60, len(code) + 6]) + bytes.fromhex("573d5ffd5b3d5ff3")


@pytest.mark.parametrize("outer", ["withdrawBond(uint256)", "depositBond(uint256)"])
@pytest.mark.parametrize("inner", ["withdrawBond(uint256)", "depositBond(uint256)"])
def test_a_token_whose_transfers_call_back_gives_nobody_anything_twice(oracle, outer, inner):
    """OPEN's transfers do not; but an L1's own OPEN may be another token."""
    evm, thief, moved = oracle.evm, b"\x71" * 20, b"\x70" * 20
    evm.call(L1_OPEN_TOKEN, "transfer(address,uint256)", thief, 100, caller=ALICE)
    oracle.allow(thief, 100)
    for actor in (thief, BOB):
        oracle.send(actor, "depositBond(uint256)", 50)
    token = GENESIS.alloc[L1_OPEN_TOKEN]
    evm.put(moved, GenesisAccount(nonce=1, code=token.code))
    data = keccak256(inner.encode())[:4] + encode(["uint256"], [50])
    evm.put(thief, GenesisAccount(nonce=1, code=calls_back(L1_OUTPUT_ORACLE, data)))
    evm.put(L1_OPEN_TOKEN, GenesisAccount(nonce=1, code=calls_first(thief, moved)))
    evm.call(thief, outer, 50)
    assert evm.storage(thief, 0) == 1  # it has tried
    in_bond = oracle.ask("freeBond(address)", thief)
    assert (in_bond, oracle.held(thief)) == ((0, 100) if outer.startswith("withdraw") else (100, 0))
    assert oracle.held(L1_OUTPUT_ORACLE) == in_bond + 50


def test_deleting_all_open_outputs_fits_into_any_transaction(machine, reverted):
    """The most that can be open, as many challenged as is worst, under the least limit of a transaction (EIP-7825)."""
    oracle = Oracle(machine(GENESIS.chain_id, GENESIS.alloc), TIMESTAMP + 600 * INTERVAL * 2)
    oracle.propose(512)
    with pytest.raises(reverted, match=error("TooManyOpenOutputs", 512)):
        oracle.propose()
    for index in range(512):
        oracle.challenge((ALICE, BOB)[index % 2], index)
    oracle.decide(0, right=True)  # looks for the next one
    assert oracle.evm.evm.result.gas_used < 1 << 24
    oracle.decide(1, right=False)
    assert oracle.evm.evm.result.gas_used < 1 << 24
    assert oracle.count == 1
    oracle.check_sums()


def test_finality_makes_room_for_more_open_outputs(machine):
    oracle = Oracle(machine(GENESIS.chain_id, GENESIS.alloc), TIMESTAMP + 600 * INTERVAL * 2)
    oracle.propose(512)
    oracle.later(PERIOD + 1)
    oracle.propose(3)
    assert oracle.ask("releasedOutputs()") == 6


def test_an_oracle_without_bonds_can_be_upgraded_and_keeps_its_outputs(machine, reverted):
    """The OP-Stack's oracle has its variables in the same slots; its proxy's owner sets the new code."""
    old = GENESIS.alloc[L1_OUTPUT_ORACLE].storage
    first = array_slot(ORACLE.slot("l2Outputs"), 0, 2)
    new = implementation_address(L1_OUTPUT_ORACLE)
    storage = {
        EIP1967_ADMIN_SLOT: old[EIP1967_ADMIN_SLOT],
        EIP1967_IMPLEMENTATION_SLOT: int.from_bytes(b"\x01" * 20, "big"),
        0: 1,  # initialised, the OP-Stack's way
        ORACLE.slot("l2Outputs"): 2,
        first: int.from_bytes(root_of(INTERVAL), "big"),
        first + 1: INTERVAL << 128 | TIMESTAMP + 100,
        first + 2: int.from_bytes(root_of(2 * INTERVAL), "big"),
        first + 3: 2 * INTERVAL << 128 | TIMESTAMP + 200,
    }
    evm = machine(GENESIS.chain_id, GENESIS.alloc)
    evm.put(b"\x72" * 20, GenesisAccount(nonce=1, code=GENESIS.alloc[L1_OUTPUT_ORACLE].code, storage=storage))
    terms = (L1_OPEN_TOKEN, BOND, STAKE, DECISION)
    arguments = (INTERVAL, 2, 0, TIMESTAMP, PROPOSING, DECIDER, PERIOD, terms)
    types = ["uint256"] * 4 + ["address"] * 2 + ["uint256", "(address,uint96,uint96,uint64)"]
    data = keccak256(INITIALIZE.encode())[:4] + encode(types, arguments)
    upgrade = (L1_PROXY_ADMIN, "upgradeAndCall(address,address,bytes)", b"\x72" * 20, new, data)
    with pytest.raises(reverted):
        evm.call(*upgrade, caller=ALICE)
    evm.set_timestamp(TIMESTAMP + 50_000)
    evm.call(*upgrade, caller=DECIDER)
    output = evm.call(b"\x72" * 20, "getL2Output(uint256)", 1, returns="(bytes32,uint128,uint128)")
    assert output == (root_of(2 * INTERVAL), TIMESTAMP + 200, 2 * INTERVAL)
    assert evm.call(b"\x72" * 20, "nextBlockNumber()", returns="(uint256)") == 3 * INTERVAL
    assert evm.call(b"\x72" * 20, "releasedOutputs()", returns="(uint256)") == 2
    with pytest.raises(reverted):
        evm.call(*upgrade, caller=DECIDER)


def random_step(oracle: Oracle, dice: random.Random) -> str:
    """Do one thing that may well be refused; its name."""
    actor, index = dice.choice(ACTORS), dice.randrange(-3, 1) + max(3, oracle.count)
    decider = dice.choice((DECIDER, DECIDER, actor))
    amount = dice.choice((oracle.bond(actor)[0], dice.randrange(BOND)))
    frozen = oracle.ask("frozenFrom()")
    disputed = frozen if frozen < oracle.count and dice.random() < 0.7 else index
    steps = {
        "propose": partial(oracle.propose, dice.randrange(1, 4)),
        "challenge": partial(oracle.challenge, actor, index),
        "challenge another": partial(oracle.challenge, actor, max(0, index - 1)),
        "right": partial(oracle.decide, disputed, right=True, actor=decider),
        "wrong": partial(oracle.decide, disputed, right=False, actor=decider),
        "delete": partial(oracle.delete, index, actor=decider),
        "expire": partial(oracle.expire, actor, disputed),
        "expire late": partial(oracle.expire, actor, disputed),
        "deposit": partial(oracle.send, actor, "depositBond(uint256)", dice.randrange(BOND)),
        "withdraw": partial(oracle.withdraw, actor, amount),
        "wait": partial(oracle.later, dice.choice((4, PERIOD // 3, PERIOD))),
    }
    name = dice.choice(sorted(steps))
    if name == "expire late":
        oracle.later(DECISION + 1)
    steps[name]()
    return name


@pytest.mark.parametrize("seed", range(2))
def test_in_every_history_all_bonds_are_there_and_what_is_final_stays(oracle, reverted, seed):
    dice = random.Random(seed)
    for actor in ACTORS:
        oracle.send(actor, "depositBond(uint256)", dice.randrange(BOND))
    everything = sum(oracle.held(actor) for actor in (*ACTORS, L1_OUTPUT_ORACLE))
    final: dict[int, bytes] = {}
    done: set[str] = set()
    for _ in range(300):
        try:
            done.add(random_step(oracle, dice))
        except reverted:
            pass
        oracle.check_sums()
        now = {index: oracle.output(index)[0] for index in range(oracle.count) if oracle.is_final(index)}
        assert final.items() <= now.items()
        final = now
        assert everything == sum(oracle.held(actor) for actor in (*ACTORS, L1_OUTPUT_ORACLE))
    for actor in ACTORS:  # what is told to be free is paid
        oracle.withdraw(actor, oracle.bond(actor)[0])
    oracle.check_sums()
    assert done >= {"propose", "challenge", "right", "wrong", "delete", "expire late", "deposit", "withdraw"}
    assert final


def test_a_block_without_an_output_is_refused_in_the_words_that_wallets_know(oracle, reverted):
    words = b"L2OutputOracle: cannot get output for a block that has not been proposed"
    revert = (keccak256(b"Error(string)")[:4] + encode(["string"], [words.decode()])).hex()
    with pytest.raises(reverted, match=revert):
        oracle.ask("getL2OutputIndexAfter(uint256)", 0)
    oracle.propose(2)
    assert [oracle.ask("getL2OutputIndexAfter(uint256)", number) for number in (0, INTERVAL, INTERVAL + 1)] == [0, 0, 1]
    with pytest.raises(reverted, match=revert):
        oracle.ask("getL2OutputIndexAfter(uint256)", 2 * INTERVAL + 1)
