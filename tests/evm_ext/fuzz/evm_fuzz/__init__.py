"""Differential fuzzing of the virtual machine: cases, those who run them, and how a disagreement is made small.

A case is a state and one signed transaction at some hard fork. The tiers of our machine run it, and revm, anvil and
stock py-evm where they know the fork; whoever disagrees is a fault in one of them.
"""
