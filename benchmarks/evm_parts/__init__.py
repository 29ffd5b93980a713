"""Parts of benchmarks/evm.py: what is executed, and who executes it."""
