"""A language model as `exact-1` sees it: its files, integer weights, tokenizer and forward pass."""
