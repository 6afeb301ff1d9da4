"""The log's two promises: no secret leaves through it, and no text forges a line of it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog

from worker import log
from worker.clock import SystemClock
from worker.identity import Identity, make_key_pair
from worker.models import KrakenAuth

CANARY = "canary/4pi+s3cret==value"
PAIR = make_key_pair()
TOKEN = Identity(PAIR.private_pem, SystemClock()).token()
Capture = Callable[[Literal["json", "console"]], io.StringIO]


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """Configures the log and hands out what it writes."""
    log.protect(CANARY)
    root = logging.getLogger()
    before = list(root.handlers), root.level

    def start(style: Literal["json", "console"]) -> io.StringIO:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure(style=style, level="debug")
        return stream

    yield start
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


class Carrier:
    """Something whose text holds a secret, such as a request or a client."""

    def __repr__(self) -> str:
        return f"Carrier(api_secret={CANARY})"


def raising() -> None:
    cause = ValueError(f"the broker said: bad key {CANARY}")
    raise RuntimeError(f"Authorization: Bearer {TOKEN}") from cause


def by_exception(logger: Any) -> None:
    try:
        raising()
    except RuntimeError:
        logger.exception("broker.failed")


PLACES: dict[str, Callable[[Any], object]] = {
    "event": lambda logger: logger.info(f"sent {CANARY}"),
    "field": lambda logger: logger.info("sent", note=CANARY),
    "name of the field": lambda logger: logger.info("sent", **{f"x{CANARY}": 1}),
    "inside a text": lambda logger: logger.info("sent", url=f"https://host/0/private?key={CANARY}&x=1"),
    "URL-encoded": lambda logger: logger.info("sent", url="https://host/?k=canary%2F4pi%2Bs3cret%3D%3Dvalue"),
    "deep": lambda logger: logger.info("sent", body={"rows": [{"why": ("x", {CANARY})}]}),
    "key of a mapping": lambda logger: logger.info("sent", body={CANARY: 1}),
    "bytes": lambda logger: logger.info("sent", body=CANARY.encode()),
    "bytes in a list": lambda logger: logger.info("sent", body=[CANARY.encode()]),
    "object": lambda logger: logger.info("sent", client=Carrier()),
    "object in a list": lambda logger: logger.info("sent", clients=[Carrier()]),
    "credentials": lambda logger: logger.info(
        "sent", auth=KrakenAuth(kind="kraken", api_key="unregistered-key-1", api_secret="unregistered-secret-1")
    ),
    "by the field's name": lambda logger: logger.info(
        "sent", **{"API-Sign": "unregistered-sign-1", "headers": {"Cookie": "unregistered-cookie-1"}}
    ),
    "error": lambda logger: logger.error("failed", error=ValueError(CANARY)),
    "traceback": by_exception,
    "bound": lambda logger: logger.bind(session=CANARY).info("sent"),
    "token": lambda logger: logger.info("sent", header=f"Bearer {TOKEN}", other=TOKEN),
    "private key": lambda logger: logger.info("sent", text=f"key: {PAIR.private_pem} end"),
    "cut private key": lambda logger: logger.info("sent", text=PAIR.private_pem[:120]),
    "Flex token": lambda logger: logger.info("sent", url="https://host/SendRequest?t=unregistered-flex-1&q=2&v=3"),
}
SECRETS = (
    CANARY,
    "canary%2F4pi%2Bs3cret%3D%3Dvalue",
    TOKEN,
    TOKEN.rsplit(".", 1)[1],
    *PAIR.private_pem.splitlines()[1:-1],
    PAIR.private_pem[40:100],
    "unregistered",
)


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("place", PLACES)
def test_F1_a_planted_secret_appears_in_no_line(
    capture: Capture, style: Literal["json", "console"], place: str
) -> None:
    stream = capture(style)
    PLACES[place](log.get("test"))
    written = stream.getvalue()
    assert written
    for secret in SECRETS:
        assert secret not in written


@pytest.mark.parametrize("style", ["json", "console"])
def test_F1_nor_through_a_library_that_logs(capture: Capture, style: Literal["json", "console"]) -> None:
    stream = capture(style)
    library = logging.getLogger("urllib3.connectionpool")
    library.warning("retrying %s with %s", f"https://host/?key={CANARY}", {"x": CANARY})
    try:
        raising()
    except RuntimeError:
        library.exception("gave up on %s", CANARY)
    written = stream.getvalue()
    assert "retrying" in written
    assert "gave up" in written
    for secret in SECRETS:
        assert secret not in written


def test_F2_texts_on_their_way_to_convex_are_redacted_too() -> None:
    log.protect(CANARY)
    echoed = json.dumps(
        {"error": [f"EAPI:Invalid key:{CANARY}"], "url": f"https://host/?t=flex-token-1&Bearer {TOKEN}"}
    )
    redacted = log.redact(echoed)
    assert CANARY not in redacted
    assert TOKEN not in redacted
    assert "flex-token-1" not in redacted
    assert "EAPI:Invalid key:" in redacted


@pytest.mark.parametrize("secret", [None, "", "abc", "12345"])
def test_short_texts_are_not_protected(secret: str | None) -> None:
    log.protect(secret)
    assert log.redact("abc 12345 stays") == "abc 12345 stays"


def test_a_secret_that_contains_another_is_replaced_whole() -> None:
    log.protect("inner-canary", "outer-inner-canary-tail")
    assert log.redact("<outer-inner-canary-tail>") == f"<{log.REDACTED}>"


HOSTILE = {
    "newline": 'BTC\n{"event":"forged"}',
    "carriage return": "BTC\r2026-01-01 forged",
    "ANSI": "BTC\x1b[2K\x1b[1A\x1b[31mforged",
    "C1 control": "BTC\x9b2Kforged",
    "line separator": "BTC\u2028forged\u2029",
    "right-to-left override": "BTC\u202eforged\u2066",
    "NUL and DEL": "BTC\x00\x7fforged",
}


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_F11_broker_text_makes_one_line_without_control_characters(
    capture: Capture, style: Literal["json", "console"], text: str
) -> None:
    stream = capture(style)
    logger = log.get("test")
    logger.warning("row.rejected", symbol=text, nested={"note": text}, listed=[text], **{f"k{text}": 1})
    logging.getLogger("library").warning("said %s", text)
    written = stream.getvalue()
    lines = written.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert not [char for line in lines for char in line if not " " <= char <= "~"]
    if style == "json":
        assert [json.loads(line)["event"].split(" ")[0] for line in lines] == ["row.rejected", "said"]


def test_F11_a_traceback_is_one_line_too(capture: Capture) -> None:
    stream = capture("json")
    by_exception(log.get("test"))
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "broker.failed"
    assert "RuntimeError" in event["exception"]


MASKED = {
    "U1234567": "U…67",
    "DU7654321": "DU…21",
    "F123456": "F…56",
    "DF1111122": "DF…22",
    "I4033": "I…33",
    "U123456789": "U…89",
}
NO_ACCOUNTS = (
    "U123",
    "U1234567890",
    "u1234567",
    "ABC1234567",
    "XU1234567A",
    "AAPL261218C00190000",
    "0000e0d5.65412345.01.01",
    "TGX3SH-AAAAA-U4567H",
    "2026-11-23T04:17:24.123456Z",
    "k57DU1234567bcdefgh",
)


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("account", MASKED)
def test_I7_an_account_id_is_masked_wherever_it_stands_in_an_event(
    capture: Capture, style: Literal["json", "console"], account: str
) -> None:
    stream = capture(style)
    logger = log.get("test").bind(bound=account)
    logger.warning(
        f"read {account}",
        sentence=f"Account {account}, which nobody imports. Log in as ({account}).",
        url=f"https://localhost:5000/v1/api/iserver/account/trades?days=7&accountId={account}",
        nested={account: [{"accountCode": account}, (f"{account}_x",)]},
        body=f'{{"accounts":["{account}"]}}'.encode(),
        error=ValueError(account),
        **{account: 1},
    )
    logging.getLogger("library").warning("asked for %s", account)
    logger.error("failed", exc_info=RuntimeError(account))
    written = stream.getvalue()
    assert account not in written
    if style == "json":
        first, said, failed = (json.loads(line) for line in written.splitlines())
        mask = MASKED[account]
        assert first["event"] == f"read {mask}"
        assert first["sentence"] == f"Account {mask}, which nobody imports. Log in as ({mask})."
        assert first["url"].endswith(f"trades?days=7&accountId={mask}")
        assert first["nested"] == {mask: [{"accountCode": mask}, [f"{mask}_x"]]}
        assert said["event"] == f"asked for {mask}"
        assert f"RuntimeError: {mask}" in failed["exception"]


@pytest.mark.parametrize("text", NO_ACCOUNTS)
def test_what_only_resembles_an_account_id_is_logged_as_it_is(capture: Capture, text: str) -> None:
    stream = capture("json")
    log.get("test").info("read", text=text)
    assert json.loads(stream.getvalue())["text"] == text


def test_an_account_id_is_masked_in_the_log_only() -> None:
    # Its owner reads it in the sentences that pass `redact` on their way to Convex.
    assert log.redact("Account U1234567 is not under this login.") == "Account U1234567 is not under this login."


def test_lines_go_to_stderr_and_carry_the_bound_ids(capture: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    stream = capture("json")
    with structlog.contextvars.bound_contextvars(job_id="job-1"):
        log.get("worker.sync").info("sync.finished", rows=3)
    event = json.loads(stream.getvalue())
    assert {name: event[name] for name in ("event", "rows", "job_id", "module", "level")} == {
        "event": "sync.finished",
        "rows": 3,
        "job_id": "job-1",
        "module": "worker.sync",
        "level": "info",
    }
    assert capsys.readouterr().out == ""
