"""Parts of benchmarks/rpc.py: what is served, by whom, and how it is asked."""
