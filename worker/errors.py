"""Failures, named by what happens next.

    Failure
    ├── AuthFailed         a person must act; no retry, latched until they did
    ├── RetryLater         a date, not a fault; the breaker does not see it
    ├── Unavailable        transient; retried per request, then counts towards the breaker
    ├── Rejected           our request or our idea of the contract is wrong; no retry
    ├── IncompleteReport   rows are missing from an answer; its time range stays uncovered
    └── BadRecord          one row cannot be understood; kept as a reject, the rest goes on
    ConvexUnavailable      Convex cannot be reached; nothing can be stored, so nothing may be fetched
    ConvexRefused          Convex does not accept this worker or this call; an operator must act
    LeaseLost              another worker holds the connection; stop quietly, write nothing
    Stopped                the process was asked to stop while waiting
    UnusableFile           a file for `trade-sync parse` that holds no rows at all to read
    SettingsInvalid        the environment does not describe a worker; every problem is listed

Every Failure has two messages: `sentence` is for the person who reads the Import Errors panel and says what
is wrong and what to do; `detail` is for the log. Neither may hold a secret.
"""

from __future__ import annotations

from typing import Literal

WaitReason = Literal["rate_limited", "maintenance", "report_not_ready", "session_in_use"]


class Failure(Exception):
    """Why a job or a row ended other than well."""

    def __init__(self, sentence: str, *, code: str, action: str = "", detail: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code
        self.action = action
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}" + (f" ({self.detail})" if self.detail else "")


class AuthFailed(Failure):
    """The broker refuses the credentials, or they may do too much, or nobody is logged in. Only a person can mend that.

    `url` is the address to open, where there is one.
    """

    def __init__(self, sentence: str, *, code: str, action: str = "", detail: str = "", url: str | None = None) -> None:
        super().__init__(sentence, code=code, action=action, detail=detail)
        self.url = url


class RetryLater(Failure):
    """The broker named a time before which it must not be asked again.

    `until` is epoch milliseconds by the worker's clock.
    """

    def __init__(self, sentence: str, *, until: int, reason: WaitReason, code: str = "", detail: str = "") -> None:
        super().__init__(sentence, code=code or reason, detail=detail)
        self.until = until
        self.reason: WaitReason = reason


class Unavailable(Failure):
    """Time-outs, broken connections, 5xx, and answers that are not the expected document.

    `wait` is how many seconds the other side asked us to leave it alone, where it did.
    """

    def __init__(self, sentence: str, *, code: str = "unavailable", detail: str = "", wait: float = 0.0) -> None:
        super().__init__(sentence, code=code, detail=detail)
        self.wait = wait


class Rejected(Failure):
    """The other side understood us and says no; asking again would change nothing."""


class IncompleteReport(Failure):
    """Rows are missing from an answer that claims to be whole; its time range stays uncovered."""


class BadRecord(Failure):
    """One row of a page cannot be read. `field` names the part that is wrong."""

    def __init__(self, reason: str, *, field: str) -> None:
        super().__init__(reason, code="bad_record")
        self.field = field


class ConvexUnavailable(Exception):
    """Convex did not answer, or answered that it cannot just now."""


class ConvexRefused(Exception):
    """Convex answered no. `code` is the ConvexError's, or `unauthorised`, or `server_error`."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


class LeaseLost(Exception):
    """The store says this job no longer owns its connection."""


class Stopped(Exception):
    """The worker was asked to stop while it waited."""


class UnusableFile(Exception):
    """A file that is no export, no envelope, or an error envelope: not «zero rows»."""


class SettingsInvalid(Exception):
    """One or more settings are missing or malformed. `problems` names each with its cure."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
