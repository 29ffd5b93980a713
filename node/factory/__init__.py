"""ModelFactory as a node keeps it: fine-tuning jobs, and releases made of what they trained."""
