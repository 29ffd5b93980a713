"""What a contract's refusals mean to the person who asked for something, and what to do about them.

`Contract.explain` names the error with its arguments; here stands the sentence for those that people can run into.
"""

from __future__ import annotations

import re

_MEANINGS = (
    (r"UnknownDatanet\(datanet (\d+)\)", "there is no Datanet {0}: `openledger datanet list` shows those there are"),
    (
        r"UnknownVersion\(datanet (\d+), version (\d+)\)",
        "Datanet {0} has no version {1}: `openledger datanet show {0}` lists its versions",
    ),
    (r"UnknownContribution\(contribution (\d+)\)", "there is no contribution {0} there"),
    (r"UnknownRelease\(release (\d+)\)", "there is no release {0}: `openledger release list` shows those there are"),
    (
        r"NotOwner\((datanet|release) (\d+), caller (0x[0-9a-f]+)\)",
        "{0} {1} belongs to another account than {2}: sign with its owner's key",
    ),
    (
        r"NothingApproved\(datanet (\d+)\)",
        "Datanet {0} has no approved contribution: approve one first, with `openledger datanet approve {0}`",
    ),
    (
        r"WrongStatus\(contribution (\d+), status \d+\)",
        "contribution {0} was decided on before: `openledger datanet show` tells how each stands",
    ),
    (r"DuplicateDocument\(contribution (\d+)\)", "contribution {0} already holds this document"),
    (
        r"CorpusMissing\(datanet (\d+), version (\d+), .*\)",
        "version {1} of Datanet {0} has no corpus on chain: its owner runs `openledger datanet publish {0}`",
    ),
    (r"InvalidName\(length (\d+)\)", "a name of {0} bytes is not taken: a Datanet's has 1 to 64, a release's 1 to 128"),
    (r"ReleaseExists\(release (\d+)\)", "the very same release is already registered, as release {0}"),
    (r"UnknownChannel\(.*\)", "there is no channel with this provider yet: `openledger channel open` makes one"),
    (
        r"WithdrawalNotRequested\(.*\)",
        "ask for the rest first, with `openledger channel close`; it can be withdrawn after the channel's delay",
    ),
    (r"WithdrawalTooEarly\(withdrawableAt (\d+)\)", "the rest of the channel can be withdrawn from block {0} on"),
    (r"NothingToWithdraw\(.*\)", "the channel holds nothing that could be withdrawn"),
    (
        r"NothingToClaim\(payee (0x[0-9a-fA-F]+)\)",
        "nothing of {0} has ripened yet: `openledger account {0}` shows what ripens when",
    ),
)  # fmt: skip


def in_words(message: str) -> str:
    """The sentence for an error of our contracts, where there is one; else the message as it is."""
    for pattern, meaning in _MEANINGS:
        if matched := re.search(pattern, message):
            return meaning.format(*matched.groups())
    return message
