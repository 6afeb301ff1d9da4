"""The worker's settings: read once from the environment, every problem named at once.

A message never repeats a value: it may be a secret that landed under the wrong name.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker import log
from worker.connectors import ibkr_flex, ibkr_gateways, ibkr_oauth, kraken
from worker.connectors.ibkr_gateways import Gateway, parse_gateways
from worker.errors import SettingsInvalid
from worker.http import check_base_url, is_loopback

_PREFIXES = ("TRADE_SYNC_", "IBKR_")
_SECRET_LENGTH = 32
# A single word is a service on a container network (compose.yaml), never a public host.
_SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_KEY_HELP = "`trade-sync keys` makes one"


def _origin(text: str) -> tuple[str, str, str]:
    """(scheme, host, the address without a trailing slash) of an address that is nothing but an origin."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not an address") from None
    if not host or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must be an address like https://host, without user, path or query")
    shown = f"[{host}]" if ":" in host else host
    return parts.scheme, host, f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


def _convex_url(text: str) -> str:
    scheme, host, origin = _origin(text)
    if host.endswith(".convex.site"):
        raise ValueError("is the address of HTTP actions; use the one that ends in .convex.cloud")
    if scheme == "https" or (scheme == "http" and (is_loopback(host) or _SERVICE_NAME.fullmatch(host))):
        return origin
    raise ValueError("must begin with https:// (http:// only for this machine or a container network)")


def _kraken_url(text: str) -> str:
    try:
        return check_base_url(text, (kraken.HOST,), loopback=True)
    except ValueError:
        raise ValueError(f"must be {kraken.BASE_URL}, or http:// on this machine for the simulator") from None


def _ibkr_oauth_url(text: str) -> str:
    try:
        return check_base_url(text, ibkr_oauth.HOSTS, loopback=True)
    except ValueError:
        hosts = ", ".join(f"https://{host}" for host in ibkr_oauth.HOSTS)
        raise ValueError(f"must be one of {hosts}, or on this machine for the simulator") from None


def _ibkr_flex_url(text: str) -> str:
    try:
        return ibkr_flex.check_flex_url(text)
    except ValueError:
        hosts = " or ".join(f"https://{host}" for host in ibkr_flex.HOSTS)
        raise ValueError(f"must be {hosts}, or on this machine for the simulator") from None


def _gateways(text: object) -> object:
    return parse_gateways(text) if isinstance(text, str) else text


def _readable_folder(path: Path) -> Path:
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise ValueError("is not a folder that the worker can read; check the path and its permissions")
    return path


def _ec_key(secret: SecretStr) -> SecretStr:
    # .env files and dashboards often hold a PEM on one line, with \n for its line ends.
    pem = secret.get_secret_value().replace("\\n", "\n").strip() + "\n"
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"is not a readable private key in PEM form; {_KEY_HELP}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"is not an EC key on the curve P-256; {_KEY_HELP}")
    return SecretStr(pem)


def _file_content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        raise ValueError("names a file that the worker cannot read; check the path and its permissions") from None


def _long_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _SECRET_LENGTH:
        raise ValueError(f"is shorter than {_SECRET_LENGTH} characters; make one with `openssl rand -hex 32`")
    return secret


def _bind_host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if text == "localhost":
            return text
        raise ValueError("must be an IP address of this machine: 127.0.0.1, or 0.0.0.0 for every interface") from None


def _off(value: object) -> object:
    return None if value == "off" else value


def _worker_id() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:40] or "worker"
    return f"{host}-{secrets.token_hex(3)}"


class Settings(BaseSettings):
    """One field a variable. The descriptions are the README's table."""

    model_config = SettingsConfigDict(
        frozen=True, case_sensitive=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    convex_url: Annotated[str, AfterValidator(_convex_url)] = Field(
        validation_alias="CONVEX_URL",
        description="Address of the Convex deployment, `https://….convex.cloud`",
    )
    private_key_value: Annotated[SecretStr, AfterValidator(_ec_key)] | None = Field(
        default=None,
        validation_alias="TRADE_SYNC_PRIVATE_KEY",
        description="The worker's private key in PEM form, from `trade-sync keys`; this or the file, not both",
    )
    private_key_from_file: Annotated[SecretStr, BeforeValidator(_file_content), AfterValidator(_ec_key)] | None = Field(
        default=None,
        validation_alias="TRADE_SYNC_PRIVATE_KEY_FILE",
        description="A file that holds the private key",
    )
    secret: Annotated[SecretStr, AfterValidator(_long_secret)] | None = Field(
        default=None,
        validation_alias="TRADE_SYNC_SECRET",
        description="Shared with Convex, signs Sync now requests, at least 32 characters; without it they are refused",
    )
    worker_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        default_factory=_worker_id,
        validation_alias="TRADE_SYNC_WORKER_ID",
        description="Name of this worker in jobs and heartbeats, up to 64 letters, digits, `.`, `_` and `-`",
        json_schema_extra={"default": "host name and a random suffix"},
    )
    api_host: Annotated[str, AfterValidator(_bind_host)] = Field(
        default="127.0.0.1",
        validation_alias="TRADE_SYNC_API_HOST",
        description="Address that Sync now, health and metrics listen on",
    )
    api_port: Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_off)] = Field(
        default=8787,
        validation_alias="TRADE_SYNC_API_PORT",
        description="Port of the same, 0 to 65535; `0` takes a free one, `off` opens none",
    )
    watch: bool = Field(
        default=True,
        validation_alias="TRADE_SYNC_WATCH",
        description="`true` or `false`: hear of Sync now through a Convex subscription",
    )
    poll_seconds: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        default=30,
        validation_alias="TRADE_SYNC_POLL_SECONDS",
        description="How often the worker asks Convex what is due, 0.1 to 3600 seconds",
    )
    pool_size: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4,
        validation_alias="TRADE_SYNC_POOL_SIZE",
        description="Connections synced at the same time, 1 to 64",
    )
    job_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=600,
        validation_alias="TRADE_SYNC_JOB_SECONDS",
        description="Longest slice of one job, 1 to 3600 seconds; a long first import goes on in the next one",
    )
    log_style: Literal["json", "console"] = Field(
        default="json",
        validation_alias="TRADE_SYNC_LOG_STYLE",
        description="`json` or `console`",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        validation_alias="TRADE_SYNC_LOG_LEVEL",
        description="`debug`, `info`, `warning` or `error`",
    )
    kraken_base_url: Annotated[str, AfterValidator(_kraken_url)] = Field(
        default=kraken.BASE_URL,
        validation_alias="KRAKEN_BASE_URL",
        description=f"Only `{kraken.BASE_URL}`, or the simulator on this machine",
    )
    ibkr_gateways: Annotated[tuple[Gateway, ...], NoDecode, BeforeValidator(_gateways)] = Field(
        default=parse_gateways(ibkr_gateways.DEFAULT),
        validation_alias=ibkr_gateways.SETTING,
        description="Interactive Brokers gateways that connections may use, separated by commas or blanks: "
        "`https://host:port`, with `#sha256=FINGERPRINT` of its certificate unless it is on this machine, and "
        "`;owner=TOKENIDENTIFIER` if it is one user's alone",
        json_schema_extra={"default": ibkr_gateways.DEFAULT},
    )
    ibkr_oauth_url: Annotated[str, AfterValidator(_ibkr_oauth_url)] = Field(
        default=ibkr_oauth.BASE_URL,
        validation_alias="IBKR_OAUTH_URL",
        description=", ".join(f"`https://{host}`" for host in ibkr_oauth.HOSTS) + ", or the simulator on this machine",
    )
    ibkr_oauth_keys: Annotated[Path, AfterValidator(_readable_folder)] | None = Field(
        default=None,
        validation_alias=ibkr_oauth.SETTING,
        description=f"A folder with `{ibkr_oauth.SIGNATURE_FILE}`, `{ibkr_oauth.ENCRYPTION_FILE}` and "
        f"`{ibkr_oauth.DH_FILE}`, or with one such folder for each consumer key, for OAuth connections that hold no "
        "keys themselves",
    )
    ibkr_flex_url: Annotated[str, AfterValidator(_ibkr_flex_url)] = Field(
        default=ibkr_flex.BASE_URL,
        validation_alias=ibkr_flex.SETTING,
        description=", ".join(f"`https://{host}`" for host in ibkr_flex.HOSTS) + ", or the simulator on this machine",
    )

    @property
    def private_key_pem(self) -> str:
        """The PEM, from whichever of the two variables holds it."""
        key = self.private_key_value or self.private_key_from_file
        if key is None:
            raise RuntimeError("Settings are made by load_settings(), which requires a private key")
        return key.get_secret_value()


def load_settings() -> Settings:
    """The settings of this process; raises SettingsInvalid with every problem that can be found."""
    problems = [*_unknown_names(os.environ), *_key_count(os.environ)]
    settings: Settings | None = None
    try:
        settings = Settings()
    except ValidationError as error:
        faults = error.errors(include_input=False)
        problems += [_problem(str(fault["loc"][0]), fault["type"], fault["msg"]) for fault in faults]
    # Raised outside the handler: the ValidationError must not travel along as context, it knows the values.
    if settings is None or problems:
        raise SettingsInvalid(sorted(set(problems)))
    log.protect(settings.private_key_pem, *_key_lines(settings.private_key_pem))
    if settings.secret is not None:
        log.protect(settings.secret.get_secret_value())
    return settings


def table() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of the README."""
    return [(_name(field), _default(field), field.description or "") for field in Settings.model_fields.values()]


def _name(field: FieldInfo) -> str:
    return str(field.validation_alias)


def _default(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["default"])
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return "" if field.default is None else str(field.default)


def _key_lines(pem: str) -> list[str]:
    return [line for line in pem.splitlines() if not line.startswith("-----")]


def _problem(name: str, kind: str, message: str) -> str:
    """One sentence: the variable, what is wrong with it, what is right. Never its value."""
    field = next(field for field in Settings.model_fields.values() if _name(field) == name)
    if kind == "missing":
        return f"{name} is missing. {field.description}."
    if kind == "value_error":
        return f"{name} {message.removeprefix('Value error, ')}."
    return f"{name} is malformed. {field.description}."


def _key_count(environ: Mapping[str, str]) -> list[str]:
    value, file = environ.get("TRADE_SYNC_PRIVATE_KEY"), environ.get("TRADE_SYNC_PRIVATE_KEY_FILE")
    if value and file:
        return ["TRADE_SYNC_PRIVATE_KEY and TRADE_SYNC_PRIVATE_KEY_FILE are both set. Keep one."]
    if not value and not file:
        return [f"TRADE_SYNC_PRIVATE_KEY or TRADE_SYNC_PRIVATE_KEY_FILE is missing. Set one; {_KEY_HELP}."]
    return []


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = [_name(field) for field in Settings.model_fields.values()]
    problems = []
    for name in environ:
        if not name.upper().startswith(_PREFIXES) or name in known:
            continue
        if name in ("TRADE_SYNC_JWKS", "TRADE_SYNC_URL"):
            problems.append(f"{name} belongs to Convex, not to the worker. Use `npx convex env set`; unset it here.")
        elif close := difflib.get_close_matches(name.upper(), known, n=1):
            problems.append(f"{name} is not a setting. Did you mean {close[0]}?")
        else:
            problems.append(f"{name} is not a setting. Unset it.")
    return problems
