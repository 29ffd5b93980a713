"""What can be wrong with a model, by name; every message says what to do."""


class ModelError(Exception):
    """A model that cannot be served."""

    code = "model_error"


class ModelMissing(ModelError):
    """The model's file is not there."""

    code = "model_missing"


class UnsupportedModel(ModelError):
    """A model of a kind that these numerics do not cover."""

    code = "model_unsupported"


class DamagedModel(ModelError):
    """The file is not a readable model, or holds numbers that are not finite."""

    code = "model_damaged"


class BackendUnavailable(ModelError):
    """This machine cannot compute in the way that was asked for."""

    code = "backend_unavailable"
