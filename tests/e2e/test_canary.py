"""Canary secrets in every place a secret has, and a broker that repeats them: they reach nothing (faults F1, F2)."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.simulator import KeyChange, NewFill
from tests.support.canaries import Canaries, Scene
from tests.support.daemon import Account, Daemon, eventually, kraken_server
from tests.support.deployment import Client, Deployment
from worker.clock import SystemClock
from worker.identity import Identity, KeyPair
from worker.models import KrakenAuth
from worker.settings import Settings

OTP = "canary/otp+7f3a91c25d"


class Stage(Scene):
    """An account whose key needs a second factor."""

    def __init__(self, deployment: Deployment, account: Account, user_token: str) -> None:
        self.account = account
        self.kraken = account.kraken
        key = self.kraken.key
        super().__init__(
            deployment,
            user_token,
            {"API key": key.key, "API secret": key.secret, "second factor": OTP},
            KRAKEN_BASE_URL=account.server.address,
        )


@pytest.fixture
def stage() -> Iterator[Stage]:
    kraken, server = kraken_server(trades=20, seed="canary", otp=OTP)
    with Deployment() as deployment, server:
        token = deployment.mint("canary-owner")
        user = Client(deployment.address, f"Bearer {token}")
        account = Account(deployment, server, kraken, user, otp=OTP)
        yield Stage(deployment, account, token)


def repeating_rows(secrets: Mapping[str, str]) -> list[NewFill]:
    """Trades whose fields repeat the secrets: read ones and unreadable ones."""
    key, secret = secrets["API key"], secrets["API secret"]
    repeated: list[dict[str, Any]] = [
        {"misc": key},
        {"misc": f"{secret},closing"},
        {"ordertxid": secret},
        {"pair": key},
        {"aclass": secret},
        {"echo": {"headers": [{"API-Key": key}, f"otp={urllib.parse.quote(OTP)}"], secret: key}},
        {"vol": secret},
        {"type": f"{key}{secret}"},
        {"time": f"{OTP}{key}"},
    ]
    return [NewFill(ago_seconds=600 + number, overrides=row) for number, row in enumerate(repeated)]


def test_F1_the_scanner_finds_what_it_looks_for() -> None:
    canaries = Canaries({"key": "abc/def+ghi=jklmnopqrstuvwx"})
    encoded = base64.b64encode(b"abc/def+ghi=jkl").decode()
    for text in ("…abc/def+ghi=jklm…", "ghi%3Djklmnopqrstuv", "abc\\/def+ghi=jklm", encoded):
        assert canaries.found_in(f"before {text} after") == {"key"}, text
    assert canaries.found_in("abc/def+ghi=jk and nothing more") == set()
    names = Canaries({"user name": "demo1234"})
    assert names.found_in('{"submitter":"demo1234"}') == {"user name"}
    assert names.found_in("submitter=demo12345, xdemo1234") == set()


@pytest.mark.parametrize("style", ["json", "console"])
def test_F1_F2_no_secret_leaves_the_daemon(stage: Stage, tmp_path: Path, style: str) -> None:
    secrets = stage.canaries.secrets
    key, secret = secrets["API key"], secrets["API secret"]
    for fill in repeating_rows(secrets):
        stage.kraken.book(fill)
    faults = {
        "json": [
            Fault(path="TradesHistory", echo=f"{secret} {OTP}"),
            Fault(path="TradesHistory", call=2, body='{"error": ["' + f"{key} {secret} ".replace("/", "\\/") * 9),
        ],
        "console": [Fault(path="TradesHistory", status=502, body=f"<html>{key}{secret * 7}", headers={"X-Echo": key})],
    }[style]
    stage.kraken.faults.plant(*faults)
    with Daemon(
        stage.deployment, stage.account.server.address, tmp_path,
        TRADE_SYNC_LOG_STYLE=style, TRADE_SYNC_LOG_LEVEL="debug",
    ) as daemon:  # fmt: skip
        eventually(stage.account.ended_jobs, within=30, what="the job ended")
        daemon.wait_ready()
        metrics = httpx.get(f"{daemon.address}/metrics").text
        command_lines = "\n".join(daemon.command_lines())
    assert "worker/subscription.py" in command_lines
    (job,) = stage.account.jobs()
    assert job["status"] == "partial", job
    assert job["stats"]["rejected"] == 3
    struck = [call for call in stage.kraken.audit.calls if call.outcome.startswith("fault")]
    assert len(struck) == len(faults)
    log_text = daemon.log_file.read_text()
    assert "[redacted]" in log_text
    assert "[redacted]" in json.dumps(stage.deployment.documents("externalExecutions"))
    assert "[redacted]" in json.dumps(stage.deployment.documents("importRejects"))
    stage.assert_clean(("log", log_text), ("metrics", metrics), ("command lines", command_lines))


def test_F1_F2_no_secret_leaves_a_single_sync(stage: Stage) -> None:
    secrets = stage.canaries.secrets
    key, secret = secrets["API key"], secrets["API secret"]
    said = []
    for fault in (
        Fault(path="TradesHistory", error=f"EGeneral:Invalid arguments:{secret} {key} " * 4),
        Fault(path="TradesHistory", status=418, body=f"{key} {secret}"),
        Fault(path="SystemStatus", redirect=f"https://elsewhere.example/{urllib.parse.quote(key, safe='')}"),
        Fault(path="TradesHistory", error=f"EAPI:Invalid key:{key} {secret} {OTP}"),
    ):
        stage.kraken.faults.clear()
        stage.kraken.faults.plant(fault)
        status, text = stage.sync()
        assert status != 0
        said.append(text)
    assert stage.kraken.faults.pending() == []
    stage.kraken.change_key(KeyChange(permissions=["query-closed-trades", secret, f"new-{key}"]))
    _, text = stage.sync()
    assert "succeeded" in text, text
    assert "[redacted]" in json.dumps(stage.deployment.documents("importCursorState")), "the notice was kept"
    stage.assert_clean(*((f"run {number}", text) for number, text in enumerate((*said, text))))


def test_F1_no_secret_in_a_repr(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stage.env.items():
        monkeypatch.setenv(name, value)
    key = stage.kraken.key
    auth = KrakenAuth(kind="kraken", api_key=key.key, api_secret=key.secret, otp=OTP)
    lease = stage.deployment.store().claim(stage.account.connection_id, "manual")
    shown = [
        auth,
        lease,
        Settings(),
        Identity(stage.deployment.private_key, SystemClock()),
        KeyPair(stage.deployment.private_key, "data:"),
        stage.deployment.store(),
    ]
    for thing in shown:
        assert stage.canaries.found_in(f"{thing!r} {thing}") == set(), type(thing)
        assert stage.canaries.found_in(repr(ValueError(thing))) == set(), type(thing)
