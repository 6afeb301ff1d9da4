"""Canary secrets of Interactive Brokers: OAuth keys and tokens, and what its answers say of person and machine.

They reach no log, no output, no table, no query, no metric and no command line (faults F1 and F2, reference ibkr 7.12).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.answers import Names
from sandbox.brokers.ibkr.inputs import NewFill, Quirks
from tests.support.canaries import Canaries, Scene, pem_body
from tests.support.daemon import Daemon, IbkrAccount, IbkrGateway, eventually
from tests.support.deployment import Client, Deployment

ACCOUNTS = {"gateway": "U7310042", "oauth": "DU8420153"}
ELSEWHERE = "U9530264"


def names_of(seed: str) -> dict[str, str]:
    """What a login's answers say of its session, machine and person."""
    names = Names.of_seed(seed)
    return {
        f"{seed} session id": names.session,
        f"{seed} MAC": names.mac,
        f"{seed} hardware": names.hardware,
        f"{seed} user name": names.user_name,
        f"{seed} user id": str(names.user_id),
        f"{seed} account title": "Sandbox Trader",
    }


class Stage(Scene):
    """A login behind a gateway and another one behind OAuth, with a connection each, and one that has no account."""

    def __init__(self, deployment: Deployment, gateway: IbkrGateway, oauth: IbkrGateway, user_token: str) -> None:
        self.gateway = gateway
        self.oauth = oauth
        consumer = oauth.simulator.oauth
        super().__init__(
            deployment,
            user_token,
            {
                "access token": consumer.access_token,
                "access token secret": consumer.access_token_secret,
                "secret in clear": oauth.simulator._authorised()._secret.hex(),
                "signature key": pem_body(consumer.signature_key),
                "encryption key": pem_body(consumer.encryption_key),
                **names_of("gateway"),
                **names_of("oauth"),
            },
            IBKR_GATEWAYS=gateway.address,
            IBKR_OAUTH_URL=oauth.address,
        )
        user = Client(deployment.address, f"Bearer {user_token}")
        by_gateway, by_oauth = gateway.simulator, oauth.simulator
        self.lines = (
            IbkrAccount(deployment, user, by_gateway, gateway.auth, account=ACCOUNTS["gateway"]),
            IbkrAccount(deployment, user, by_oauth, oauth.oauth, account=ACCOUNTS["oauth"]),
        )
        self.stray = IbkrAccount(deployment, user, by_gateway, gateway.auth, account=ELSEWHERE)

    def also_live_token(self) -> None:
        """From now on also look for the token that the worker has agreed on with the broker."""
        live = self.oauth.simulator._authorised()._live
        assert live is not None
        token = {
            "live session token": live.token.hex(),
            "live session token, base64": base64.b64encode(live.token).decode(),
        }
        self.canaries = Canaries({**self.canaries.secrets, **token})


@pytest.fixture
def stage() -> Iterator[Stage]:
    with (
        Deployment() as deployment,
        IbkrGateway(seed="gateway", trades=15, accounts=(ACCOUNTS["gateway"],)) as gateway,
        IbkrGateway(seed="oauth", trades=15, accounts=(ACCOUNTS["oauth"],), logged_in=False) as oauth,
    ):
        for login in (gateway, oauth):
            login.simulator.quirks = Quirks(priming=False)
        yield Stage(deployment, gateway, oauth, deployment.mint("canary-owner"))


def repeat_in_rows(stage: Stage) -> None:
    """Trades whose fields repeat the secrets: read ones and unreadable ones. All of them name who submitted them."""
    consumer = stage.oauth.simulator.oauth
    secret, key = consumer.access_token_secret, pem_body(consumer.signature_key)[:192]
    repeated: list[dict[str, Any]] = [
        {"order_ref": consumer.access_token},
        {"order_ref": f"{secret},closing", "company_name": key},
        {"echo": {"headers": [{"Authorization": f'oauth_token="{consumer.access_token}"'}], secret: key}},
        {"size": secret},
        {"side": f"{consumer.access_token}{secret}"},
        {"trade_time_r": secret, "trade_time": None},
    ]
    for number, row in enumerate(repeated):
        for login in (stage.gateway, stage.oauth):
            login.simulator.book(NewFill(ago_seconds=600 + number, overrides=row))


def plant_faults(stage: Stage, style: str) -> int:
    """Answers that hold the secrets go wrong; the real answer is in every one of them. Returns how many there are."""
    consumer = stage.oauth.simulator.oauth
    canary = f"{consumer.access_token_secret} {consumer.access_token}"
    faults = {
        "json": (
            [Fault(path="tickle", status=503), Fault(path="accounts", truncate=700)],
            [Fault(path="tickle", truncate=160), Fault(path="live_session_token", status=500, echo=canary)],
        ),
        "console": (
            [Fault(path="tickle", truncate=160), Fault(path="auth/status", status=500)],
            [Fault(path="tickle", status=500, echo=canary), Fault(path="accounts", status=502, body=f"<html>{canary}")],
        ),
    }[style]
    for login, planted in zip((stage.gateway, stage.oauth), faults, strict=True):
        login.simulator.faults.plant(*planted)
    return sum(map(len, faults))


def struck(stage: Stage) -> int:
    return sum(
        call.outcome.startswith("fault")
        for login in (stage.gateway, stage.oauth)
        for call in login.simulator.audit.calls
    )


@pytest.mark.parametrize("style", ["json", "console"])
def test_F1_F2_no_secret_of_a_login_leaves_the_worker(stage: Stage, tmp_path: Path, style: str) -> None:
    repeat_in_rows(stage)
    faults = plant_faults(stage, style)
    with Daemon(
        stage.deployment, None, tmp_path, module="tests.support.hasty_worker",
        IBKR_GATEWAYS=stage.gateway.address, IBKR_OAUTH_URL=stage.oauth.address,
        TRADE_SYNC_LOG_STYLE=style, TRADE_SYNC_LOG_LEVEL="debug",
    ) as daemon:  # fmt: skip
        eventually(
            lambda: all(line.ended_jobs() for line in (*stage.lines, stage.stray)), within=30, what="the jobs ended"
        )
        eventually(lambda: struck(stage) == faults, within=20, what="the keepalive met its faults")
        daemon.wait_ready()
        metrics = httpx.get(f"{daemon.address}/metrics").text
        command_lines = "\n".join(daemon.command_lines())
    for line in stage.lines:
        assert [job["status"] for job in line.jobs()] == ["partial"], line.jobs()
        # Read are the 15, the odd references and companies, and the echo.
        assert (len(line.stored()), len(line.rejects())) == (18, 3)
    status, printed = stage.sync()
    assert status == 2, printed  # the stray one needs another login
    log_text = daemon.log_file.read_text()
    for table in ("externalExecutions", "importRejects"):
        assert "[redacted]" in json.dumps(stage.deployment.documents(table))
    stage.also_live_token()
    stage.assert_clean(("log", log_text), ("metrics", metrics), ("command lines", command_lines), ("sync", printed))
    # Account ids are for their owners: the sentence in Convex names the account, the log tells it apart at most.
    assert ELSEWHERE in stage.stray.connection()["problem"]["sentence"]
    assert "U…64" in log_text.replace("\\u2026", "…")
    for account in (*ACCOUNTS.values(), ELSEWHERE):
        assert account not in log_text
        assert account not in metrics
        assert account not in command_lines
