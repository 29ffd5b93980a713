"""Errors whose message is meant for the person at the terminal: what is wrong, and what to do."""


class StartupError(Exception):
    """The node cannot start as configured. The message says what to change; restarting alone will not help."""


class UserError(Exception):
    """A request cannot be carried out as asked. The message says what to change."""
