"""Interactive Brokers' live trades: the Client Portal API, through a gateway or with OAuth.

Section numbers are those of reference ibkr. The API remembers today and six days before, for the session that a
person opened; what a row means is `worker.normalize.ibkr_live`'s business.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, assert_never

from worker import log
from worker.clock import Clock
from worker.connectors.ibkr_calendar import outage_at
from worker.connectors.ibkr_doors import Reply
from worker.connectors.ibkr_login import Endpoint, Login
from worker.connectors.ibkr_session import Meaning, Question, State, open_session
from worker.errors import AuthFailed, Failure, RetryLater, Unavailable
from worker.models import Page, Region, Standing, Window
from worker.retry import RetryBudget, RetryPolicy, retrying

T = TypeVar("T")

_LOG = log.get(__name__)

MEMORY_MS: Final = 6 * 24 * 3_600_000
"""What the API can surely still show: the day that began longest ago may have begun just now (2.7)."""

IN_USE_SECONDS: Final = 15 * 60.0
BRIDGE_SECONDS: Final = 3.0
"""How long a brokerage session takes until it answers after it was opened (2.4 «no bridge»)."""
_BRIDGE_TRIES: Final = 2
_SESSION_ENDED: Final = ("ibkr_login_needed", "ibkr_oauth_no_session")


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of a login, the selected one first, and the names its user gave them."""

    ids: tuple[str, ...]
    aliases: Mapping[str, str]


class IbkrLiveConnector:
    """A `worker.models.Connector` for one account of a login.

    `now` is the true time (the login's gateway may run on a machine whose clock is wrong), `account` the one the
    connection is bound to, `taken` those that the owner's other connections
    import through the same login.
    """

    def __init__(
        self,
        login: Login,
        *,
        account: str | None,
        taken: Collection[str],
        region: Region,
        clock: Clock,
        now: Callable[[], int],
        budget: RetryBudget | None = None,
        policy: RetryPolicy | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._login = login
        self._account = account
        self._taken = frozenset(taken)
        self._region = region
        self._clock = clock
        self._now = now
        self._budget = budget or RetryBudget()
        self._policy = policy or RetryPolicy()
        self._chance = chance
        self.aliases: Mapping[str, str] = {}
        """Alias → account id, once the accounts were read."""

    def check(self, *, inspect: bool) -> Standing:  # noqa: ARG002 - a login has no rights to inspect
        """The session is open and the connection's account is under it."""
        with self._excused():
            contested = self._open() == "contested"
            accounts = self._accounts()
            self.aliases = accounts.aliases
            self._account = self._chosen(accounts)
        return Standing(now=self._now(), account_ref=self._account, news=(_CONTESTED,) if contested else ())

    def fetch(self, window: Window, resume: str | None = None) -> Iterator[Page]:  # noqa: ARG002 - always one page
        """All the API remembers, as one page.

        Always seven days: shorter ranges were seen to be empty on days with fills (2.7). An empty list proves
        nothing (2.7), so it is asked for once more and never drains a window; nor does one without a row of this
        account.
        """
        with self._excused():
            rows = self._trades() or self._trades()
        drained = None
        if any(self._is_ours(row) for row in rows):
            drained = Window(start=max(window.start, self._now() - MEMORY_MS), end=window.end)
        records = [row if isinstance(row, Mapping) else {"unreadable": row} for row in rows]
        yield Page(records, drained=drained)

    def close(self) -> None:
        """The line belongs to the login, which outlives the job."""

    # Session

    def _open(self, *, asked: tuple[Question, ...] = (), state: State | None = None) -> State:
        with self._login.opening:
            found = open_session(_Patient(self._login, self._retrying), asked=asked, state=state)
        match found:
            case "ready" | "contested":
                return found
            case "in_use":
                raise RetryLater(
                    "This Interactive Brokers login is in use in another program (TWS, the website or the phone), so "
                    "the import waits and goes on by itself when that one is closed. A second username for the import "
                    "would spare the wait.",
                    until=self._clock.now() + int(IN_USE_SECONDS * 1000),
                    reason="session_in_use",
                    code="ibkr_in_use",
                )
            case "brokerage_lost":
                cure = "make a new access token" if self._login.headless else "log in to the gateway anew"
                raise Unavailable(
                    "Interactive Brokers keeps the login but opens no trading session for it just now. The import "
                    f"tries again by itself; if this stays, {cure}.",
                    code="ibkr_no_brokerage_session",
                )
            case "logged_out":
                raise self._login.login_needed()
            case _:
                assert_never(found)

    # Reads

    def _accounts(self) -> Accounts:
        found = self._ask("accounts")
        ids = found.get("accounts") if isinstance(found, Mapping) else None
        if not isinstance(ids, list) or not all(isinstance(account, str) for account in ids):
            raise _odd("accounts")
        selected = found.get("selectedAccount")
        known = [_spelled(account) for account in ids if account.strip()]
        if isinstance(selected, str) and _spelled(selected) in known:
            known = [_spelled(selected), *known]
        return Accounts(ids=tuple(dict.fromkeys(known)), aliases=_aliases(found.get("aliases"), known))

    def _chosen(self, accounts: Accounts) -> str:
        """The account to import: the bound one, else the login's first that no other connection takes (fault B18)."""
        if self._account is not None:
            if self._account in accounts.ids:
                return self._account
            raise self._other_account()
        free = [account for account in accounts.ids if account not in self._taken]
        if not free:
            raise AuthFailed(
                "Every account of this login is imported by another connection already. Disconnect this one.",
                code="ibkr_no_account_left",
                action="disconnect",
            )
        return free[0]

    def _trades(self) -> list[Any]:
        # Whether `accountId` filters is unknown (section 8); with OAuth the list was empty without it (2.7).
        rows = self._ask("trades", {"days": "7", "accountId": self._account or ""})
        if not isinstance(rows, list):
            raise _odd("trades")
        return rows

    def _is_ours(self, row: Any) -> bool:
        if not isinstance(row, Mapping):
            return False
        names = (row.get("accountCode"), row.get("account"), row.get("account_allocation_name"))
        name = next((name for name in names if isinstance(name, str) and name.strip()), "")
        return _spelled(self.aliases.get(name.strip(), name)) == self._account

    # One call

    def _ask(self, endpoint: Endpoint, params: Mapping[str, str] | None = None) -> Any:
        """The document of an answer, after the one cure that each refusal allows (2.4)."""
        cured: list[Meaning] = []
        while True:
            reply = self._patient(endpoint, params)
            if reply.meaning == "ok":
                return reply.document
            if cured.count(reply.meaning) >= (_BRIDGE_TRIES if reply.meaning == "no_bridge" else 1):
                raise self._hopeless(reply.meaning)
            cured.append(reply.meaning)
            match reply.meaning:
                case "logged_out":
                    # The session died under the job (fault C3): one look more, as before each poll.
                    self._open(asked=("status",), state="logged_out")
                case "no_bridge":
                    self._open()
                    self._clock.sleep(BRIDGE_SECONDS)
                case "accounts_first" if endpoint != "accounts":
                    self._accounts()
                case _:
                    raise self._hopeless(reply.meaning)

    def _patient(self, endpoint: Endpoint, params: Mapping[str, str] | None) -> Reply:
        return self._retrying(lambda: self._login.call(endpoint, params))

    def _hopeless(self, meaning: Meaning) -> Failure:
        if meaning == "wrong_account":
            return self._other_account()
        return self._login.failure(meaning)

    def _other_account(self) -> AuthFailed:
        if self._login.headless:
            return AuthFailed(
                f"These OAuth keys are of a user without account {self._account}. Enter those of the user who has it.",
                code="other_account",
                action="update_credentials",
            )
        return AuthFailed(
            f"The gateway at {self._login.address} is logged in as a user without account {self._account}. Log in "
            "there with the user of that account.",
            code="other_account",
            action="log_in",
            url=self._login.address,
        )

    def _retrying(self, call: Callable[[], T]) -> T:
        # In a published reset the next try would fail too.
        quiet = outage_at(self._now(), self._region) is not None
        return retrying(
            call,
            clock=self._clock,
            budget=self._budget,
            policy=RetryPolicy(attempts=1) if quiet else self._policy,
            chance=self._chance,
        )

    @contextlib.contextmanager
    def _excused(self) -> Iterator[None]:
        """What goes wrong in a published reset is no fault, and asks nothing of anybody (fault C4)."""
        try:
            yield
        except (Unavailable, AuthFailed) as failure:
            outage = outage_at(self._now(), self._region)
            if outage is None or (isinstance(failure, AuthFailed) and failure.code not in _SESSION_ENDED):
                raise
            raise RetryLater(
                "Interactive Brokers resets its servers at this hour. The import goes on by itself afterwards.",
                until=self._clock.now() + outage.end - self._now(),
                reason="maintenance",
                code="ibkr_maintenance",
                detail=f"{outage.name}: {failure}",
            ) from failure


_CONTESTED: Final = (
    "Another program asks for this Interactive Brokers login's session while the import uses it. A second username for "
    "the import would keep the two apart."
)


class _Patient:
    """A `Line` whose questions are repeated when the line, not the session, is in trouble."""

    def __init__(self, login: Login, retry: Callable[[Callable[[], State]], State]) -> None:
        self._login = login
        self._retry = retry
        self.headless = login.headless

    def ask(self, question: Question) -> State:
        return self._retry(lambda: self._login.ask(question))


def _spelled(account: str) -> str:
    return account.strip().upper()


def _aliases(stated: Any, ids: Collection[str]) -> dict[str, str]:
    """Alias → account id, of the names that mean one account: with another, a row could reach a wrong one."""
    found: dict[str, set[str]] = {}
    for account, alias in stated.items() if isinstance(stated, Mapping) else ():
        if isinstance(alias, str) and alias.strip():
            found.setdefault(alias.strip(), set()).add(_spelled(account))
    return {
        alias: account
        for alias, (account, *more) in ((alias, sorted(accounts)) for alias, accounts in found.items())
        if not more and (_spelled(alias) == account or _spelled(alias) not in ids)
    }


def _odd(endpoint: Endpoint) -> Unavailable:
    return Unavailable(
        "Interactive Brokers answered with something other than the expected list.",
        code="ibkr_odd_answer",
        detail=endpoint,
    )
