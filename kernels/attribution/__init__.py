"""Who answered: spans, retrieval and the attribution vector, as integers that anyone can compute again.

`attribute` is the pure function a verifier re-runs; `open_attribution` the process that serves indexes.
Importing this package loads neither torch nor numba.
"""
