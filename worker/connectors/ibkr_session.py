"""Interactive Brokers' session: what its answers mean and what to do next. Pure, but for `open_session`.

A username has one brokerage session over all of its programs, below a login that a person makes in a browser
(reference ibkr 2.1). So the import never takes a session over and never logs in: it opens the brokerage session
once when only that is gone, and otherwise says who must do what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, assert_never

State = Literal[
    "ready",
    "contested",  # ours, while another program asks for it
    "brokerage_lost",  # the login lives, its brokerage session does not
    "in_use",  # another program of this username has the brokerage session
    "logged_out",
]

Meaning = Literal[
    "ok",
    "logged_out",
    "no_bridge",  # no brokerage session, or not yet
    "accounts_first",  # /iserver/accounts was not called in this brokerage session
    "wrong_account",
    "stale_token",  # OAuth: another live session token, or another host
    "penalty",
    "address_refused",  # the edge network does not let this IP address in
    "consumer_inactive",  # OAuth: the consumer key is not active (yet)
    "oauth_refused",  # OAuth: this username gets no session
    "transient",
    "rejected",
]

Question = Literal["status", "tickle", "init"]


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """The part of `auth/status`, `ssodh/init` and `tickle` that counts (2.3)."""

    authenticated: bool
    connected: bool
    competing: bool


STATES: Final[Mapping[tuple[bool, bool, bool], State]] = MappingProxyType(
    {
        # authenticated, connected, competing
        (True, True, False): "ready",
        (True, True, True): "contested",
        (False, True, False): "brokerage_lost",
        (False, True, True): "in_use",
        (False, False, False): "logged_out",
        (False, False, True): "logged_out",
        # Not in the documents: without a link nothing can be read, whatever was authenticated before.
        (True, False, False): "logged_out",
        (True, False, True): "logged_out",
    }
)
"""Reference ibkr 2.3."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An answer with one of `statuses`, and `text` in its body, means `meaning`."""

    statuses: range
    meaning: Meaning
    text: str = ""
    only_json: bool = False
    only_other: bool = False

    def fits(self, status: int, body: str, *, is_json: bool) -> bool:
        return (
            status in self.statuses
            and self.text in body.casefold()
            and (is_json or not self.only_json)
            and (not is_json or not self.only_other)
        )


def _exactly(status: int) -> range:
    return range(status, status + 1)


_ANY: Final = range(100, 600)

RULES: Final = (
    Rule(_exactly(429), "penalty"),
    Rule(_exactly(401), "consumer_inactive", "invalid consumer"),
    Rule(range(400, 600), "oauth_refused", "failed to generate sso dh token"),
    Rule(_exactly(401), "logged_out"),
    Rule(range(300, 400), "logged_out"),  # to the login page
    Rule(_exactly(403), "address_refused"),
    Rule(_exactly(410), "stale_token"),
    Rule(range(400, 600), "no_bridge", "no bridge"),
    Rule(range(400, 600), "accounts_first", "query /accounts first"),
    Rule(range(400, 500), "wrong_account", "accountid is not valid"),
    Rule(_exactly(408), "transient"),
    Rule(range(500, 600), "transient"),
    Rule(range(400, 500), "rejected"),
    Rule(_exactly(200), "logged_out", only_other=True),  # the login page itself, or a proxy's
    Rule(_exactly(200), "logged_out", '"no session"', only_json=True),
)
"""Reference ibkr 2.4. The first rule that fits counts; status and body and content type, because no single one is
reliable."""


def meaning_of(status: int, body: str, *, is_json: bool, document: Any = None) -> Meaning:
    """What an answer means; `document` is its JSON, if it is any."""
    for rule in RULES:
        if rule.fits(status, body, is_json=is_json):
            return rule.meaning
    if status in _exactly(200) and not (isinstance(document, Mapping) and "error" in document):
        return "ok"
    return "transient"


def read_status(document: Any) -> AuthStatus | None:
    """The status in an answer of `auth/status`, `ssodh/init` or `tickle`; None when there is none.

    `tickle` answers HTTP 200 for a dead session too, so only this counts (2.3, and section 6 «Session lost while
    keepalive says fine»).
    """
    if not isinstance(document, Mapping):
        return None
    inner = document.get("iserver")
    found = inner.get("authStatus") if isinstance(inner, Mapping) else document
    if not isinstance(found, Mapping) or not isinstance(found.get("authenticated"), bool):
        return None
    return AuthStatus(found["authenticated"], found.get("connected") is True, found.get("competing") is True)


def state_after(meaning: Meaning, document: Any) -> State | None:
    """The session's state according to one answer; None when the answer does not tell."""
    match meaning:
        case "ok":
            status = read_status(document)
            return STATES[status.authenticated, status.connected, status.competing] if status else None
        case "logged_out":
            return "logged_out"
        case "no_bridge":
            return "brokerage_lost"
        case (
            "accounts_first" | "wrong_account" | "stale_token" | "penalty" | "address_refused" | "consumer_inactive"
            | "oauth_refused" | "transient" | "rejected"
        ):  # fmt: skip
            return None
        case _:
            assert_never(meaning)


def next_question(state: State, asked: Sequence[Question], *, headless: bool) -> Question | None:
    """What to ask after `asked` led to `state`; None when the state stands.

    A lost brokerage session is opened once. A missing login is looked at once more, because a fresh one may be
    denied at first (2.3); OAuth has no login to wait for and opens its session instead (2.1).
    """
    match state:
        case "ready" | "contested" | "in_use":
            return None
        case "brokerage_lost":
            return None if "init" in asked else "init"
        case "logged_out":
            if headless:
                return None if "init" in asked else "init"
            return None if "tickle" in asked or "init" in asked else "tickle"
        case _:
            assert_never(state)


class Line(Protocol):
    """Whoever can put a question to Interactive Brokers."""

    @property
    def headless(self) -> bool:
        """No person logs in: OAuth."""
        ...

    def ask(self, question: Question) -> State:
        """Put the question once; raises a Failure when its answer tells no state."""
        ...


def open_session(line: Line, *, asked: Sequence[Question] = (), state: State | None = None) -> State:
    """The state in which the session stands after at most one look more and one opening.

    `asked` and `state` say what is known already, when a session died in the middle of a job.
    """
    made = list(asked)
    question: Question | None = "status" if state is None else next_question(state, made, headless=line.headless)
    found = state
    while question is not None:
        found = line.ask(question)
        made.append(question)
        question = next_question(found, made, headless=line.headless)
    if found is None:
        raise AssertionError("a session without a state is asked about")
    return found
