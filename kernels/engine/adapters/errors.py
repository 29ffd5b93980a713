"""Why an adapter is not loaded."""


class AdapterRefused(Exception):
    """An adapter that will not be loaded; the message says why and what to do."""
