"""The REST API: OpenAI-compatible chat, and the steps of the network's story. One file per resource."""
