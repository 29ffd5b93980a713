"""One logger: structlog, to standard error, for people (`console`) or for machines (`json`)."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Literal

import structlog


class _Printer(structlog.PrintLogger):
    """Prints lines; one that the disk or a closed pipe does not take is left out, for the node has to go on."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def configure_logging(level: str, format: Literal["console", "json"]) -> None:
    """Set the level ("debug"…"error") and the form of every later log line."""
    number = logging.getLevelNamesMapping()[level.upper()]
    # Libraries (libp2p, httpx) log through the standard module; only their warnings concern an operator.
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")
    # Tracebacks without local variables: among those are private keys.
    exceptions: structlog.types.Processor
    renderer: structlog.types.Processor
    if format == "json":
        exceptions = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        renderer = structlog.processors.JSONRenderer()
    else:
        exceptions = structlog.processors.StackInfoRenderer()
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # Looked up for each line: whoever puts another stream in its place gets the lines from then on.
        logger_factory=lambda *_: _Printer(sys.stderr),
    )
