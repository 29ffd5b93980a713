"""Tensors: the exact model and its serving engine, attribution, fine-tuning. See README.md for the numerics.

Importing this package loads nothing heavy; tensors live in child processes.
"""
