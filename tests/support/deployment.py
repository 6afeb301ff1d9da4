"""A Convex deployment for tests: the local server over the project's real functions, and clients for its users."""

from __future__ import annotations

import itertools
import re
from typing import Any, Self

import httpx

from sandbox.processes import ROOT, Child, start_convex
from worker.clock import Clock, SystemClock
from worker.http import Http
from worker.identity import Identity, make_key_pair
from worker.store import Store

SECRET = "sync-now-secret-for-tests-0123456789abcdef"
TABLES = sorted(
    table
    for file in ("schema.ts", "tradeImport/tables.ts")
    for table in re.findall(r"^\s*(\w+): defineTable\(", (ROOT / "convex" / file).read_text(), re.MULTILINE)
)
_subjects = itertools.count(1)


class CallFailed(Exception):
    """A function answered with an error. `data` is that of its ConvexError, if it threw one."""

    def __init__(self, message: str, data: Any) -> None:
        super().__init__(message)
        self.data = data

    @property
    def code(self) -> str | None:
        return self.data.get("code") if isinstance(self.data, dict) else None


class Client:
    """Calls functions with one fixed token."""

    def __init__(self, address: str, authorization: str | None) -> None:
        headers = {"Authorization": authorization} if authorization else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=60)

    def query(self, path: str, args: dict[str, Any] | None = None) -> Any:
        return self._call("query", path, args)

    def mutation(self, path: str, args: dict[str, Any] | None = None) -> Any:
        return self._call("mutation", path, args)

    def _call(self, kind: str, path: str, args: dict[str, Any] | None) -> Any:
        answer = self._http.post(f"/api/{kind}", json={"path": path, "args": args or {}, "format": "json"})
        document = answer.json()
        if document.get("status") != "success":
            raise CallFailed(document.get("errorMessage") or str(document), document.get("errorData"))
        return document["value"]


class Deployment:
    """The server, its worker identity and its control endpoints."""

    def __init__(self, *options: str, env: dict[str, str] | None = None) -> None:
        keys = make_key_pair()
        self.private_key = keys.private_pem
        self._jwks = keys.jwks_data_uri
        self.env = {"TRADE_SYNC_JWKS": keys.jwks_data_uri, "TRADE_SYNC_SECRET": SECRET, **(env or {})}
        self.child: Child = start_convex(self.env, *options)
        self.address: str = self.child.info["address"]
        self.admin_key: str = self.child.info["adminKey"]
        self._http = httpx.Client(base_url=self.address, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def user(self, subject: str | None = None) -> Client:
        """A user of the app; a new one unless named, so that tests share nothing."""
        name = subject or f"user-{next(_subjects)}"
        return Client(self.address, f"Bearer {self.mint(name)}")

    def admin(self) -> Client:
        return Client(self.address, f"Convex {self.admin_key}")

    def store(
        self, clock: Clock | None = None, *, worker_id: str = "worker-under-test", token_clock: Clock | None = None
    ) -> Store:
        """A real worker's gateway to this deployment. `token_clock` is right when `clock` is not."""
        time = clock or SystemClock()
        http = Http(self.address, time, kind="convex", count=lambda _kind, _outcome: None)
        return Store(http, self.address, Identity(self.private_key, token_clock or time), time, worker_id)

    def functions(self) -> list[dict[str, Any]]:
        """Every function of the project: its path, its kind, whether clients may call it, and its arguments."""
        functions: list[dict[str, Any]] = self._http.get("/sandbox/functions").json()
        return functions

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Every document of every table."""
        return {table: self.documents(table) for table in TABLES}

    def mint(self, subject: str, **details: Any) -> str:
        """A token of the users' issuer."""
        token: str = self._post("token", {"subject": subject, **details})["token"]
        return token

    def documents(self, table: str, **fields: str) -> list[dict[str, Any]]:
        """Every document of a table, or those with these values, read behind the functions' backs."""
        rows: list[dict[str, Any]] = self._http.get("/sandbox/documents", params={"table": table, **fields}).json()
        return rows

    def calls(self) -> dict[str, int]:
        """How often each function was called since the last reset."""
        counts: dict[str, int] = self._http.get("/sandbox/calls").json()
        return counts

    def reset_calls(self) -> None:
        self._http.delete("/sandbox/calls").raise_for_status()

    def shift_clock(self, milliseconds: int) -> None:
        self._post("clock", {"offsetMs": milliseconds})

    def set_env(self, name: str, value: str | None) -> None:
        self._post("env", {"name": name, "value": value})

    def fault(self, function: str, kind: str, **details: Any) -> None:
        """Script one fault; see sandbox/convex-server/README.md."""
        self._post("faults", {"function": function, "kind": kind, **details})

    def clear_faults(self) -> None:
        self._http.delete("/sandbox/faults").raise_for_status()

    def pending_faults(self) -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = self._http.get("/sandbox/faults").json()
        return faults

    def restore_identity(self) -> None:
        """Let Convex know this deployment's worker again."""
        self.set_env("TRADE_SYNC_JWKS", self._jwks)

    def _post(self, what: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(f"/sandbox/{what}", json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None
