"""Settings: what is accepted, and that every problem is named at once, with a cure and without the value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from worker import log
from worker.connectors.ibkr_gateways import Gateway
from worker.errors import SettingsInvalid
from worker.identity import make_key_pair
from worker.settings import Settings, load_settings, table

KEY = make_key_pair().private_pem
GOOD = {"CONVEX_URL": "https://happy-otter-123.convex.cloud", "TRADE_SYNC_PRIVATE_KEY": KEY}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(("TRADE_SYNC_", "CONVEX_", "KRAKEN_", "IBKR_")):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def problems(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        load(monkeypatch, **environment)
    return caught.value.problems


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, **GOOD)
    assert settings.convex_url == "https://happy-otter-123.convex.cloud"
    assert settings.private_key_pem == KEY
    assert settings.secret is None
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8787)
    assert (settings.watch, settings.poll_seconds, settings.pool_size, settings.job_seconds) == (True, 30, 4, 600)
    assert (settings.log_style, settings.log_level) == ("json", "info")
    assert settings.kraken_base_url == "https://api.kraken.com"
    assert settings.ibkr_gateways == (Gateway("https://localhost:5000"),)
    assert settings.ibkr_oauth_url == "https://api.ibkr.com"
    assert settings.ibkr_oauth_keys is None


def test_every_value_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(KEY)
    settings = load(
        monkeypatch,
        CONVEX_URL="http://127.0.0.1:3210/",
        TRADE_SYNC_PRIVATE_KEY_FILE=str(file),
        TRADE_SYNC_SECRET="s" * 32,
        TRADE_SYNC_WORKER_ID="worker-1.eu",
        TRADE_SYNC_API_HOST="0.0.0.0",
        TRADE_SYNC_API_PORT="off",
        TRADE_SYNC_WATCH="false",
        TRADE_SYNC_POLL_SECONDS="0.5",
        TRADE_SYNC_POOL_SIZE="8",
        TRADE_SYNC_LOG_STYLE="console",
        TRADE_SYNC_LOG_LEVEL="debug",
        TRADE_SYNC_JOB_SECONDS="60",
        KRAKEN_BASE_URL="http://127.0.0.1:9999",
        IBKR_GATEWAYS=f"https://localhost:5000 https://gw.lan:5000#sha256={'AB' * 32};owner=https://issuer.example|u1",
        IBKR_OAUTH_URL="https://1.api.ibkr.com",
        IBKR_OAUTH_KEYS=str(tmp_path),
        IBKR_FLEX_URL="https://gdcdyn.interactivebrokers.com",
    )
    assert settings.convex_url == "http://127.0.0.1:3210"
    assert settings.private_key_pem == KEY
    assert settings.secret is not None
    assert settings.secret.get_secret_value() == "s" * 32
    assert settings.worker_id == "worker-1.eu"
    assert (settings.api_host, settings.api_port) == ("0.0.0.0", None)
    assert (settings.watch, settings.poll_seconds, settings.pool_size, settings.job_seconds) == (False, 0.5, 8, 60)
    assert (settings.log_style, settings.log_level) == ("console", "debug")
    assert settings.kraken_base_url == "http://127.0.0.1:9999"
    assert settings.ibkr_gateways == (
        Gateway("https://localhost:5000"),
        Gateway("https://gw.lan:5000", "ab" * 32, "https://issuer.example|u1"),
    )
    assert settings.ibkr_oauth_url == "https://1.api.ibkr.com"
    assert settings.ibkr_flex_url == "https://gdcdyn.interactivebrokers.com"
    assert settings.ibkr_oauth_keys == tmp_path


def test_workers_get_different_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, **GOOD).worker_id != load(monkeypatch, **GOOD).worker_id


def test_a_key_on_one_line_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, **{**GOOD, "TRADE_SYNC_PRIVATE_KEY": KEY.replace("\n", "\\n")}).private_key_pem == KEY


def test_nothing_set_names_both_missing_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(monkeypatch)
    assert [problem.split(" is missing")[0] for problem in found] == [
        "CONVEX_URL",
        "TRADE_SYNC_PRIVATE_KEY or TRADE_SYNC_PRIVATE_KEY_FILE",
    ]
    assert "trade-sync keys" in found[1]


def test_empty_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {name: "" for name, _, _ in table()}
    assert load(monkeypatch, **{**empty, **GOOD}).secret is None
    assert len(problems(monkeypatch, **empty)) == 2


def test_every_problem_is_named_at_once_and_no_value_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    canary = "CANARY-c4n4ry"
    wrong = {
        "CONVEX_URL": f"ftp://user:{canary}@example.com",
        "TRADE_SYNC_PRIVATE_KEY": f"-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----",
        "TRADE_SYNC_PRIVATE_KEY_FILE": str(tmp_path / canary),
        "TRADE_SYNC_SECRET": canary,
        "TRADE_SYNC_WORKER_ID": f"no spaces {canary}",
        "TRADE_SYNC_API_HOST": canary,
        "TRADE_SYNC_API_PORT": canary,
        "TRADE_SYNC_WATCH": canary,
        "TRADE_SYNC_POLL_SECONDS": canary,
        "TRADE_SYNC_POOL_SIZE": canary,
        "TRADE_SYNC_LOG_STYLE": canary,
        "TRADE_SYNC_LOG_LEVEL": canary,
        "TRADE_SYNC_JOB_SECONDS": canary,
        "KRAKEN_BASE_URL": f"https://{canary}.example.com",
        "IBKR_GATEWAYS": f"https://localhost:5000 https://user:{canary}@{canary}.example.com;owner={canary}",
        "IBKR_OAUTH_URL": f"https://api.ibkr.com@{canary}.example.com",
        "IBKR_OAUTH_KEYS": str(tmp_path / canary),
        "IBKR_FLEX_URL": f"https://{canary}.interactivebrokers.com",
    }
    assert wrong.keys() == {name for name, _, _ in table()}, "a setting has no bad value in this test"
    with pytest.raises(SettingsInvalid) as caught:
        load(monkeypatch, **wrong, TRADE_SYNC_SECRETS=canary)
    for name in (*wrong, "TRADE_SYNC_SECRETS"):
        assert any(problem.startswith(f"{name} ") for problem in caught.value.problems), name
    assert "both set" in str(caught.value)
    assert canary not in str(caught.value)
    assert caught.value.__context__ is None, "the chained error would show the values in a traceback"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TRADE_SYNC_SECRETT", "Did you mean TRADE_SYNC_SECRET?"),
        ("trade_sync_secret", "Did you mean TRADE_SYNC_SECRET?"),
        ("TRADE_SYNC_PRIVATE_KEYFILE", "Did you mean TRADE_SYNC_PRIVATE_KEY_FILE?"),
        ("IBKR_GATEWAY", "Did you mean IBKR_GATEWAYS?"),
        ("ibkr_oauth_key", "Did you mean IBKR_OAUTH_KEYS?"),
        ("IBKR_PASSWORD", "Unset it"),
        ("TRADE_SYNC_JWKS", "belongs to Convex"),
        ("TRADE_SYNC_URL", "belongs to Convex"),
        ("TRADE_SYNC_QQQQQQQQQQQQQQQQQ", "Unset it"),
    ],
)
def test_misspelt_names_are_problems(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    (problem,) = problems(monkeypatch, **GOOD, **{name: "whatever-value-this-is-of-32-chars"})
    assert problem.startswith(name)
    assert said in problem


@pytest.mark.parametrize(
    "url",
    [
        "http://happy-otter-123.convex.cloud",
        "https://happy-otter-123.convex.site",
        "https://user@happy-otter-123.convex.cloud",
        "https://happy-otter-123.convex.cloud/api",
        "https://happy-otter-123.convex.cloud?x=1",
        "http://192.168.1.5:3210",
        "http://[2001:db8::1]:3210",
        "http://2130706433:3210",
        "file:///etc/passwd",
        "happy-otter-123.convex.cloud",
        "https://",
        "https://host:port",
    ],
)
def test_convex_url_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (problem,) = problems(monkeypatch, **{**GOOD, "CONVEX_URL": url})
    assert problem.startswith("CONVEX_URL ")


@pytest.mark.parametrize(
    "url", ["https://convex.example.com:8443", "http://localhost:3210", "http://[::1]:3210", "http://backend:3210"]
)
def test_convex_url_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load(monkeypatch, **{**GOOD, "CONVEX_URL": url}).convex_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "http://api.kraken.com",
        "https://api.kraken.com.evil.example",
        "https://api.kraken.com@evil.example",
        "https://user@api.kraken.com",
        "https://api.kraken.com/0/public",
        "http://127.0.0.1.nip.io",
        "http://backend:80",
        "http://0.0.0.0:80",
        "http://10.0.0.1",
        "file:///etc/passwd",
    ],
)
def test_F7_the_broker_address_is_kraken_or_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (problem,) = problems(monkeypatch, **{**GOOD, "KRAKEN_BASE_URL": url})
    assert problem.startswith("KRAKEN_BASE_URL ")


@pytest.mark.parametrize(
    "url",
    [
        "https://3.api.ibkr.com",
        "http://api.ibkr.com",
        "https://api.ibkr.com:8443",
        "https://api.ibkr.com/v1/api",
        "https://api.ibkr.com.evil.example",
        "https://api.ibkr.com@evil.example",
        "https://user@api.ibkr.com",
        "https://localhost.evil.example",
        "http://169.254.169.254",
        "https://[fd00:ec2::254]",
        "https://[::ffff:127.0.0.1]:5000",
        "https://2130706433:5000",
        "https://0.0.0.0:5000",
        "file:///etc/passwd",
    ],
)
def test_F7_the_oauth_address_is_the_brokers_or_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (problem,) = problems(monkeypatch, **{**GOOD, "IBKR_OAUTH_URL": url})
    assert problem.startswith("IBKR_OAUTH_URL must be one of https://api.ibkr.com, ")


@pytest.mark.parametrize(
    "url", ["https://2.api.ibkr.com", "http://127.0.0.1:8080", "https://127.0.0.1:8080", "https://localhost:5000"]
)
def test_the_oauth_address_may_be_a_simulators(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load(monkeypatch, **{**GOOD, "IBKR_OAUTH_URL": url}).ibkr_oauth_url == url


@pytest.mark.parametrize(
    ("gateways", "said"),
    [
        ("https://gw.lan:5000", "entry 1: a gateway on another machine needs #sha256="),
        ("https://localhost:5000, http://gw.lan:5000", "entry 2: http is allowed on this machine only"),
        ("https://localhost:5000 https://127.0.0.1:5000", "entry 2: the same gateway is listed twice"),
        (",", "lists no gateway; the usual one is https://localhost:5000"),
    ],
)
def test_a_list_of_gateways_that_is_wrong_says_where(monkeypatch: pytest.MonkeyPatch, gateways: str, said: str) -> None:
    (problem,) = problems(monkeypatch, **{**GOOD, "IBKR_GATEWAYS": gateways})
    assert problem.startswith(f"IBKR_GATEWAYS {said}")
    assert problem.endswith(".")


def test_the_folder_of_oauth_keys_must_be_one_that_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "dhparam.pem"
    file.write_text("x")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for path in (tmp_path / "nowhere", file, *(() if os.geteuid() == 0 else (closed,))):
        (problem,) = problems(monkeypatch, **{**GOOD, "IBKR_OAUTH_KEYS": str(path)})
        assert problem.startswith("IBKR_OAUTH_KEYS is not a folder that the worker can read")
        assert str(tmp_path) not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRADE_SYNC_API_PORT", "65536"),
        ("TRADE_SYNC_API_PORT", "-1"),
        ("TRADE_SYNC_POOL_SIZE", "0"),
        ("TRADE_SYNC_POLL_SECONDS", "0"),
        ("TRADE_SYNC_POLL_SECONDS", "nan"),
        ("TRADE_SYNC_POLL_SECONDS", "inf"),
        ("TRADE_SYNC_JOB_SECONDS", "0"),
        ("TRADE_SYNC_WORKER_ID", "x" * 65),
        ("TRADE_SYNC_SECRET", "x" * 31),
        ("TRADE_SYNC_API_HOST", "example.com"),
    ],
)
def test_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    (problem,) = problems(monkeypatch, **GOOD, **{name: value})
    assert problem.startswith(f"{name} ")


def test_a_key_of_another_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (problem,) = problems(monkeypatch, **{**GOOD, "TRADE_SYNC_PRIVATE_KEY": pem.decode()})
    assert "P-256" in problem


def test_F1_secrets_are_protected_from_the_moment_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key_pair().private_pem
    secret = "sync-now/secret that is long enough+"
    settings = load(monkeypatch, **{**GOOD, "TRADE_SYNC_PRIVATE_KEY": key, "TRADE_SYNC_SECRET": secret})
    shown = repr(settings) + str(settings) + settings.model_dump_json()
    for part in (secret, *key.splitlines()[1:-1]):
        assert part not in shown
        assert part not in log.redact(f"it is {part}.")


def test_the_table_describes_every_setting() -> None:
    rows = table()
    assert len(rows) == len(Settings.model_fields) == len({name for name, _, _ in rows})
    assert all(meaning for _, _, meaning in rows)
    assert ("CONVEX_URL", "required") in [(name, default) for name, default, _ in rows]
    assert ("TRADE_SYNC_API_PORT", "8787") in [(name, default) for name, default, _ in rows]
