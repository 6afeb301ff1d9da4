"""Who may call: keys, signatures, nonces, permissions and the two counters (reference kraken 2 and 3.1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tier = Literal["starter", "intermediate", "pro"]

READ_ONLY = ("query-closed-trades",)
PERMISSIONS = frozenset({
    "query-funds", "add-funds", "withdraw-funds", "earn-funds", "add-withdraw-address", "update-withdraw-address",
    "query-open-trades", "query-closed-trades", "modify-trades", "close-trades", "query-ledger", "export-data",
    "create-ws-token",
})  # fmt: skip


class KrakenError(Exception):
    """An entry of the `error` list."""


def sign(secret: str, path: str, nonce: str, body: bytes) -> str:
    """API-Sign (reference kraken 2.1)."""
    digest = hashlib.sha256(nonce.encode() + body).digest()
    return base64.b64encode(
        hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512).digest()
    ).decode()


@dataclass(slots=True)
class ApiKey:
    """One key of the account. Times are epoch seconds, 0 means no limit, as in GetApiKeyInfo."""

    key: str
    secret: str
    name: str = "trade import"
    permissions: tuple[str, ...] = READ_ONLY
    nonce_window: int = 0
    otp: str | None = None
    valid_until: int = 0
    query_from: int = 0
    query_to: int = 0
    created: int = 0
    modified: int = 0
    last_used: int = 0
    revoked: bool = False
    highest_nonce: int = 0
    _recent: set[int] = field(default_factory=set)

    @classmethod
    def of_seed(cls, seed: str, *, created: int, permissions: tuple[str, ...] = READ_ONLY) -> ApiKey:
        """Demo credentials in the real shape (56 and 88 characters) that mean nothing elsewhere."""
        noise = hashlib.shake_256(f"kraken simulator {seed}".encode()).digest(106)
        key, secret = base64.b64encode(noise[:42]).decode(), base64.b64encode(noise[42:]).decode()
        return cls(key, secret, permissions=permissions, created=created, modified=created)

    def accept_nonce(self, text: str) -> None:
        """Strictly increasing, except within the window below the highest seen; no nonce twice."""
        if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 1 << 64):
            raise KrakenError("EAPI:Invalid nonce")
        nonce = int(text)
        late = nonce <= self.highest_nonce
        if late and (nonce < self.highest_nonce - self.nonce_window or not self.nonce_window or nonce in self._recent):
            raise KrakenError("EAPI:Invalid nonce")
        self.highest_nonce = max(self.highest_nonce, nonce)
        if self.nonce_window:
            floor = self.highest_nonce - self.nonce_window
            self._recent = {seen for seen in self._recent if seen >= floor} | {nonce}

    def require(self, permission: str) -> None:
        if permission not in self.permissions:
            raise KrakenError("EGeneral:Permission denied")


class Counter:
    """The call counter of a key: it rises with each call, refused ones too, and drains with time."""

    # A boundary that is exact to the microsecond would refuse clients for their rounding.
    _GRAIN = 1e-4

    def __init__(self, ceiling: float, decay: float) -> None:
        self.ceiling = ceiling
        self.decay = decay
        self._level = 0.0
        self._at = 0.0

    def level(self, now: float) -> float:
        return max(0.0, self._level - self.decay * (now - self._at))

    def charge(self, cost: float, now: float) -> bool:
        """Add the cost; False if the call thereby passes the ceiling."""
        self._level = self.level(now) + cost
        self._at = now
        return self._level <= self.ceiling + self._GRAIN

    @classmethod
    def of_tier(cls, tier: Tier) -> Counter:
        match tier:
            case "starter":
                return cls(15, 0.33)
            case "intermediate":
                return cls(20, 0.5)
            case "pro":
                return cls(20, 1.0)


class Lockout:
    """Repeated key, signature and nonce failures shut the door; knocking keeps it shut (reference kraken 3.3).

    Kraken names neither the number of failures nor the span they are counted in; ten in 15 minutes is ours.
    """

    SECONDS = 900.0

    def __init__(self, failures: int = 10) -> None:
        self._allowed = failures
        self._failures: list[float] = []
        self._until = 0.0

    def check(self, now: float) -> None:
        if now < self._until:
            self._until = now + self.SECONDS
            raise KrakenError("EGeneral:Temporary lockout")

    def failed(self, now: float) -> None:
        self._failures = [*(at for at in self._failures if at > now - self.SECONDS), now]
        if len(self._failures) >= self._allowed:
            self._failures.clear()
            self._until = now + self.SECONDS


@dataclass(frozen=True, slots=True)
class Moment:
    """The broker's time: epoch seconds for what keys say, monotonic seconds for counters."""

    epoch: float
    monotonic: float


class Door:
    """Checks a private call, in Kraken's order: lockout, key, signature, nonce."""

    def __init__(self, keys: Mapping[str, ApiKey], lockout: Lockout) -> None:
        self._keys = keys
        self._lockout = lockout

    def admit(
        self, path: str, headers: Mapping[str, str], params: Mapping[str, str], body: bytes, at: Moment
    ) -> ApiKey:
        self._lockout.check(at.monotonic)
        try:
            key = self._recognised(path, headers, params, body, at)
        except KrakenError:
            self._lockout.failed(at.monotonic)
            raise
        key.last_used = int(at.epoch)
        return key

    def _recognised(
        self, path: str, headers: Mapping[str, str], params: Mapping[str, str], body: bytes, at: Moment
    ) -> ApiKey:
        key = self._keys.get(headers.get("api-key", ""))
        if key is None or key.revoked or (key.valid_until and at.epoch >= key.valid_until):
            raise KrakenError("EAPI:Invalid key")
        nonce = params.get("nonce", "")
        if not _same(headers.get("api-sign", ""), sign(key.secret, path, nonce, body)):
            raise KrakenError("EAPI:Invalid signature")
        if key.otp is not None and params.get("otp") != key.otp:
            raise KrakenError("EAPI:Invalid signature")  # what users of keys with 2FA report seeing
        key.accept_nonce(nonce)
        return key


def _same(given: str, right: str) -> bool:
    try:
        return hmac.compare_digest(base64.b64decode(given, validate=True), base64.b64decode(right))
    except (binascii.Error, ValueError):
        return False
