"""What the inference benchmarks share: models and adapters of random numbers, clocks, the machine."""
