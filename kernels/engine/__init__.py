"""The serving engine: a child process that answers many requests at once, exactly.

`client.open_engine` is the way in; importing it does not load torch. `messages` names what crosses the edge.
"""
