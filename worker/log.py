"""Logging: structlog as JSON or console lines, the run's ids bound once, redaction last.

Secrets are registered where they enter the process (`protect`) and are replaced wherever they would leave it:
in every log event, and in every text that passes `redact` on its way to Convex. Broker text cannot forge a
line: JSON escapes newlines, and the console renderer gets control characters escaped first. Account ids of
Interactive Brokers are masked in log events only: their owners may read them in Convex.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import urllib.parse
from collections.abc import Collection, MutableMapping
from typing import Any, Literal

import structlog

REDACTED = "[redacted]"
_SECRET_NAMES = re.compile(
    r"(?i)(api[-_]?key|api[-_]?secret|api[-_]?sign|secret|password|otp|token|authorization|cookie|private[-_]?key|jwt)"
)
_SECRET_TEXTS = (
    ("bearer ", re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/-]{12,}=*")),
    ("eyj", re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")),
    (
        "-----begin ",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
    ),
    ("t=", re.compile(r"(?i)(?<=[?&]t=)[^&\s\"']+")),
)
"""Each with what a text in lower case must hold to be worth the search: looking for that is much cheaper."""

_ACCOUNT = re.compile(r"(?<![A-Za-z0-9])([A-Z]{1,2})[0-9]{2,7}([0-9]{2})(?![A-Za-z0-9])")
"""An account of Interactive Brokers: U1234567, DU1234567, F1234567 (reference ibkr 7.12: masked in logs)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_MIN_SECRET = 6

_lock = threading.Lock()
_protected: set[str] = set()
_pattern: re.Pattern[str] | None = None


def protect(*secrets: str | None) -> None:
    """Never let these strings out again, nor their URL-encoded and JSON-escaped spellings.

    Strings under six characters are refused silently: replacing them would shred ordinary text.
    """
    global _pattern  # noqa: PLW0603 - one registry a process, as there is one log
    with _lock:
        for secret in secrets:
            if secret and len(secret) >= _MIN_SECRET:
                _protected.update(
                    (
                        secret,
                        urllib.parse.quote(secret),
                        urllib.parse.quote(secret, safe=""),
                        urllib.parse.quote_plus(secret),
                        secret.replace("/", "\\/"),  # as some JSON writers escape it
                    )
                )
        if _protected:
            _pattern = re.compile(_any_of(_protected))


def _any_of(secrets: Collection[str]) -> str:
    """A pattern for any of `secrets`, the longest that fits.

    Sorted by first letters: RSA keys are dozens of lines, and trying each at every letter of a text made it slow.
    """
    rests: dict[str, list[str]] = {}
    for secret in sorted(secrets, key=len, reverse=True):
        rests.setdefault(secret[0], []).append(re.escape(secret[1:]))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in rests.items())


def secrets_known() -> int:
    """Changes whenever `redact` learns of another secret: what was found clean before may not be any more."""
    return len(_protected)


def redact(text: str) -> str:
    """`text` with every protected secret, token and private key replaced.

    Shorten after redacting: half a secret is not recognised.
    """
    if _pattern is not None:
        text = _pattern.sub(REDACTED, text)
    lowered = text.lower()
    for mark, pattern in _SECRET_TEXTS:
        if mark in lowered:
            text = pattern.sub(REDACTED, text)
    return text


def redact_value(value: Any, name: str = "") -> Any:
    """`value` with secrets replaced at any depth, by their text and by the name they stand under."""
    if name and _SECRET_NAMES.search(name) and isinstance(value, (str, bytes)) and value:
        return REDACTED
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, dict):
        return {redact(str(key)): redact_value(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact_value(item) for item in value]
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    return redact(str(value))


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {redact(key): redact_value(value, key) for key, value in event.items()}


def _printable(value: Any) -> Any:
    """Redacted texts at any depth as a line may show them: accounts masked, control characters escaped."""
    if isinstance(value, str):
        masked = _ACCOUNT.sub(r"\1…\2", value)
        return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), masked)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def _make_printable(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {_printable(key): _printable(value) for key, value in event.items()}


def configure(*, style: Literal["json", "console"] = "json", level: str = "info") -> None:
    """Set up structlog and the standard library's logging; lines go to stderr, data keeps stdout."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, _redact_event, _make_printable, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _redact_event,
                _make_printable,
                renderer,
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; events have dotted names (`sync.finished`), facts are fields."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
