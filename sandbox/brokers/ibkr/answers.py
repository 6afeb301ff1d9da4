"""The documents the API answers with (reference ibkr 2.3 and 2.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.brokers.ibkr.session import Status
from sandbox.brokers.serving import Answer

Refusal = Literal["json", "problem", "empty", "redirect", "html"]

_JSON = "application/json; charset=utf-8"
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_PAGE = """<!DOCTYPE html>
<html><head><title>Simulated gateway</title></head>
<body><h1>Login</h1>
<form method="post" action="/sso/Login">
<p>Nothing here is real: any name logs in.</p>
<label>Username <input name="username" value="demo"></label>
<button type="submit">Log in</button>
</form></body></html>
"""


@dataclass(frozen=True, slots=True)
class Names:
    """What identifies the simulated person and machine; made from the seed, meaning nothing elsewhere."""

    user_id: int
    user_name: str
    session: str
    mac: str
    hardware: str

    @classmethod
    def of_seed(cls, seed: str) -> Names:
        noise = hashlib.shake_256(f"ibkr simulator {seed}".encode()).hexdigest(40)
        mac = ":".join(noise[start : start + 2].upper() for start in range(0, 12, 2))
        number = int(noise[12:20], 16) % 10**8
        return cls(number, f"demo{number % 10_000:04}", noise[20:52], mac, f"{noise[52:60]}|{mac}")


def account_of_seed(seed: str) -> str:
    return f"U{int(hashlib.sha256(f'ibkr account {seed}'.encode()).hexdigest(), 16) % 9_000_000 + 1_000_000}"


def error(text: str, status: int) -> Answer:
    """The usual envelope."""
    return Answer.of_json({"error": text, "statusCode": status}, status)


def login_page(status: int = 200) -> Answer:
    return Answer(status, _PAGE.encode(), _HTML)


def login_succeeded() -> Answer:
    return Answer(200, b"<!DOCTYPE html>\n<html><body>Client login succeeds</body></html>\n", _HTML)


def not_logged_in(form: Refusal) -> Answer:
    """What callers get when nobody is logged in, in one of the forms reported (reference ibkr 2.4)."""
    match form:
        case "json":
            return error("not authenticated", 401)
        case "problem":
            document = {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "Access Denied"}
            answer = Answer.of_json(document, 401)
            return Answer(401, answer.body, {"Content-Type": "application/problem+json"})
        case "empty":
            return Answer(401, b"")
        case "redirect":
            return Answer(302, b"", {"Location": "/sso/Login?forwardTo=22&RL=1&ip2loc=US"})
        case "html":
            return login_page()


def unavailable(*, empty: bool) -> Answer:
    return Answer(503, b"") if empty else error("Service Unavailable", 503)


def too_many(retry_after: str | None) -> Answer:
    answer = error("Too Many Requests", 429)
    headers = {"Content-Type": _JSON} | ({} if retry_after is None else {"Retry-After": retry_after})
    return Answer(429, answer.body, headers)


def no_bridge() -> Answer:
    return Answer.of_json({"error": "Bad Request: no bridge"}, 400)


def logged_out(names: Names) -> dict[str, Any]:
    return {"authenticated": False, "competing": False, "connected": False, "MAC": names.mac}


def auth_status(status: Status, names: Names, *, established: bool, fail: bool) -> dict[str, Any]:
    """auth/status, ssodh/init and the inside of tickle; a session that is not usable says less."""
    document: dict[str, Any] = {
        "authenticated": status.authenticated,
        "competing": status.competing,
        "connected": status.connected,
        "message": "",
        "MAC": names.mac,
    }
    if not status.authenticated:
        return document
    if established:
        document["established"] = True
    document["serverInfo"] = server_info()
    document["hardware_info"] = names.hardware
    if fail:
        document["fail"] = ""
    return document


def server_info() -> dict[str, str]:
    return {"serverName": "Sandbox01", "serverVersion": "Build 10.44.1d, Mar 3, 2026 1:55:32 PM"}


def tickle(status: Mapping[str, Any], names: Names, *, sso_fields: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"session": names.session}
    if sso_fields:
        document |= {"ssoExpires": 594_650, "collission": False, "userId": names.user_id}
    return document | {"hmds": {"error": "no bridge"}, "iserver": {"authStatus": status}}


def sso_validate(names: Names, *, since_ms: int, now_ms: int) -> dict[str, Any]:
    return {
        "USER_ID": names.user_id,
        "USER_NAME": names.user_name,
        "RESULT": True,
        "AUTH_TIME": since_ms,
        "SF_ENABLED": False,
        "IS_FREE_TRIAL": False,
        "CREDENTIAL": names.user_name,
        "IP": "127.0.0.1",
        "EXPIRES": 594_650,
        "QUALIFIED_FOR_MOBILE_AUTH": None,
        "LANDING_APP": "UNIVERSAL",
        "IS_MASTER": False,
        "lastAccessed": now_ms,
        "LOGIN_TYPE": 2,
        "PAPER_USER_NAME": names.user_name,
        "features": {
            "env": "PROD", "wlms": True, "realtime": True, "bond": True, "optionChains": True, "calendar": True,
            "newMf": True,
        },
        "region": "NJ",
    }  # fmt: skip


def iserver_accounts(
    accounts: Sequence[str], aliases: Mapping[str, str], selected: str, names: Names
) -> dict[str, Any]:
    daily, all_day = ["2h", "1d", "2d", "1w", "1m"], ["*"]
    return {
        "accounts": list(accounts),
        "acctProps": {
            account: {
                "hasChildAccounts": False, "supportsCashQty": True, "liteUnderPro": False, "noFXConv": False,
                "isProp": False, "supportsFractions": True, "allowCustomerTime": False, "autoFx": False,
            }
            for account in accounts
        },
        "aliases": {account: aliases.get(account, account) for account in accounts},
        "allowFeatures": {
            "showGFIS": True, "showEUCostReport": False, "allowEventContract": True, "allowFXConv": True,
            "allowFinancialLens": False, "allowMTA": True, "allowTypeAhead": True, "allowEventTrading": True,
            "snapshotRefreshTimeout": 30, "liteUser": False, "showWebNews": True, "research": True, "debugPnl": True,
            "showTaxOpt": True, "showImpactDashboard": True, "allowDynAccount": False, "allowCrypto": True,
            "allowFA": False, "allowLiteUnderPro": False,
            "allowedAssetTypes": "STK,CFD,OPT,FOP,WAR,FUT,BAG,CASH,IND,BOND,BILL,FUND,SLB,CMDTY,IOPT,CRYPTO",
            "restrictTradeSubscription": False, "showUkUserLabels": False, "sideBySide": True,
        },
        "chartPeriods": {
            kind: daily if kind in ("OPT", "FOP", "IOPT") else all_day
            for kind in ("STK", "CFD", "OPT", "FOP", "WAR", "IOPT", "FUT", "CASH", "IND", "BOND", "FUND", "CRYPTO")
        },
        "groups": [],
        "profiles": [],
        "selectedAccount": selected,
        "serverInfo": server_info(),
        "sessionId": names.session,
        "isFT": False,
        "isPaper": True,
    }  # fmt: skip


def portfolio_accounts(accounts: Sequence[str], aliases: Mapping[str, str], opened_ms: int) -> list[dict[str, Any]]:
    return [
        {
            "id": account,
            "PrepaidCrypto-Z": False,
            "PrepaidCrypto-P": False,
            "brokerageAccess": True,
            "accountId": account,
            "accountVan": account,
            "accountTitle": "Sandbox Trader",
            "displayName": "Sandbox Trader",
            "accountAlias": aliases.get(account),
            "accountStatus": opened_ms,
            "currency": "USD",
            "type": "DEMO",
            "tradingType": "STKNOPT",
            "businessType": "INDEPENDENT",
            "category": "",
            "ibEntity": "IBLLC-US",
            "faclient": False,
            "clearingStatus": "O",
            "covestor": False,
            "noClientTrading": False,
            "trackVirtualFXPortfolio": False,
            "acctCustType": "INDIVIDUAL",
            "parent": {"mmc": [], "accountId": "", "isMParent": False, "isMChild": False, "isMultiplex": False},
            "desc": account,
        }
        for account in accounts
    ]
