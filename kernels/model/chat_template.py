"""A model's chat template, rendered in a sandbox without clock, randomness or files.

What templates of these families use is there: `namespace`, `range`, `dict`, `raise_exception`, `break` and `continue`, `tojson`. Today's
date is not: templates that ask for it (`strftime_now`) see it undefined and take the date that they were written with.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from openledger.kernels.model.errors import UnsupportedModel

_GLOBALS = ("namespace", "range", "dict")


class ChatTemplate:
    """Raises `UnsupportedModel` for a text that is no template."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self.text = text
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        kept = {name: environment.globals[name] for name in _GLOBALS}
        environment.globals.clear()
        environment.globals.update(kept, raise_exception=_refuse, **variables)
        del environment.filters["random"]
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise UnsupportedModel(f"the model's chat template is damaged: {error}") from error

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt's text, ready for the assistant's answer. Raises jinja2's `TemplateError`, also for what a template does
        to values that have no such thing."""
        try:
            return self._template.render(messages=[dict(message) for message in messages], add_generation_prompt=True)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise TemplateError(str(error)) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
