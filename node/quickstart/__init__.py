"""The story of the network, told on a running devnet: real texts, a real model, every step a client's own call."""
