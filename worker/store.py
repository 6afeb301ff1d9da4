"""The Convex gateway: every call the worker makes to Convex. With `subscription.py` the only module that imports
`convex`.

The package's WebSocket client holds the GIL during calls, has no time-outs and re-sends mutations after a
reconnect (reference convex 0 and 4). So calls go through its HTTP client, with the one request method replaced
by ours: pooled connections, a deadline, and errors by consequence.

A mutation whose answer was lost may have been applied. Every mutation here can be sent again: `ingest` carries a
batch number that Convex applies once, `finish` and `bindAccount` are idempotent, and a `claim` whose answer was
lost is a lease nobody holds, which expires.
"""

from __future__ import annotations

import email.utils
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from convex import ConvexError
from convex.http_client import ConvexHttpClient
from convex.values import convex_to_json, json_to_convex

from worker import log, metrics
from worker.clock import Clock, SystemClock
from worker.errors import ConvexRefused, ConvexUnavailable, LeaseLost, Rejected, Unavailable
from worker.http import Answer, Http
from worker.identity import Identity
from worker.models import (
    BreakerState,
    Counts,
    Difference,
    DueConnection,
    Execution,
    Ingested,
    Interval,
    JobMode,
    JobOutcome,
    KeptReports,
    Lease,
    Progress,
    RawReport,
    Refusal,
    Reject,
    Room,
    Unsettled,
    Window,
    Wire,
)
from worker.retry import RetryBudget, RetryPolicy, retrying

_LOG = log.get(__name__)

MODULE: Final = "tradeImport/worker"
REPORTS: Final = "tradeImport/reports"
MAX_BATCH_ROWS: Final = 500
MAX_BATCH_BYTES: Final = 4 * 2**20
MAX_REJECT_CHARACTERS: Final = 65_536
"""A row may be refused for its size; what is kept of it must fit."""
TRIES: Final = 5
PATIENCE: Final = 60.0
"""Seconds after which Convex counts as away."""
LEASE_MARGIN: Final = 5.0
"""Seconds before the lease's end in which nothing is written any more (fault E5)."""


class _HttpClient(ConvexHttpClient):
    """The package's HTTP client over our own transport: deadlines, pooling, a token that renews itself."""

    def __init__(self, http: Http, address: str, identity: Identity, clock: Clock) -> None:
        super().__init__(address)
        self._http = http
        self._identity = identity
        self._clock = clock

    def _request(self, url: str, name: str, args: dict[str, Any] | None) -> Any:
        body = json.dumps(
            {"path": name, "format": "convex_encoded_json", "args": convex_to_json(args or {})},
            separators=(",", ":"),
        ).encode()
        answer = self._exchange(url, body, self._identity.token())
        if answer.status == 401:
            # The key may have been rotated or our clock corrected since the token was signed (fault D6).
            answer = self._exchange(url, body, self._identity.renew())
        return _value(answer)

    def _exchange(self, url: str, body: bytes, token: str) -> Answer:
        headers = {**self.headers, "Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = self._http.request("POST", url.removeprefix(self.address), content=body, headers=headers)
        _observe(self._clock, answer)
        return answer


def _observe(clock: Clock, answer: Answer) -> None:
    date = answer.headers.get("date")
    if date and isinstance(clock, SystemClock):
        try:
            clock.observe(int(email.utils.parsedate_to_datetime(date).timestamp() * 1000))
        except ValueError:
            return


def _value(answer: Answer) -> Any:
    """The value of a Convex answer (reference convex 2); raises Unavailable, ConvexRefused or ConvexError."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if answer.status in (401, 403):
        raise ConvexRefused(
            "Convex does not know this worker: set TRADE_SYNC_JWKS on the deployment to the key that "
            "`trade-sync keys` printed, or give the worker the matching private key.",
            code="unauthorised",
        )
    if answer.status in (400, 404, 413):
        raise ConvexRefused(f"Convex does not accept the request (HTTP {answer.status}).", code="server_error")
    if answer.status != 200 or not isinstance(document, dict) or "status" not in document:
        raise Unavailable("Convex answered without a result.", detail=f"HTTP {answer.status}")
    if document["status"] == "success":
        return json_to_convex(document.get("value"))
    if "errorData" in document:
        data = document["errorData"]
        raise ConvexError(str(data.get("message") if isinstance(data, dict) else data), data)
    raise ConvexRefused(
        "Convex refuses the call: deploy the tradeImport functions of this worker's version, and check that "
        "TRADE_SYNC_JWKS belongs to this worker.",
        code="server_error",
    )


class Store:
    """Calls to Convex, typed. Raises ConvexUnavailable, ConvexRefused and LeaseLost."""

    def __init__(
        self,
        http: Http,
        address: str,
        identity: Identity,
        clock: Clock,
        worker_id: str,
    ) -> None:
        self._client = _HttpClient(http, address.rstrip("/"), identity, clock)
        self._clock = clock
        self._worker_id = worker_id
        self.last_answer: float | None = None
        """Monotonic time of Convex's last answer, for /readyz."""

    def watch(self) -> list[DueConnection]:
        """Every connection that is not disconnected, and when it is due."""
        return [DueConnection.model_validate(row) for row in self._call("query", "watch", {})]

    def claim(
        self,
        connection_id: str,
        mode: JobMode,
        *,
        early: bool = False,
        from_files: bool = False,
        replays: str | None = None,
    ) -> Lease | Refusal:
        """Ask for the right to sync one connection; `early`: what blocked it is over, so it need not be due.

        `from_files`: the job asks no broker, so it says nothing of how the connection is. `replays` is the job whose
        kept reports are read again: what the broker said since stands.
        """
        args: dict[str, Any] = {"connectionId": connection_id, "mode": mode, "workerId": self._worker_id}
        args |= {"early": True} if early else {}
        args |= {"fromFiles": True} if from_files else {}
        args |= {} if replays is None else {"replays": replays}
        answer = self._call("mutation", "claim", args)
        return Lease.model_validate(answer["lease"]) if answer["granted"] else Refusal.model_validate(answer)

    def beat(self, version: str, started_at: int) -> None:
        """Say that this worker lives."""
        self._call("mutation", "beat", {"workerId": self._worker_id, "version": version, "startedAt": started_at})

    def job(self, lease: Lease) -> Job:
        """The writing side of a lease."""
        return Job(self, lease, self._clock)

    def reports_of(self, job_id: str) -> KeptReports | None:
        """The reports that a job received, or None for an unknown job."""
        answer = self._call("query", "ofJob", {"jobId": job_id}, module=REPORTS)
        return None if answer is None else KeptReports.model_validate(answer)

    def report_part(self, report_id: str, part: int) -> bytes | None:
        """One part of a kept report."""
        data: bytes | None = self._call("query", "part", {"reportId": report_id, "part": part}, module=REPORTS)
        return data

    def compare(self, job_id: str, executions: Sequence[Execution]) -> list[Difference]:
        """What storing these rows of a job's reports again would change, one answer a row; nothing is written."""
        answers: list[Difference] = []
        for batch in _batches(executions) if executions else ():
            args = {"jobId": job_id, "executions": _wires(batch)}
            answers += map(Difference.model_validate, self._call("query", "compare", args, module=REPORTS))
        return answers

    def _call(
        self, kind: str, function: str, args: dict[str, Any], *, module: str = MODULE, seconds: float = PATIENCE
    ) -> Any:
        """One call, tried again while Convex is away: at most TRIES times and for at most `seconds`."""
        call = getattr(self._client, kind)
        try:
            value = retrying(
                lambda: call(f"{module}:{function}", args),
                clock=self._clock,
                budget=RetryBudget(ratio=TRIES),
                policy=RetryPolicy(attempts=TRIES, base=0.5, total=min(seconds, PATIENCE)),
            )
        except Unavailable as error:
            metrics.convex_call(function, "unavailable")
            raise ConvexUnavailable(str(error)) from error
        except ConvexError as error:
            metrics.convex_call(function, "refused")
            self.last_answer = self._clock.monotonic()
            raise _by_consequence(error) from error
        except (ConvexRefused, Rejected) as error:
            metrics.convex_call(function, "refused")
            raise ConvexRefused(str(error), code=error.code) from error
        metrics.convex_call(function, "ok")
        self.last_answer = self._clock.monotonic()
        return value


def _by_consequence(error: ConvexError) -> LeaseLost | ConvexRefused:
    code = error.data.get("code") if isinstance(error.data, dict) else None
    return LeaseLost(str(error)) if code == "lease_lost" else ConvexRefused(str(error), code=str(code))


class Job:
    """One lease's writes. Stops by itself before the lease can have passed to somebody else."""

    def __init__(self, store: Store, lease: Lease, clock: Clock) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._batch = 0
        self._took_rows = False
        self._ttl = (lease.expires_at - lease.server_now) / 1000
        self._deadline = clock.monotonic() + self._ttl

    @property
    def runs_low(self) -> bool:
        """Less than half of the lease is left: the next page should be ingested even without rows."""
        return self._deadline - self._clock.monotonic() < self._ttl / 2

    def bind_account(self, account_ref: str) -> None:
        """Record which account the credentials open; raises ConvexRefused `other_account` if it was another."""
        self._write("bindAccount", {"accountRef": account_ref})

    def begin_report(self, report: RawReport, parts: int, packed_digest: str) -> Room:
        """Note that the job received a report, and ask which of its parts are wanted."""
        args = {"source": report.source, "digest": report.digest, "size": report.size, "parts": parts}
        args["bytes"] = packed_digest
        return Room.model_validate(self._write("begin", args, module=REPORTS))

    def keep_part(self, report_id: str, part: int, data: bytes) -> None:
        """Keep one part of a report, in order; harmless to repeat."""
        self._write("keep", {"reportId": report_id, "part": part, "data": data}, module=REPORTS)

    def ingest(
        self,
        executions: Sequence[Execution],
        rejects: Sequence[Reject],
        *,
        coverage: Sequence[Interval],
        extras: dict[str, str],
        progress: Progress | None = None,
    ) -> tuple[Ingested, frozenset[str]]:
        """Store rows and progress; returns what became of them, and the versions of rows that are worth sending again.

        A batch that Convex refuses is halved until the offending row is alone; that row is stored as a reject
        (faults D4, D5). Progress is stored with the last batch only, so it never runs ahead of a row. Raises
        ConvexRefused when no row at all is taken: then it is not the rows (fault D7).
        """
        tail: dict[str, Any] = {"coverage": _wires(coverage), "extras": extras}
        if progress is not None:
            tail["progress"] = progress.to_wire()
        *earlier, last = _batches(executions)
        refused: list[_Refused] = []
        total = NOTHING
        for batch in earlier:
            total = _sum(total, self._ingest_rows(batch, refused))
        if not refused:
            try:
                return _sum(total, self._ingest_batch(last, rejects, tail)), frozenset()
            except ConvexRefused as error:
                if not last:
                    raise
                total = _sum(total, self._ingest_halves(last, refused, error))
        else:
            total = _sum(total, self._ingest_rows(last, refused))
        unnamed = [refusal for refusal in refused if refusal.error.code != "invalid_row"]
        if unnamed and not self._took_rows:
            raise unnamed[0].error
        total = _sum(total, self._ingest_batch((), [*rejects, *(refusal.reject() for refusal in refused)], tail))
        return total, frozenset(refusal.row.version for refusal in unnamed)

    def settle(self, fingerprint: str, execution: Execution | None) -> Ingested:
        """A reject is no more: its row is this execution, or nothing that is imported. Raises ConvexRefused."""
        return self._ingest_batch([] if execution is None else [execution], (), {"settled": [fingerprint]})

    def leave_unsettled(self, rejects: Sequence[Unsettled]) -> None:
        """Rejects that were read again and stay."""
        self._ingest_batch((), (), {"unsettled": _wires(rejects)})

    def finish(
        self,
        outcome: JobOutcome,
        counts: Counts,
        *,
        next_sync_in: int,
        breaker: BreakerState | None = None,
        coverage: Sequence[Interval] | None = None,
        extras: dict[str, str] | None = None,
        window: Window | None = None,
    ) -> None:
        """End the job and free the lease; harmless to repeat. Without `breaker` its state stays as it is."""
        args: dict[str, Any] = {
            "outcome": outcome.to_wire(),
            "counts": counts.to_wire(),
            "breaker": (breaker or self._lease.breaker).to_wire(),
            "nextSyncIn": next_sync_in,
        }
        if coverage is not None:
            args["coverage"] = _wires(coverage)
        if extras is not None:
            args["extras"] = extras
        if window is not None:
            args["window"] = window.to_wire()
        self._write("finish", args)

    def _write(self, function: str, args: dict[str, Any], *, module: str = MODULE) -> Any:
        left = self._deadline - LEASE_MARGIN - self._clock.monotonic()
        if left <= 0:
            raise LeaseLost("the lease ran out before the write")
        identified = {"jobId": self._lease.job_id, "fence": self._lease.fence, **args}
        return self._store._call("mutation", function, identified, module=module, seconds=left)

    def _ingest_batch(
        self, executions: Sequence[Execution], rejects: Sequence[Reject], tail: dict[str, Any]
    ) -> Ingested:
        self._batch += 1
        answer = Ingested.model_validate(
            self._write(
                "ingest",
                {"batch": self._batch, "executions": _wires(executions), "rejects": _wires(rejects), **tail},
            )
        )
        self._took_rows = self._took_rows or bool(executions)
        self._deadline = self._clock.monotonic() + (answer.expires_at - answer.server_now) / 1000
        return answer

    def _ingest_rows(self, executions: Sequence[Execution], refused: list[_Refused]) -> Ingested:
        try:
            return self._ingest_batch(executions, (), {})
        except ConvexRefused as error:
            return self._ingest_halves(executions, refused, error)

    def _ingest_halves(
        self, executions: Sequence[Execution], refused: list[_Refused], error: ConvexRefused
    ) -> Ingested:
        """Find the rows of a refused batch that Convex will not take; the others are stored."""
        if error.code not in _ROW_REFUSALS:
            raise error
        if len(executions) == 1:
            _LOG.warning("store.row_refused", execution=executions[0].key, reason=error.sentence)
            refused.append(_Refused(executions[0], error))
            return NOTHING
        middle = len(executions) // 2
        first = self._ingest_rows(executions[:middle], refused)
        return _sum(first, self._ingest_rows(executions[middle:], refused))


@dataclass(frozen=True, slots=True)
class _Refused:
    """A row that Convex would not take when it stood alone."""

    row: Execution
    error: ConvexRefused

    def reject(self) -> Reject:
        named = self.error.code == "invalid_row"
        reason = self.error.sentence if named else "Convex could not store this row and does not say why."
        return Reject.of(self.row.raw_payload[:MAX_REJECT_CHARACTERS], reason, self.row.external_execution_id)


_ROW_REFUSALS: Final = frozenset({"invalid_row", "server_error"})
"""A row rule, a broken validator, or a transaction over its limits: each may be one row's fault, and in production
Convex names only the first (reference convex 0 fact 7)."""

NOTHING: Final = Ingested(inserted=0, updated=0, known=0, held=0, rejected=0, expires_at=0, server_now=0)


def _batches(executions: Sequence[Execution]) -> list[Sequence[Execution]]:
    """`executions` in order, cut so that no batch has too many rows or bytes; at least one batch."""
    batches: list[Sequence[Execution]] = []
    start = size = 0
    for index, execution in enumerate(executions):
        weight = len(execution.raw_payload) + 1024
        if index > start and (index - start == MAX_BATCH_ROWS or size + weight > MAX_BATCH_BYTES):
            batches.append(executions[start:index])
            start, size = index, 0
        size += weight
    return [*batches, executions[start:]]


def _wires(values: Sequence[Wire]) -> list[dict[str, Any]]:
    return [value.to_wire() for value in values]


def _sum(first: Ingested, second: Ingested) -> Ingested:
    return Ingested(
        inserted=first.inserted + second.inserted,
        updated=first.updated + second.updated,
        known=first.known + second.known,
        held=first.held + second.held,
        rejected=first.rejected + second.rejected,
        expires_at=second.expires_at,
        server_now=second.server_now,
    )
