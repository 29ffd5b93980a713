"""A language model as `exact-1` sees it: its GGUF file, integer weights, tokenizer and forward pass."""
