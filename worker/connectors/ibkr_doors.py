"""The two ways into Interactive Brokers: a gateway that a person has opened, and OAuth 1.0a without a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from worker.clock import Clock
from worker.connectors.ibkr_oauth import LiveSessionToken, OAuthKeys, OAuthSigner
from worker.connectors.ibkr_session import Meaning
from worker.errors import AuthFailed, Failure, Rejected, Unavailable

TOKEN_PATH: Final = "/oauth/live_session_token"  # noqa: S105 - a path
EARLY_MS: Final = 10 * 60_000
"""A live session token is replaced so long before its end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what it means."""

    meaning: Meaning
    document: Any = None


Post = Callable[[str, Mapping[str, str]], Reply]
"""One POST to a path with headers, and what its answer means."""


class Door(Protocol):
    """How the requests of a login are let in. Called by one thread at a time."""

    @property
    def headless(self) -> bool:
        """No person logs in."""
        ...

    @property
    def address(self) -> str:
        """What a person would open, or know the line by."""
        ...

    def headers(self, method: str, path: str, post: Post) -> dict[str, str]:
        """Headers for one request; makes the calls it needs for that with `post`. Raises a Failure."""
        ...

    def refresh(self, meaning: Meaning) -> bool:
        """Drop what may be stale; whether a request refused for `meaning` deserves another try."""
        ...

    def login_needed(self) -> AuthFailed:
        """Nobody is logged in, and only a person can change that."""
        ...


class GatewayDoor:
    """A Client Portal gateway: whoever reaches it is let in (reference ibkr 2.1)."""

    headless = False

    def __init__(self, address: str) -> None:
        self.address = address

    def headers(self, method: str, path: str, post: Post) -> dict[str, str]:  # noqa: ARG002 - nothing to sign
        return {}

    def refresh(self, meaning: Meaning) -> bool:  # noqa: ARG002 - nothing to renew
        return False

    def login_needed(self) -> AuthFailed:
        return AuthFailed(
            f"Log in to the Interactive Brokers gateway at {self.address}. The import then goes on by itself.",
            code="ibkr_login_needed",
            action="log_in",
            url=self.address,
        )


class OAuthDoor:
    """Requests signed with a live session token, which is asked for when it is missing, old or refused (3.2).

    `base` is the address of the API with its path, as the other side sees it.
    """

    headless = True

    def __init__(self, keys: OAuthKeys, clock: Clock, *, base: str, address: str) -> None:
        self._signer = OAuthSigner(keys, clock)
        self._clock = clock
        self._base = base
        self._token: LiveSessionToken | None = None
        self._unproven = True
        """The token was asked for and nothing has been let in with it yet."""
        self.address = address

    def headers(self, method: str, path: str, post: Post) -> dict[str, str]:
        if self._token is None or self._clock.now() > self._token.expires_at - EARLY_MS:
            self._token = self._ask_for_token(post)
            self._unproven = True
        return {"authorization": self._signer.authorization(method, self._base + path, self._token)}

    def refresh(self, meaning: Meaning) -> bool:
        if meaning not in ("logged_out", "stale_token"):
            self._unproven = False
            return False
        self._token = None
        return not self._unproven

    def login_needed(self) -> AuthFailed:
        return AuthFailed(
            "Interactive Brokers opens no session for this consumer key. Check under Settings, API, that its access "
            "token is still the one entered here.",
            code="ibkr_oauth_no_session",
            action="update_credentials",
        )

    def _ask_for_token(self, post: Post) -> LiveSessionToken:
        request = self._signer.token_request(self._base + TOKEN_PATH)
        reply = post(TOKEN_PATH, request.headers)
        if reply.meaning == "ok":
            return self._signer.accept(request, reply.document)
        if reply.meaning in ("logged_out", "rejected"):
            raise AuthFailed(
                "Interactive Brokers does not accept the OAuth signature: consumer key, access token and keys must be "
                "those of one registration. Enter them again.",
                code="ibkr_oauth_keys",
                action="update_credentials",
            )
        raise failure_of(reply.meaning, self)


def failure_of(meaning: Meaning, door: Door) -> Failure:
    """The failure that an answer of this meaning is when no cure is left (reference ibkr 2.4, 3.3)."""
    match meaning:
        case "logged_out":
            return door.login_needed()
        case "address_refused":
            return AuthFailed(
                "Interactive Brokers' network does not let this machine's address in. Run the worker from another "
                "address, or ask Interactive Brokers.",
                code="ibkr_address_refused",
            )
        case "consumer_inactive":
            return AuthFailed(
                "Interactive Brokers does not know this consumer key, or has not activated it yet, which can take two "
                "weeks. The import starts by itself once it is active.",
                code="ibkr_consumer_inactive",
            )
        case "oauth_refused":
            return AuthFailed(
                "Interactive Brokers opens no OAuth session for this username. Connect through a gateway instead, or "
                "ask Interactive Brokers to enable it.",
                code="ibkr_oauth_refused",
                action="update_credentials",
            )
        case "rejected" | "wrong_account":
            return Rejected(
                "Interactive Brokers does not understand the worker's request. This needs a newer version.",
                code="ibkr_bug",
                detail=meaning,
            )
        case "stale_token":
            return Unavailable(
                "Interactive Brokers sends this OAuth session to another of its hosts. If this stays, set "
                "IBKR_OAUTH_URL to https://1.api.ibkr.com.",
                code="ibkr_stale_host",
            )
        case _:
            return Unavailable(
                "Interactive Brokers cannot answer at the moment.", code="ibkr_unavailable", detail=meaning
            )
