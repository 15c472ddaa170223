"""Logs: a constant message with key-values, for people on a terminal and as JSON lines otherwise.

Everything goes through the standard library's root logger, so that uvicorn, watchdog and warnings
come out in the same form as our own lines, in one order, on stderr. stdout is for data.
"""

import io
import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from controller.observed.guest_text import harmless

LEVELS = ("debug", "info", "warning", "error")

# Libraries that tell of every request or every inotify event: only what is wrong with them.
_QUIET = ("uvicorn.access", "httpx", "httpcore", "watchdog", "asyncio")
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access")


def configure(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Sets up logging for the process; may be called again (reload).

    ``level`` is one of ``LEVELS``. ``stream`` (stderr) decides the form: console if it is a
    terminal, coloured unless ``NO_COLOR`` is set, else JSON lines. Start uvicorn with
    ``log_config=None``. Raises ``ValueError`` for another level.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    out = sys.stderr if stream is None else stream
    console = out.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(console=console),
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _OWN_HANDLERS:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.NOTSET)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


def _renderers(*, console: bool) -> list[Processor]:
    if not console:
        return [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str, sort_keys=False),
        ]
    colours = not os.environ.get("NO_COLOR")
    return [
        _harmless,
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_traceback),
    ]


def _harmless(_: object, __: str, event: EventDict) -> EventDict:
    """A guest's words may be among the values, and steer no terminal; JSON has escapes for them."""
    kept = "\n\t"
    texts = {key: harmless(each, kept) for key, each in event.items() if isinstance(each, str)}
    return {**event, **texts}


def _traceback(out: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(harmless(text.getvalue(), "\n\t"))
