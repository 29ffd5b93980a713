"""Tensor parallelism: one model's layers cut over several processes, the same bits as in one."""
