"""What Kraken's error texts mean: reference kraken 3.3 as data.

Errors come as `<E|W><Category>:<message>[:extra]`, mostly with HTTP 200. The first `E…` entry counts; `W…`
beside a result is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from worker import log

Action = Literal[
    "throttle",  # the counter is full: wait until it is empty, twice as long each time it happens again
    "wait_until",  # Kraken names the second before which it must not be asked
    "transient",  # back off with jitter
    "lockout",  # no calls for a quarter of an hour
    "nonce",  # one more try with a higher nonce
    "credentials",  # a person must act
    "disabled",  # stop and report: the endpoint is off
    "bug",  # stop and report: our request is wrong
    "not_ready",  # a report is still being made
    "unknown",  # back off, few tries, then report
]


@dataclass(frozen=True, slots=True)
class Rule:
    """Texts that begin with `prefix` lead to `action`; `sentence` is for the owner where a person must act."""

    prefix: str
    action: Action
    sentence: str = ""


_KEY = "Kraken does not accept the API key: it was deleted or mistyped, or its IP list excludes this worker."
_SECRET = "Kraken does not accept the signature: the API secret does not belong to the key."  # noqa: S105 - a sentence
_ACCOUNT = "Kraken has locked or not yet confirmed this account. Log in at kraken.com to see what it asks for."
_PERMISSION = (
    "This API key may not read trades, or its IP list excludes this worker. On kraken.com, edit the key and tick "
    "Query closed orders & trades (query-closed-trades)."
)

RULES: tuple[Rule, ...] = (
    Rule("EAPI:Rate limit exceeded", "throttle"),
    Rule("EGeneral:Too many requests", "throttle"),
    Rule("EAuth:Rate limit exceeded", "throttle"),
    Rule("EAuth:Too many requests", "throttle"),
    Rule("EService:Throttled", "wait_until"),
    Rule("EService:Unavailable", "transient"),
    Rule("EService:Busy", "transient"),
    Rule("EService:Deadline elapsed", "transient"),
    Rule("EService:Timeout", "transient"),
    Rule("EService:Market in ", "transient"),  # cancel_only, post_only: about orders, reads are not affected
    Rule("EGeneral:Internal error", "transient"),
    Rule("EDatabase:Internal error", "transient"),
    Rule("EGeneral:Temporary lockout", "lockout"),
    Rule("EAPI:Invalid nonce", "nonce"),
    Rule("EAPI:Invalid key", "credentials", f"{_KEY} Enter the key again or make a new one."),
    Rule("EAPI:Invalid signature", "credentials", f"{_SECRET} Enter both again."),
    Rule("ESession:Invalid session", "credentials", f"{_KEY} Enter the key again or make a new one."),
    Rule("EAuth:Account temporary disabled", "credentials", _ACCOUNT),
    Rule("EAuth:Account unconfirmed", "credentials", _ACCOUNT),
    Rule("ETrade:User Locked", "credentials", _ACCOUNT),
    Rule("EGeneral:Permission denied", "credentials", _PERMISSION),
    Rule("EAccount:Invalid permissions", "credentials", _PERMISSION),
    Rule("EAPI:Feature disabled", "disabled"),
    Rule("EGeneral:Invalid arguments", "bug"),
    Rule("EGeneral:Unknown method", "bug"),
    Rule("EAPI:Bad request", "bug"),
    Rule("EQuery:Unknown asset", "bug"),  # also «Unknown asset pair»
    Rule("EQuery:Invalid asset pair", "bug"),
    Rule("EExport:Not ready", "not_ready"),
)
_UNKNOWN = Rule("", "unknown")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Kraken's `{"error": […], "result": …}`, taken apart. `result` is None when there is none."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    result: Any

    @property
    def error(self) -> str | None:
        """The entry that counts."""
        return self.errors[0] if self.errors else None


def envelope(document: Any) -> Envelope | None:
    """The envelope in a JSON document, None when it is something else."""
    if not isinstance(document, Mapping) or not ("error" in document or "result" in document):
        return None
    entries = document.get("error") or []
    texts = [_spelling(str(entry)) for entry in (entries if isinstance(entries, list) else [entries])]
    return Envelope(
        errors=tuple(text for text in texts if not text.startswith("W")),
        warnings=tuple(text for text in texts if text.startswith("W")),
        result=document.get("result"),
    )


def classify(error: str) -> Rule:
    """The rule for an error text."""
    spelled = _spelling(error).casefold()
    return next((rule for rule in RULES if spelled.startswith(rule.prefix.casefold())), _UNKNOWN)


def throttled_until(error: str) -> int | None:
    """The epoch milliseconds that `EService:Throttled:<unix time>` names."""
    last = error.rsplit(":", 1)[-1].strip()
    return int(last) * 1000 if last.isascii() and last.isdigit() and len(last) <= 12 else None


def _spelling(text: str) -> str:
    """One spelling: no blank after a colon (`EService: Throttled`), nothing secret, no line breaks, not endless."""
    parts = (" ".join(part.split()) for part in log.redact(text[:8192]).split(":"))
    return ":".join(parts)[:200]
