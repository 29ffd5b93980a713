"""What can stop derivation, apart from L1 or the DA layer being away."""


class DerivationError(Exception):
    """Derivation cannot go on from where it is."""


class ResetRequired(DerivationError):
    """L1 reorganised below the pipeline: start again from a block that is still canonical."""


class CriticalDerivationError(DerivationError):
    """A rule that cannot break has broken; a person has to look."""
