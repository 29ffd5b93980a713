"""What blocks of proof of work have and later ones do not: difficulty, uncles, rewards, and the DAO's end.

Seals are not checked: whoever follows such a chain takes its blocks from a source that is trusted for that.
Sources: Yellow Paper 4.3.4, 11.1, 11.3; EIP-2, 100, 649, 1234, 2384, 3554, 4345, 5133 (difficulty), 649, 1234 (rewards),
779 (DAO fork).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from openledger.evm_ext.block import EMPTY_UNCLES_HASH, Block, Header
from openledger.evm_ext.errors import HeaderFieldMismatch, InvalidBlock, InvalidUncle
from openledger.evm_ext.vm.rules import BlockRules
from openledger.genesis.hardforks import Hardfork

MINIMUM_DIFFICULTY: Final = 131_072
MAX_UNCLES: Final = 2
MAX_UNCLE_AGE: Final = 6

_ADJUSTMENT_QUOTIENT = 2_048
_BOMB_PERIOD = 100_000
# By how many blocks the exponential part of the difficulty is put off, from which fork on.
_BOMB_DELAYS: Final = (
    (Hardfork.GRAY_GLACIER, 11_400_000),
    (Hardfork.ARROW_GLACIER, 10_700_000),
    (Hardfork.LONDON, 9_700_000),
    (Hardfork.MUIR_GLACIER, 9_000_000),
    (Hardfork.CONSTANTINOPLE, 5_000_000),
    (Hardfork.BYZANTIUM, 3_000_000),
)

DAO_EXTRA_DATA: Final = b"dao-hard-fork"
DAO_EXTRA_DATA_BLOCKS: Final = 10


def difficulty_after(rules: BlockRules, parent: Header, timestamp: int) -> int:
    """The difficulty of a block on `parent` with this timestamp; `rules` are the block's."""
    step = parent.difficulty // _ADJUSTMENT_QUOTIENT
    passed = timestamp - parent.timestamp
    if rules.fork >= Hardfork.BYZANTIUM:
        base = 1 if parent.uncles_hash == EMPTY_UNCLES_HASH else 2
        change = max(base - passed // 9, -99)
    elif rules.fork >= Hardfork.HOMESTEAD:
        change = max(1 - passed // 10, -99)
    else:
        change = 1 if passed < 13 else -1
    difficulty = max(parent.difficulty + step * change, MINIMUM_DIFFICULTY)
    delay = next((delay for fork, delay in _BOMB_DELAYS if rules.fork >= fork), 0)
    periods = max(0, parent.number + 1 - delay) // _BOMB_PERIOD
    return difficulty + 2 ** (periods - 2) if periods > 1 else difficulty


def rewards(rules: BlockRules, header: Header, uncles: tuple[Header, ...]) -> list[tuple[bytes, int]]:
    """Who gets how many wei for the block: its miner, and the miners of its uncles, in the order they are paid."""
    reward = rules.block_reward
    if not reward:
        return []
    paid = [(uncle.fee_recipient, reward * (8 + uncle.number - header.number) // 8) for uncle in uncles]
    return [*paid, (header.fee_recipient, reward + len(uncles) * (reward // 32))]


def validate_uncles(
    block: Block,
    ancestor: Callable[[bytes], Block | None],
    validate_header: Callable[[Header, Header], None],
) -> None:
    """Whether the block's uncles are close relatives that nobody has named before, each with a valid header.

    `ancestor` gives stored blocks by hash, `validate_header(parent, header)` checks a header that is not executed.
    Raises `InvalidUncle`."""
    if not block.uncles:
        return
    if len(block.uncles) > MAX_UNCLES:
        raise InvalidUncle(f"a block names at most {MAX_UNCLES} uncles, got {len(block.uncles)}")
    family: dict[bytes, Block] = {}
    named = {block.hash}
    parent_hash = block.header.parent_hash
    for _ in range(MAX_UNCLE_AGE + 1):
        relative = ancestor(parent_hash)
        if relative is None:
            break
        family[parent_hash] = relative
        named.update(uncle.hash for uncle in relative.uncles)
        parent_hash = relative.header.parent_hash
    for uncle in block.uncles:
        name = f"uncle {uncle.number} (0x{uncle.hash.hex()})"
        if uncle.hash in family:
            raise InvalidUncle(f"{name} is an ancestor")
        if uncle.hash in named:
            raise InvalidUncle(f"{name} was named before")
        named.add(uncle.hash)
        parent = family.get(uncle.parent_hash)
        if parent is None or uncle.parent_hash == block.header.parent_hash:
            raise InvalidUncle(f"{name} is no close relative: its parent is 0x{uncle.parent_hash.hex()}")
        if not 1 <= block.number - uncle.number <= MAX_UNCLE_AGE:
            raise InvalidUncle(f"{name} is not 1 to {MAX_UNCLE_AGE} blocks older than block {block.number}")
        try:
            validate_header(parent.header, uncle)
        except InvalidBlock as error:
            raise InvalidUncle(f"{name} is invalid: {error}") from error


def validate_dao_extra_data(fork_block: int | None, support: bool, header: Header) -> None:
    """The ten headers from the DAO fork on say on which side they are. Raises `HeaderFieldMismatch`."""
    if fork_block is None or not fork_block <= header.number < fork_block + DAO_EXTRA_DATA_BLOCKS:
        return
    if support and header.extra_data != DAO_EXTRA_DATA:
        raise HeaderFieldMismatch("extra_data", header.extra_data, DAO_EXTRA_DATA)
    if not support and header.extra_data == DAO_EXTRA_DATA:
        raise HeaderFieldMismatch("extra_data", header.extra_data, "anything but the mark of the other side")
