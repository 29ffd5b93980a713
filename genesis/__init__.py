"""What the chain starts from: presets, allocs, contracts and their artifacts, address constants.

Imports nothing of the other packages.
"""
