"""Who is logged in: the SSO session of the gateway and the one brokerage session of the username.

The rules are reference ibkr 2.1, 2.3 and 2.6. Nothing happens by itself: whoever asks lets time catch up first
with `settle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Region = Literal["america", "europe", "asia"]
Channel = Literal["gateway", "oauth"]
Competitor = Literal["owner", "contender"]

ZONES = {
    "america": ZoneInfo("America/New_York"),
    "europe": ZoneInfo("Europe/Zurich"),
    "asia": ZoneInfo("Asia/Hong_Kong"),
}
IDLE_SECONDS = 360.0
SSO_MS = 24 * 3_600_000
OUTAGE_HOUR = 1


def midnight(now_ms: int, zone: ZoneInfo, days: int) -> int:
    """The start of the local day that lies so many days after today's."""
    day = datetime.fromtimestamp(now_ms / 1000, zone).date() + timedelta(days=days)
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


@dataclass(slots=True)
class Brokerage:
    """The brokerage session, with what was asked in it. Times are monotonic seconds, `renewed_ms` is wall time."""

    channel: Channel
    ready_at: float
    renewed_ms: int
    accounts_asked: bool = False
    primed: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """The three truths that auth/status tells."""

    authenticated: bool
    connected: bool
    competing: bool


class Session:
    def __init__(self, region: Region, now_ms: int, *, nightly_reset: bool = True, outage_minutes: float = 0.0) -> None:
        self._zone = ZONES[region]
        self._nightly_reset = nightly_reset
        self._outage_ms = int(outage_minutes * 60_000)
        self._next_reset_ms = midnight(now_ms, self._zone, 1)
        self._sso_since_ms: int | None = None
        self._sso_asked_at = 0.0
        self._active_at = 0.0
        self._maintenance_until_ms = 0
        self._refusing = False
        self.brokerage: Brokerage | None = None
        self.competitor: Competitor | None = None
        self._doubtful = False

    @property
    def sso(self) -> bool:
        return self._sso_since_ms is not None

    @property
    def sso_since_ms(self) -> int | None:
        return self._sso_since_ms

    @property
    def next_reset_ms(self) -> int | None:
        return self._next_reset_ms if self._nightly_reset else None

    def day_start(self, now_ms: int, days_ago: int) -> int:
        """The start of a day by the calendar of the login's region."""
        return midnight(now_ms, self._zone, -days_ago)

    # Time.

    def settle(self, now_ms: int, monotonic: float, *, sso_idle: float | None = None) -> None:
        """Let end what has ended since the last call."""
        if now_ms >= self._next_reset_ms:
            self._next_reset_ms = midnight(now_ms, self._zone, 1)
            if self._nightly_reset:
                self.expire()
        if self._sso_since_ms is not None and (
            now_ms - self._sso_since_ms >= SSO_MS
            or (sso_idle is not None and monotonic - self._sso_asked_at >= sso_idle)
        ):
            self.log_out()
        if self.brokerage is not None and monotonic - self._active_at >= IDLE_SECONDS:
            self.brokerage = None
        if self.brokerage is not None and self.down(now_ms):
            self.brokerage = None

    def touch(self, monotonic: float) -> None:
        """A request that came through renews what is alive."""
        self._active_at = monotonic
        self._sso_asked_at = monotonic

    # What people and other programs do.

    def log_in(self, now_ms: int, monotonic: float, *, ready_in: float, doubtful: bool) -> None:
        """A person logs in at the gateway; it opens the brokerage session by itself where nobody else has it."""
        self._sso_since_ms = now_ms
        self.touch(monotonic)
        self._doubtful = doubtful
        if self.competitor != "owner" and self.brokerage is None and not self.down(now_ms):
            self.brokerage = Brokerage("gateway", monotonic + ready_in, now_ms)

    def log_out(self) -> None:
        """The gateway's SSO session ends, and with it a brokerage session opened through it."""
        self._sso_since_ms = None
        if self.brokerage is not None and self.brokerage.channel == "gateway":
            self.brokerage = None

    def expire(self) -> None:
        """Everything ends."""
        self._sso_since_ms = None
        self.brokerage = None

    def compete(self, *, stealing: bool) -> None:
        """Another application logs in with the username: it takes the session, or only contests it."""
        self.competitor = "owner" if stealing else "contender"
        if stealing:
            self.brokerage = None

    def release(self) -> None:
        self.competitor = None

    def maintain(self, until_ms: int, *, refusing: bool) -> None:
        """From now until then the brokerage servers are down; `refusing`: nobody listens at all."""
        self._maintenance_until_ms = until_ms
        self._refusing = refusing
        self.brokerage = None

    def down(self, now_ms: int) -> bool:
        return now_ms < self._maintenance_until_ms or self._nightly_outage(now_ms)

    def refusing(self, now_ms: int) -> bool:
        return self._refusing and now_ms < self._maintenance_until_ms

    def _nightly_outage(self, now_ms: int) -> bool:
        if not self._outage_ms:
            return False
        start = datetime.fromtimestamp(now_ms / 1000, self._zone).replace(
            hour=OUTAGE_HOUR, minute=0, second=0, microsecond=0, fold=0
        )
        return 0 <= now_ms - int(start.timestamp() * 1000) < self._outage_ms

    # What clients do.

    def open(self, channel: Channel, now_ms: int, monotonic: float, *, compete: bool, ready_in: float) -> None:
        """ssodh/init. Without `compete` it replaces nobody."""
        if self.brokerage is not None and self.brokerage.channel == channel:
            self.brokerage.renewed_ms = now_ms
            if compete:
                self.competitor = None
            return
        if (self.brokerage is not None or self.competitor is not None) and not compete:
            return
        self.competitor = None
        self.brokerage = Brokerage(channel, monotonic + ready_in, now_ms)

    def status(self, channel: Channel, now_ms: int) -> Status:
        """What somebody who is logged in through `channel` is told; a doubt is told once."""
        mine = self.brokerage is not None and self.brokerage.channel == channel
        elsewhere = self.competitor is not None or (self.brokerage is not None and not mine)
        doubtful, self._doubtful = self._doubtful, False
        return Status(
            authenticated=mine and not doubtful,
            connected=not self.down(now_ms),
            competing=elsewhere,
        )
