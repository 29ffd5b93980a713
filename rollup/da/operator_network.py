"""A simulated set of EigenDA operators: each keeps its share of every blob's chunks and signs for what it keeps.

All operators live in the DA server's process and store; what is real is what they do: the assignment, the check of every
chunk before it is signed for, the aggregate signature with those who did not sign, and giving a blob back out of the
chunks of those who are left.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from openledger.genesis.counted import counted
from openledger.rollup.da import curve
from openledger.rollup.da.certificate import Attestation
from openledger.rollup.da.chunks import ChunkParameters
from openledger.rollup.da.curve import GROUP_ORDER
from openledger.rollup.da.operators import OperatorKey, sum_g1, sum_g2
from openledger.rollup.da.verification import CONFIRMATION_THRESHOLD_PERCENT

MAX_OPERATORS = 1_000


class TooFewOperators(Exception):
    """The operators that are left hold too little stake to confirm a blob."""


@dataclass(frozen=True)
class NetworkParameters:
    """How many operators there are, all with the same stake, and how blobs are cut for them."""

    operators: int = 4
    chunks: ChunkParameters = field(default_factory=lambda: ChunkParameters(chunks=64, coding_rate=8, max_operators=16))

    def __post_init__(self) -> None:
        if not 1 <= self.operators <= min(MAX_OPERATORS, self.chunks.max_operators):
            raise ValueError(
                f"{self.operators} operators: from 1 to {min(MAX_OPERATORS, self.chunks.max_operators)} are possible"
            )


class OperatorNetwork:
    """Operators by number, from 0. `online` says which of them take part; change it freely."""

    def __init__(self, secret: int, parameters: NetworkParameters, quorums: int) -> None:
        """The keys follow from the secret, so that a server that starts again has the same operators."""
        self.parameters = parameters
        self.online = [True] * parameters.operators
        keys = (_derived(secret, number) for number in range(parameters.operators))
        self.keys = sorted(keys, key=lambda key: key.operator_id)
        self._quorums = quorums
        self._public_g1 = [key.public_g1 for key in self.keys]
        self._public_g2 = [key.public_g2 for key in self.keys]

    def assignment(self, operator: int) -> list[int]:
        """Indices of the chunks that an operator keeps: consecutive runs, in the order of the operators' ids."""
        chunks = self.parameters.chunks
        share = -(-(chunks.chunks - chunks.max_operators) // self.parameters.operators)
        return [(operator * share + offset) % chunks.chunks for offset in range(share)]

    def confirm(self) -> list[int]:
        """The operators that will sign now. Raises TooFewOperators below the confirmation threshold."""
        signers = [number for number, online in enumerate(self.online) if online]
        if 100 * len(signers) < CONFIRMATION_THRESHOLD_PERCENT * len(self.online):
            raise TooFewOperators(
                f"{len(signers)} of {counted(len(self.online), 'operator is', 'operators are')} online, "
                f"{CONFIRMATION_THRESHOLD_PERCENT} % of the stake must confirm"
            )
        return signers

    def attest(self, digest: bytes, signers: Sequence[int]) -> Attestation:
        """The signers' aggregate signature of a batch header's hash. As on chain, who is in two quorums counts twice."""
        absent = [number for number in range(len(self.keys)) if number not in signers]
        quorum_key = curve.g1_to_integers(sum_g1(self._public_g1))
        once = sum_g1([self.keys[number].sign(digest) for number in signers])
        key_once = sum_g2([self._public_g2[number] for number in signers])
        signature, signers_key = once, key_once
        for _ in range(self._quorums - 1):
            signature, signers_key = signature + once, signers_key + key_once
        return Attestation(
            non_signer_quorum_bitmap_indices=(0,) * len(absent),
            non_signer_public_keys=tuple(self._public_g1[number] for number in absent),
            quorum_public_keys=(quorum_key,) * self._quorums,
            signers_public_key_g2=curve.g2_to_integers(signers_key),
            signature=curve.g1_to_integers(signature),
            quorum_key_indices=(0,) * self._quorums,
            total_stake_indices=(0,) * self._quorums,
            non_signer_stake_indices=(tuple(range(len(absent))),) * self._quorums,
        )


def _derived(secret: int, number: int) -> OperatorKey:
    material = hashlib.sha512(
        b"openledger DA operator" + secret.to_bytes(32, "big") + number.to_bytes(4, "big")
    ).digest()
    return OperatorKey(int.from_bytes(material, "big") % (GROUP_ORDER - 1) + 1)
