"""World state: what accounts hold, how transactions change it, and how it is committed to a root."""
