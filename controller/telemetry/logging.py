"""Sets up structlog: a constant message with key-values, readable on a terminal, else JSON lines.

Everything goes through the standard library's root logger, so that uvicorn, watchdog and warnings
have the same form as our own lines, in one order, on stderr. stdout is for data.
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

# Libraries that log every request or every inotify event: of these only warnings and errors.
_QUIET = ("uvicorn.access", "httpx", "httpcore", "watchdog", "asyncio")
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access")


def configure(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Set up logging for the process; may be called again (reload).

    ``level`` is one of ``LEVELS``; raises ``ValueError`` for another. A terminal as ``stream``
    (default: stderr) gets console lines, coloured unless ``NO_COLOR`` is set, anything else JSON
    lines. Start uvicorn with ``log_config=None``.
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
    """Escape control characters: values may hold a guest's output. JSON escapes them itself."""
    kept = "\n\t"
    texts = {key: harmless(each, kept) for key, each in event.items() if isinstance(each, str)}
    return {**event, **texts}


def _traceback(out: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(harmless(text.getvalue(), "\n\t"))
