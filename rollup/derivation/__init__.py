"""From L1 and DA to L2 payload attributes, one file per stage (OP-Stack derivation.md, Holocene rules).

Each stage pulls from the one before it. A stage answers None when the current L1 block has nothing more for it; the
pipeline then moves to the next L1 block. Only `l1_traversal`, `l1_retrieval` and `attributes_builder` wait for others.
"""
