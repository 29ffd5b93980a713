"""Datanets as a node keeps them: documents taken in, published, followed from the chain, and indexed."""
