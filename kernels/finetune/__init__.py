"""Fine-tuning: a LoRA adapter from a Datanet version's documents, trained in a process of its own.

`run_finetune` is the trio call that owns the process. Importing this package does not load torch.
"""
