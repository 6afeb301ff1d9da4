"""`trade-sync` as a person types it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.simulator import KeyChange
from sandbox.processes import ROOT
from tests.support.daemon import Account, kraken_server
from tests.support.deployment import SECRET, Deployment
from worker.identity import make_key_pair

Sync = Callable[..., subprocess.CompletedProcess[str]]


def trade_sync(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRADE_SYNC_", "CONVEX_"))}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


class Desk:
    """A deployment with nobody's daemon, and a terminal."""

    def __init__(self, deployment: Deployment, stack: ExitStack) -> None:
        self.deployment = deployment
        self._stack = stack
        self._address = ""

    def account(self, **setup: Any) -> Account:
        kraken, server = kraken_server(**setup)
        self._stack.enter_context(server)
        self._address = server.address
        return Account(self.deployment, server, kraken, self.deployment.user())

    def sync(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return trade_sync(
            "sync",
            *arguments,
            env={
                "CONVEX_URL": self.deployment.address,
                "KRAKEN_BASE_URL": self._address,
                "TRADE_SYNC_PRIVATE_KEY": self.deployment.private_key,
                "TRADE_SYNC_SECRET": SECRET,
                **env,
            },
        )


@pytest.fixture
def desk() -> Iterator[Desk]:
    with ExitStack() as stack, Deployment() as deployment:
        yield Desk(deployment, stack)


def test_sync_runs_what_is_due_once_and_says_so(desk: Desk) -> None:
    here = desk.account(trades=30, seed="cli")
    done = desk.sync()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "succeeded: 30 fetched, 30 inserted, 0 updated, 0 known, 0 held, 0 rejected" in done.stdout
    assert here.stored() == here.truth()
    again = desk.sync()
    assert (again.returncode, again.stdout) == (0, "nothing is due (1 connection)\n")


def test_sync_all_ignores_due_times(desk: Desk) -> None:
    here = desk.account(trades=5, seed="all")
    desk.sync()
    done = desk.sync("--all")
    assert done.returncode == 0
    assert "succeeded" in done.stdout
    assert len(here.jobs()) == 2


def test_sync_of_a_long_history_goes_on_until_it_is_read(desk: Desk) -> None:
    here = desk.account(trades=60, seed="long")
    done = desk.sync(TRADE_SYNC_JOB_SECONDS="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("succeeded") > 1
    assert here.stored() == here.truth()


def test_sync_of_a_connection_that_was_mended_does_not_complain(desk: Desk) -> None:
    here = desk.account(trades=5, seed="mended")
    here.kraken.change_key(KeyChange(permissions=["query-closed-trades", "withdraw-funds"]))
    assert desk.sync().returncode == 2
    here.kraken.change_key(KeyChange(permissions=["query-closed-trades"]))
    done = desk.sync("--connection", here.connection_id)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stdout


def test_sync_exits_2_when_convex_does_not_know_the_worker(desk: Desk) -> None:
    desk.account(trades=5, seed="stranger")
    done = desk.sync(TRADE_SYNC_PRIVATE_KEY=make_key_pair().private_pem)
    assert done.returncode == 2
    assert "TRADE_SYNC_JWKS" in done.stderr


def test_sync_exits_1_when_something_failed(desk: Desk) -> None:
    here = desk.account(trades=5, seed="fails")
    here.kraken.faults.plant(Fault(status=502, html=True, times=None))
    done = desk.sync()
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "Kraken cannot answer at the moment" in done.stdout


def test_sync_exits_2_while_a_person_must_act(desk: Desk) -> None:
    here = desk.account(trades=5, seed="revoked")
    here.kraken.change_key(KeyChange(revoke=True))
    done = desk.sync()
    assert done.returncode == 2
    assert "blocked_reauth" in done.stdout
    # Not tried again, and not forgotten.
    calls = len(here.kraken.audit.calls)
    again = desk.sync()
    assert again.returncode == 2
    assert "needs new credentials" in again.stdout
    assert len(here.kraken.audit.calls) == calls


def test_sync_of_a_connection_that_is_not_there(desk: Desk) -> None:
    desk.account(seed="none")
    done = desk.sync("--connection", "nobody")
    assert done.returncode == 1
    assert "there is no connection nobody" in done.stderr


def test_sync_when_convex_is_away(desk: Desk) -> None:
    here = desk.account(trades=5, seed="away")
    done = desk.sync(CONVEX_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("trade-sync: ")
    assert "Traceback" not in done.stderr
    assert here.kraken.audit.calls == []


@pytest.mark.parametrize("command", ["run", "sync"])
def test_every_bad_setting_is_named_at_once(command: str) -> None:
    done = trade_sync(
        command,
        env={
            "CONVEX_URL": "http://example.com",
            "TRADE_SYNC_SECRET": "short",
            "TRADE_SYNC_API_PORT": "70000",
            "KRAKEN_BASE_URL": "http://169.254.169.254",
            "TRADE_SYNC_POOLSIZE": "4",
        },
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for name in (
        "CONVEX_URL",
        "TRADE_SYNC_PRIVATE_KEY",
        "TRADE_SYNC_SECRET",
        "TRADE_SYNC_API_PORT",
        "KRAKEN_BASE_URL",
        "TRADE_SYNC_POOLSIZE",
    ):
        assert name in done.stderr
    assert all(line.startswith("trade-sync: ") for line in done.stderr.splitlines())


def test_keys_prints_two_commands_and_hides_the_key(tmp_path: Path) -> None:
    out = tmp_path / "key.pem"
    done = trade_sync("keys", "--out", str(out))
    assert done.returncode == 0
    assert "npx convex env set TRADE_SYNC_JWKS" in done.stdout
    assert "TRADE_SYNC_PRIVATE_KEY_FILE" in done.stdout
    assert "PRIVATE KEY-----" not in done.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    refused = trade_sync("keys", "--out", str(out))
    assert refused.returncode == 2
    assert "exists already" in refused.stderr


def test_parse_prints_executions_rejects_and_one_report(tmp_path: Path) -> None:
    file = tmp_path / "trades.json"
    row = {
        "ordertxid": "OQCLML-BW3P3-BUCMWZ", "pair": "XXBTZUSD", "time": 1700000000.25, "type": "buy",
        "ordertype": "limit", "price": "30010.00000", "cost": "600.20000", "fee": "0.96", "vol": "0.02000000",
        "margin": "0.00000", "misc": "",
    }  # fmt: skip
    rows = {"TAAAAA-AAAAA-AAAAAA": row, "TAAAAA-AAAAA-AAAAAB": {**row, "type": "swap"}}
    file.write_text(json.dumps({"error": [], "result": {"trades": rows, "count": 2}}))
    done = trade_sync("parse", "kraken-trades", str(file), "--account", "ACC")
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(line["type"] for line in lines[:-1]) == ["execution", "reject"]
    assert lines[-1] | {"warnings": []} == {
        "type": "report", "rows": 2, "executions": 1, "rejects": 1, "warnings": [],
    }  # fmt: skip
    (execution,) = [line for line in lines if line["type"] == "execution"]
    assert execution["externalExecutionId"] == "TAAAAA-AAAAA-AAAAAA"
    assert execution["occurredAt"] == 1_700_000_000_250
    assert (execution["symbol"], execution["quantity"], execution["price"]) == ("BTC/USD", "0.02", "30010")
    assert execution["accountRef"] == "ACC"


@pytest.mark.parametrize(
    "content", ['{"error":["EAPI:Invalid key"]}', "<html>no</html>", "", "{", '{"error":[]}'], ids=repr
)
def test_parse_of_an_unusable_file_is_one_line_and_exit_1(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    done = trade_sync("parse", "kraken-trades", str(file), "--account", "ACC")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("trade-sync: ")


def test_parse_of_a_missing_file_is_one_line_and_exit_1(tmp_path: Path) -> None:
    done = trade_sync("parse", "kraken-trades", str(tmp_path / "none.json"), "--account", "ACC")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
