"""The public Ethereum tests, read and run: how anyone can hold this client to the rules.

Reading (`values`, `networks`, `blockchain_fixture`, `state_fixture`) knows the formats and runs nothing; running
(`blockchain_run`, `state_run`) knows no JSON. `runner` puts them together over files and processes.
"""
