"""The Kraken simulator behaves as reference kraken says Kraken does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import respx

from sandbox.brokers.kraken import Fault, KeyChange, KrakenSimulator, NewFill, Quirks, Setup
from sandbox.brokers.kraken.control import RemoteControlled
from sandbox.brokers.serving import Answer, BrokerServer, Request
from sandbox.clock import VirtualClock
from tests.support.standalone import announced, standalone_broker
from worker.errors import Stopped

START = 1_790_000_000_000  # 2026-09-21T14:13:20Z


class Client:
    """An API user of its own: it signs by the published rule, not with the simulator's code."""

    def __init__(self, http: httpx.Client, key: str, secret: str) -> None:
        self.http = http
        self.key = key
        self.secret = secret
        self._nonces = itertools.count(1_000_000)

    def post(self, name: str, *, as_json: bool = False, nonce: int | None = None, **params: object) -> httpx.Response:
        path = f"/0/private/{name}"
        number = str(next(self._nonces) if nonce is None else nonce)
        fields = {"nonce": number, **params}
        body = json.dumps(fields) if as_json else urlencode(fields)
        digest = hashlib.sha256((number + body).encode()).digest()
        mac = hmac.new(base64.b64decode(self.secret), path.encode() + digest, hashlib.sha512)
        kind = "application/json" if as_json else "application/x-www-form-urlencoded"
        headers = {
            "API-Key": self.key,
            "API-Sign": base64.b64encode(mac.digest()).decode(),
            "Content-Type": kind,
            "User-Agent": "tests",
        }
        return self.http.post(path, content=body, headers=headers)

    def ask(self, name: str, *, as_json: bool = False, nonce: int | None = None, **params: object) -> Any:
        """The result, or the text of the error."""
        document = self.post(name, as_json=as_json, nonce=nonce, **params).json(parse_float=Decimal)
        return document["error"][0] if document["error"] else document["result"]

    def trades(self, **params: Any) -> dict[str, Any]:
        result = self.ask("TradesHistory", **params)
        assert isinstance(result, dict), result
        trades = result["trades"]
        assert isinstance(trades, dict)
        return trades


class World:
    """A simulator on a virtual clock with one client."""

    def __init__(self, **setup: Any) -> None:
        self.clock = VirtualClock(START)
        self.kraken = KrakenSimulator(self.clock, Setup(**{"tier": "pro", **setup}))
        self.http = httpx.Client(transport=self.kraken.transport(), base_url="https://api.kraken.com")
        self.client = Client(self.http, self.kraken.key.key, self.kraken.key.secret)

    def public(self, name: str, **params: str) -> Any:
        document = self.http.get(f"/0/public/{name}", params=params).json()
        return document["error"][0] if document["error"] else document["result"]


def times(rows: dict[str, Any]) -> list[Decimal]:
    return [row["time"] for row in rows.values()]


# Signature, nonce, permissions.

# Kraken's published demonstration secret and vector (reference kraken 2.1); it opens nothing.
OFFICIAL_SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow" + "76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
OFFICIAL_BODY = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
OFFICIAL_SIGN = "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn" + "7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="


def official_request(world: World, signature: str) -> Answer:
    world.kraken.key.secret = OFFICIAL_SECRET
    headers = {"api-key": world.kraken.key.key, "api-sign": signature}
    return world.kraken.handle(Request("POST", "/0/private/AddOrder", "", headers, OFFICIAL_BODY, "api.kraken.com"))


def test_the_official_signature_is_accepted_and_the_order_is_not() -> None:
    world = World()
    answer = official_request(world, OFFICIAL_SIGN)
    assert json.loads(answer.body) == {"error": ["EGeneral:Permission denied"]}
    assert world.kraken.audit.forbidden == 1


def test_a_signature_with_one_letter_changed_is_refused() -> None:
    answer = official_request(World(), "5" + OFFICIAL_SIGN[1:])
    assert (answer.status, json.loads(answer.body)) == (200, {"error": ["EAPI:Invalid signature"]})


@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
def test_both_body_formats_are_understood(as_json: bool) -> None:
    world = World(trades=120)
    assert len(world.client.ask("TradesHistory", as_json=as_json, ofs=100, trades=True)["trades"]) == 20


def test_an_unknown_key_is_refused() -> None:
    world = World()
    assert Client(world.http, "unknown", world.client.secret).ask("TradesHistory") == "EAPI:Invalid key"


def test_nonces_must_rise_strictly() -> None:
    ask = World().client.ask
    assert isinstance(ask("TradesHistory", nonce=10), dict)
    assert ask("TradesHistory", nonce=10) == "EAPI:Invalid nonce"
    assert ask("TradesHistory", nonce=9) == "EAPI:Invalid nonce"
    assert isinstance(ask("TradesHistory", nonce=11), dict)


@pytest.mark.parametrize("nonce", [-1, 1 << 64])
def test_a_nonce_is_an_unsigned_64_bit_number(nonce: int) -> None:
    assert World().client.ask("TradesHistory", nonce=nonce) == "EAPI:Invalid nonce"


def test_the_nonce_window_accepts_late_nonces_once() -> None:
    ask = World(nonce_window=100).client.ask
    assert isinstance(ask("TradesHistory", nonce=1000), dict)
    assert isinstance(ask("TradesHistory", nonce=900), dict)
    assert ask("TradesHistory", nonce=900) == "EAPI:Invalid nonce"
    assert ask("TradesHistory", nonce=899) == "EAPI:Invalid nonce"


def test_a_key_has_nonces_of_its_own() -> None:
    world = World()
    assert isinstance(world.client.ask("TradesHistory", nonce=1 << 60), dict)
    fresh = world.kraken.change_key(KeyChange(rotate=True))
    assert world.client.ask("TradesHistory", nonce=(1 << 60) + 1) == "EAPI:Invalid key"
    assert isinstance(Client(world.http, fresh.key, fresh.secret).ask("TradesHistory", nonce=1), dict)


def test_permissions_are_asked_for() -> None:
    world = World(permissions=("query-funds",))
    assert world.client.ask("TradesHistory") == "EGeneral:Permission denied"
    assert isinstance(world.client.ask("Balance"), dict)
    world.kraken.change_key(KeyChange(permissions=["query-closed-trades"]))
    assert isinstance(world.client.ask("TradesHistory"), dict)
    assert world.client.ask("Balance") == "EGeneral:Permission denied"


@pytest.mark.parametrize("name", ["AddOrder", "CancelOrder", "Withdraw", "WalletTransfer", "Earn/Allocate"])
def test_F6_not_even_a_key_with_every_right_trades_or_moves_money(name: str) -> None:
    world = World(permissions=("query-closed-trades", "modify-trades", "close-trades", "withdraw-funds"))
    assert world.client.ask(name) == "EGeneral:Permission denied"
    assert world.kraken.audit.document()["forbidden"] == 1


def test_a_second_factor_is_demanded_where_the_key_has_one() -> None:
    world = World(otp="424242")
    assert world.client.ask("TradesHistory") == "EAPI:Invalid signature"
    assert isinstance(world.client.ask("TradesHistory", otp="424242"), dict)
    assert "otp" not in world.kraken.audit.calls[-1].params


def test_a_key_expires() -> None:
    world = World()
    world.kraken.change_key(KeyChange(valid_until=START // 1000 + 60))
    assert isinstance(world.client.ask("TradesHistory"), dict)
    world.clock.advance(60)
    assert world.client.ask("TradesHistory") == "EAPI:Invalid key"


def test_a_key_limited_in_time_sees_a_short_history_without_an_error() -> None:
    world = World()
    for ago in (300, 200, 100):
        world.kraken.book(NewFill(ago_seconds=ago))
    world.kraken.change_key(KeyChange(query_from=START // 1000 - 250, query_to=START // 1000 - 150))
    result = world.client.ask("TradesHistory")
    assert (len(result["trades"]), result["count"]) == (1, 1)
    info = world.client.ask("GetApiKeyInfo")
    assert (info["queryFrom"], info["queryTo"]) == (str(START // 1000 - 250), str(START // 1000 - 150))


def test_key_info_needs_no_permission_and_names_the_account() -> None:
    world = World(permissions=())
    info = world.client.ask("GetApiKeyInfo")
    assert info["permissions"] == []
    assert info["iban"] == world.kraken.account_ref
    world.kraken.quirks = Quirks(key_info="snake")
    assert world.client.ask("GetApiKeyInfo")["valid_until"] == "0"
    world.kraken.quirks = Quirks(key_info="unknown")
    assert world.client.ask("GetApiKeyInfo") == "EGeneral:Unknown method"


def test_C8_repeated_failures_lock_the_door_and_knocking_keeps_it_locked() -> None:
    world = World(lockout_after=3)
    stranger = Client(world.http, world.client.key, base64.b64encode(b"wrong").decode())
    assert [stranger.ask("TradesHistory") for _ in range(3)] == ["EAPI:Invalid signature"] * 3
    assert world.client.ask("TradesHistory") == "EGeneral:Temporary lockout"
    world.clock.advance(899)
    assert world.client.ask("TradesHistory") == "EGeneral:Temporary lockout"
    world.clock.advance(899)
    assert world.client.ask("TradesHistory") == "EGeneral:Temporary lockout"
    world.clock.advance(900)
    assert isinstance(world.client.ask("TradesHistory"), dict)


def test_failures_spread_over_time_do_not_lock() -> None:
    world = World(lockout_after=3)
    for _ in range(6):
        assert world.client.ask("TradesHistory", nonce=0) == "EAPI:Invalid nonce"
        world.clock.advance(450)
    assert isinstance(world.client.ask("TradesHistory"), dict)


# The counter (reference kraken 3.1).


@pytest.mark.parametrize(("tier", "allowed"), [("starter", 7), ("intermediate", 10), ("pro", 10)])
def test_history_calls_cost_two(tier: str, allowed: int) -> None:
    """7 × 2 ≤ 15 < 8 × 2; 10 × 2 ≤ 20 < 11 × 2."""
    world = World(tier=tier)
    outcomes = [world.client.ask("TradesHistory") for _ in range(allowed + 1)]
    assert all(isinstance(outcome, dict) for outcome in outcomes[:-1])
    assert outcomes[-1] == "EAPI:Rate limit exceeded"
    assert world.kraken.audit.rate_breaches == 1


def test_other_private_calls_cost_one() -> None:
    world = World(tier="starter")
    assert all(isinstance(world.client.ask("GetApiKeyInfo"), dict) for _ in range(15))
    assert world.client.ask("GetApiKeyInfo") == "EAPI:Rate limit exceeded"


@pytest.mark.parametrize(("wait", "allowed"), [(9.0, False), (9.1, True)])
def test_refused_calls_count_and_the_counter_drains(wait: float, allowed: bool) -> None:
    """Eight calls make 16, the eighth refused. Another fits below 15 once 3 have drained: 3 / 0.33 = 9.09 s."""
    world = World(tier="starter")
    for _ in range(8):
        world.client.ask("TradesHistory")
    assert world.kraken.audit.calls[-1].counter == pytest.approx(16)
    world.clock.advance(wait)
    assert isinstance(world.client.ask("TradesHistory"), dict) is allowed


@pytest.mark.parametrize(("pace", "breaches"), [(1.0, False), (0.98, True)])
def test_the_shortest_backfill_of_5000_trades_takes_what_the_formula_says(pace: float, breaches: bool) -> None:
    """P = 100 calls: (200 − 15) / 0.33 = 560.6 s (reference kraken 3.2); two per cent less is too fast."""
    world = World(tier="starter")
    for call in range(1, 101):
        due = pace * max(0, 2 * call - 15) / 0.33
        world.clock.advance(due - world.clock.monotonic())
        world.client.ask("TradesHistory")
    assert world.clock.monotonic() == pytest.approx(pace * 185 / 0.33)
    assert (world.kraken.audit.rate_breaches > 0) is breaches


def test_public_calls_are_limited_per_address() -> None:
    world = World(public_burst=1)
    assert isinstance(world.public("Time"), dict)
    assert world.public("Time") == "EGeneral:Too many requests"
    world.clock.advance(2)
    assert isinstance(world.public("Time"), dict)


# TradesHistory.


def test_120_fills_are_read_in_pages_of_50_50_and_20_newest_first() -> None:
    world = World(trades=120)
    pages = [world.client.ask("TradesHistory", ofs=ofs) for ofs in (0, 50, 100, 150)]
    assert [len(page["trades"]) for page in pages] == [50, 50, 20, 0]
    assert [page["count"] for page in pages] == [120] * 4
    rows: dict[str, Any] = {}
    for page in pages:
        rows |= page["trades"]
    assert times(rows) == sorted(times(rows), reverse=True)
    oracle = {fill["txid"]: fill for fill in world.kraken.oracle()}
    assert rows.keys() == oracle.keys()
    for txid, row in rows.items():
        truth = oracle[txid]
        assert {name: row[name] for name in ("ordertxid", "pair", "type", "price", "vol", "cost", "fee")} == {
            name: truth[name] for name in ("ordertxid", "pair", "type", "price", "vol", "cost", "fee")
        }
        assert row["time"] == Decimal(truth["time"])


def three_fills(world: World) -> list[str]:
    """At 1000, 1000.5 and 1001 seconds."""
    return [world.kraken.book(NewFill(time=Decimal(at)))[0].txid for at in ("1000", "1000.5", "1001")]


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        ({}, [2, 1, 0]),
        ({"start": "1000.5"}, [2]),
        ({"start": "1000.4999999"}, [2, 1]),
        ({"end": "1000.5"}, [1, 0]),
        ({"end": "1000.4999999"}, [0]),
        ({"start": "1000", "end": "1001"}, [2, 1]),
        ({"start": 0, "end": 0}, []),
    ],
)
def test_start_is_exclusive_and_end_inclusive(params: dict[str, object], shown: list[int]) -> None:
    world = World()
    fills = three_fills(world)
    assert list(world.client.trades(**params)) == [fills[index] for index in shown]


def test_txids_are_bounds_too() -> None:
    world = World()
    fills = three_fills(world)
    assert list(world.client.trades(start=fills[0])) == [fills[2], fills[1]]
    assert list(world.client.trades(end=fills[1])) == [fills[1], fills[0]]
    assert world.client.ask("TradesHistory", start="TAAAAA-AAAAA-AAAAAA") == "EGeneral:Invalid arguments:start"


def test_whole_second_bounds_are_a_quirk() -> None:
    world = World()
    fills = three_fills(world)
    world.kraken.quirks = Quirks(whole_seconds=True)
    assert list(world.client.trades(end="1000.9")) == [fills[0]]


def test_B3_with_an_open_end_an_arrival_repeats_a_row_and_with_a_frozen_end_it_does_not() -> None:
    world = World(trades=120)
    now = START // 1000
    first, first_frozen = world.client.trades(), world.client.trades(end=now)
    world.clock.advance(1)
    world.kraken.book(NewFill())
    assert len(first.keys() & world.client.trades(ofs=50).keys()) == 1
    assert not first_frozen.keys() & world.client.trades(end=now, ofs=50).keys()


def test_B4_a_late_booked_fill_appears_behind_newer_ones() -> None:
    world = World()
    newer = world.kraken.book(NewFill())[0].txid
    late = world.kraken.book(NewFill(ago_seconds=120, visible_in_seconds=60))[0].txid
    assert list(world.client.trades()) == [newer]
    assert [fill["visible"] for fill in world.kraken.oracle()] == [False, True]
    world.clock.advance(60)
    assert list(world.client.trades()) == [newer, late]


def test_rest_lags_behind_the_engine() -> None:
    world = World(lag=60)
    world.kraken.book(NewFill())
    world.clock.advance(59.9)
    assert world.client.trades() == {}
    world.clock.advance(0.1)
    assert len(world.client.trades()) == 1


def test_fills_appear_by_themselves() -> None:
    world = World(fill_every=60)
    world.clock.advance(59.999)
    assert world.client.trades() == {}
    world.clock.advance(120.001)
    assert times(world.client.trades()) == [Decimal(START) / 1000 + 60 * number for number in (3, 2, 1)]


def test_a_fill_of_the_future_has_not_happened_yet() -> None:
    world = World()
    world.kraken.book(NewFill(time=Decimal(START) / 1000 + 10))
    assert (world.kraken.oracle(), world.client.trades()) == ([], {})
    world.clock.advance(10)
    assert len(world.kraken.oracle()) == len(world.client.trades()) == 1


def test_B6_identical_fills_differ_in_their_txid_only() -> None:
    world = World()
    world.kraken.book(NewFill(count=2, pair="XXBTZUSD", price=Decimal("50000.0"), vol=Decimal("0.1")))
    one, other = world.client.trades().values()
    assert one == other


def test_late_fields_come_with_the_years() -> None:
    """postxid since about 2015, trade_id since 2021, aclass since October 2025 (reference kraken 1.2)."""
    world = World()
    for year in (2014, 2020, 2022, 2026):
        world.kraken.book(NewFill(time=Decimal((year - 1970) * 31_556_952)))
    rows = list(world.client.trades().values())
    assert [[name in row for name in ("postxid", "trade_id", "aclass")] for row in rows] == [
        [True, True, True],
        [True, True, False],
        [True, False, False],
        [False, False, False],
    ]


def test_positions_open_and_close() -> None:
    world = World(trades=120)
    shown = {
        kind: world.client.ask("TradesHistory", type=kind, trades="true")["trades"]
        for kind in ("any position", "closed position", "closing position", "no position")
    }
    counts = {kind: len(rows) for kind, rows in shown.items()}
    assert (counts["any position"], counts["closed position"], counts["closing position"]) == (4, 2, 2)
    for txid, opening in shown["closed position"].items():
        (closing_txid,) = opening["trades"]
        closing = shown["closing position"][closing_txid]
        assert (opening["posstatus"], closing["misc"]) == ("closed", "closing")
        assert closing["postxid"] == opening["postxid"] == txid
        assert Decimal(opening["margin"]) > 0
        assert opening["leverage"] == "5"
    assert {row["ordertype"] for row in shown["closing position"].values()} == {"market", "liquidation market"}


@pytest.mark.parametrize(
    "params",
    [{"type": "some"}, {"ofs": "-1"}, {"ofs": "x"}, {"start": "NaN"}, {"end": "soon"}, {"rebase_multiplier": "x"}],
)
def test_bad_arguments_are_named(params: dict[str, Any]) -> None:
    (name,) = params
    assert World().client.ask("TradesHistory", **params) == f"EGeneral:Invalid arguments:{name}"


def test_optional_parts_are_given_on_request() -> None:
    world = World(trades=3)
    assert "count" not in world.client.ask("TradesHistory", without_count="true")
    assert all(len(row["ledgers"]) == 2 for row in world.client.trades(ledgers="true").values())
    assert len(world.client.trades(consolidate_taker="false", rebase_multiplier="base")) == 3


def test_oddities_of_the_count() -> None:
    world = World(trades=3)
    counts = []
    for quirks in (Quirks(count="string"), Quirks(count="missing"), Quirks(count_off_by=-1)):
        world.kraken.quirks = quirks
        counts.append(world.client.ask("TradesHistory").get("count"))
    assert counts == ["3", None, 2]


def test_oddities_of_the_pages() -> None:
    world = World(trades=120)
    ordered = list(world.client.trades(ofs=50))
    world.kraken.quirks = Quirks(shuffled=True)
    assert list(world.client.trades(ofs=50)) != ordered
    assert set(world.client.trades(ofs=50)) == set(ordered)
    world.kraken.quirks = Quirks(short_page_at=50, short_page_rows=47, short_page_times=1)
    assert list(world.client.trades(ofs=50)) == ordered[:47]
    assert list(world.client.trades(ofs=50)) == ordered
    world.kraken.quirks = Quirks(endless_pages=True)
    assert len(world.client.trades(ofs=5000)) == 50


def test_oddities_of_the_rows() -> None:
    world = World()
    world.kraken.book(NewFill(price=Decimal("1.5"), overrides={"price": "NaN", "type": None}))
    world.kraken.quirks = Quirks(string_times=True, unknown_fields={"venue": "x"})
    (row,) = world.client.trades().values()
    assert (row["price"], "type" in row, row["time"], row["venue"]) == ("NaN", False, str(START // 1000), "x")
    assert world.kraken.oracle()[0]["price"] == "1.5"
    world.kraken.quirks = Quirks(no_result=True)
    assert world.client.post("TradesHistory").json() == {"error": []}


def test_single_trades_and_orders() -> None:
    world = World(trades=120)
    wanted = list(world.client.trades())[:3]
    assert world.client.ask("QueryTrades", txid=",".join(wanted)) == {
        txid: row for txid, row in world.client.trades().items() if txid in wanted
    }
    assert world.client.ask("QueryTrades", txid=",".join(["T"] * 21)) == "EGeneral:Invalid arguments:txid"
    orders = world.client.ask("ClosedOrders", trades="true")
    assert orders["count"] == len({fill["ordertxid"] for fill in world.kraken.oracle()})


# Public endpoints.


def test_time_and_status() -> None:
    world = World()
    assert world.public("Time") == {"unixtime": 1_790_000_000, "rfc1123": "Mon, 21 Sep 26 14:13:20 +0000"}
    assert world.public("SystemStatus")["status"] == "online"
    world.kraken.set_status("cancel_only")
    assert world.public("SystemStatus")["status"] == "cancel_only"
    assert world.client.trades() == {}
    world.kraken.set_status("maintenance")
    assert world.public("SystemStatus")["status"] == "maintenance"
    assert world.client.ask("TradesHistory") == "EService:Unavailable"


def test_the_day_is_padded_with_a_blank() -> None:
    world = World()
    world.clock.advance(11 * 86_400)
    assert world.public("Time")["rfc1123"] == "Fri,  2 Oct 26 14:13:20 +0000"


def test_pairs_and_assets_are_listed_by_class() -> None:
    world = World()
    pairs, tokens = world.public("AssetPairs"), world.public("AssetPairs", aclass_base="tokenized_asset")
    assert pairs["XXBTZUSD"]["altname"] == "XBTUSD"
    assert pairs["XBTUSDT"]["base"] == "XXBT"
    assert {"XXBTZUSD.d", "XICNXXBT", "AAPLxUSD", "DE/USD"}.isdisjoint(pairs)
    assert tokens["AAPLxUSD"]["aclass_base"] == "tokenized_asset"
    assets = world.public("Assets") | world.public("Assets", aclass="tokenized_asset")
    used = {row[side] for row in (pairs | tokens).values() for side in ("base", "quote")}
    assert used <= assets.keys()
    assert list(world.public("AssetPairs", pair="XBTUSD,ADAEUR")) == ["XXBTZUSD", "ADAEUR"]
    assert world.public("AssetPairs", pair="XXXYYY") == "EQuery:Unknown asset pair"
    assert world.public("Nonsense") == "EGeneral:Unknown method"


# The trading life.


def test_the_same_seed_lives_the_same_life() -> None:
    def oracle(seed: str) -> list[dict[str, Any]]:
        return World(seed=seed, trades=300).kraken.oracle()

    assert oracle("a") == oracle("a")
    assert oracle("a") != oracle("b")
    assert World(seed="a").kraken.key.secret != World(seed="b").kraken.key.secret


@pytest.mark.parametrize("count", [0, 1, 5, 50, 777])
def test_a_life_has_exactly_so_many_fills_within_its_years(count: int) -> None:
    fills = World(trades=count, years=2).kraken.oracle()
    assert len({fill["txid"] for fill in fills}) == len(fills) == count
    assert all(START - 2 * 365 * 86_400_000 <= fill["timeMs"] <= START for fill in fills)


def test_a_life_has_everything_an_importer_stumbles_over() -> None:
    fills = World(trades=300).kraken.oracle()
    pairs = {fill["pair"] for fill in fills}
    assert {"XXBTZUSD", "XETHZEUR", "ADAEUR", "USDCUSD", "XBTUSDT", "AAPLxUSD", "XICNXXBT", "XXBTZUSD.d"} <= pairs
    assert {fill["aclass"] for fill in fills} == {"forex", "tokenized_asset", "equity_pair"}
    seconds = Tally(fill["timeMs"] // 1000 for fill in fills)
    assert [count for _, count in seconds.most_common(2)] == [18, 16]
    assert max(Tally(fill["ordertxid"] for fill in fills).values()) >= 16
    looks = Tally((fill["time"], fill["price"], fill["vol"], fill["type"]) for fill in fills)
    assert max(looks.values()) == 2
    assert all(re.fullmatch(r"T[A-Z2-7]{5}-[A-Z2-7]{5}-[A-Z2-7]{6}", fill["txid"]) for fill in fills)


def test_amounts_fit_together() -> None:
    for fill in World(trades=300).kraken.oracle():
        price, vol, cost = (Decimal(fill[name]) for name in ("price", "vol", "cost"))
        assert vol > 0
        assert abs(price * vol - cost) <= (Decimal("0.005") if fill["aclass"] == "equity_pair" else Decimal("1e-5"))


def test_times_keep_all_their_digits() -> None:
    world = World()
    world.kraken.book(NewFill(time=Decimal("1710429248.3052235")))
    assert '"time":1710429248.3052235,' in world.client.post("TradesHistory").text


# Faults, over sockets and in-process.


class Wire:
    """The same simulator reached in one of two ways."""

    def __init__(self, kraken: KrakenSimulator, http: httpx.Client) -> None:
        self.kraken = kraken
        self.http = http
        self.client = Client(http, kraken.key.key, kraken.key.secret)

    def time(self) -> httpx.Response:
        return self.http.get("/0/public/Time")


@pytest.fixture(params=["http", "in-process"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    kraken = KrakenSimulator(VirtualClock(START), Setup(trades=120, tier="pro", public_burst=1000))
    if request.param == "http":
        with (
            BrokerServer(kraken) as server,
            httpx.Client(base_url=server.address, timeout=0.3, trust_env=False) as http,
        ):
            yield Wire(kraken, http)
    else:
        with httpx.Client(transport=kraken.transport(), base_url="http://kraken.test", timeout=0.3) as http:
            yield Wire(kraken, http)


def test_a_status_with_a_body_and_a_header(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(status=429, body="slow down", headers={"Retry-After": "30"}))
    answer = wire.time()
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (429, "slow down", "30")
    assert wire.time().json()["result"]["unixtime"] == START // 1000


def test_an_error_inside_a_200(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(path="TradesHistory", error="EService:Busy"))
    assert wire.time().json()["error"] == []
    answer = wire.client.post("TradesHistory")
    assert (answer.status_code, answer.json()) == (200, {"error": ["EService:Busy"]})


def test_an_html_page(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(html=True, status=520))
    answer = wire.time()
    assert (answer.status_code, answer.headers["content-type"]) == (520, "text/html; charset=UTF-8")
    assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("size", [0, 1, 25])
def test_A12_a_body_cut_short(wire: Wire, size: int) -> None:
    whole = wire.time().content
    wire.kraken.faults.plant(Fault(truncate=size))
    assert wire.time().content == whole[:size]


def test_a_connection_that_ends_before_the_body(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(truncate=10, keep_length=True))
    with pytest.raises(httpx.RemoteProtocolError):
        wire.time()


def test_A11_bodies_that_are_not_what_they_say(wire: Wire) -> None:
    whole = wire.time().content
    wire.kraken.faults.plant(
        Fault(bom=True),
        Fault(call=2, charset="utf-16"),
        Fault(call=3, headers={"Content-Type": "text/html"}),
        Fault(call=4, gzip_lie=True),
    )
    assert wire.time().content == b"\xef\xbb\xbf" + whole
    assert wire.time().content == whole.decode().encode("utf-16")
    assert wire.time().headers["content-type"] == "text/html"
    with pytest.raises(httpx.DecodingError):
        wire.time()


def test_A1_a_reset(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(reset=True))
    with pytest.raises(httpx.ReadError):
        wire.time()
    assert wire.time().status_code == 200


def test_A1_nobody_listens(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(refuse=True))
    with pytest.raises(httpx.NetworkError):
        wire.time()


def test_A2_no_answer(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(hang=True))
    with pytest.raises(httpx.ReadTimeout):
        wire.time()
    assert wire.time().status_code == 200


def test_a_late_answer(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(delay=0.1), Fault(call=2, delay=0.6))
    assert wire.time().status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        wire.time()


def test_A3_bytes_that_drip(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(drip=20))
    with wire.http.stream("GET", "/0/public/Time") as answer:
        chunks = list(itertools.islice(answer.iter_raw(), 3))
    assert chunks == [b"{", b'"', b"e"]


def test_A4_a_body_without_end(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(endless=True))
    received = 0
    with wire.http.stream("GET", "/0/public/Time") as answer:
        for chunk in answer.iter_raw():
            received += len(chunk)
            if received > 1_000_000:
                break
    assert received > 1_000_000


def test_A13_a_redirect_to_another_host(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(redirect="https://elsewhere.test/steal"))
    answer = wire.time()
    assert (answer.status_code, answer.headers["location"]) == (302, "https://elsewhere.test/steal")


def test_F2_an_error_that_repeats_what_was_sent(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(echo="canary-4711"))
    text = wire.client.post("TradesHistory", ofs=7).json()["error"][0]
    assert all(part in text for part in (wire.client.key, "/0/private/TradesHistory", "ofs=7", "canary-4711"))


def test_the_broker_has_handled_the_call_unless_a_proxy_answered(wire: Wire) -> None:
    wire.kraken.faults.plant(Fault(status=502, html=True), Fault(call=2, status=502, html=True, processed=False))
    assert wire.client.post("TradesHistory", nonce=5).status_code == 502
    assert wire.client.post("TradesHistory", nonce=6).status_code == 502
    assert wire.kraken.key.highest_nonce == 5
    assert [call.counter for call in wire.kraken.audit.calls] == [2.0, 0.0]


def test_faults_count_calls_and_end() -> None:
    world = World()
    world.kraken.faults.plant(Fault(path="Time", call=2, times=2, status=503), Fault(path="Nothing", times=None))
    statuses = [world.http.get("/0/public/Time").status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert [fault.path for fault in world.kraken.faults.pending()] == ["Nothing"]


def test_in_process_waiting_costs_virtual_time_only() -> None:
    world = World()
    length = len(world.http.get("/0/public/Time").content)
    world.kraken.faults.plant(Fault(hang=True), Fault(call=2, drip=1))
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        world.http.get("/0/public/Time", timeout=30)
    assert world.clock.monotonic() == 30
    world.http.get("/0/public/Time", timeout=30)
    assert world.clock.monotonic() == 30 + length
    assert time.monotonic() - began < 5


def test_a_stopped_server_answers_nobody() -> None:
    kraken = KrakenSimulator(VirtualClock(START), Setup())
    with BrokerServer(kraken) as server, httpx.Client(base_url=server.address, trust_env=False) as http:
        assert http.get("/0/public/Time").status_code == 200
        server.close()
        with pytest.raises(httpx.TransportError):
            http.get("/0/public/Time")


def test_it_serves_under_respx() -> None:
    world = World(trades=3)
    with respx.mock() as router, httpx.Client(base_url="https://api.kraken.com") as http:
        router.route(host="api.kraken.com").mock(side_effect=world.kraken.respond)
        assert len(Client(http, world.client.key, world.client.secret).trades()) == 3


# The audit.


def test_every_call_is_audited_and_no_secret_is() -> None:
    world = World(trades=3)
    world.client.ask("TradesHistory", ofs=1, nonce=77)
    world.client.ask("AddOrder", pair="XBTUSD")
    world.public("Time")
    document = world.kraken.audit.document()
    assert document["byPath"] == {"/0/private/TradesHistory": 1, "/0/private/AddOrder": 1, "/0/public/Time": 1}
    assert (document["total"], document["forbidden"], document["hosts"]) == (3, 1, ["api.kraken.com"])
    first = document["calls"][0]
    assert (first["at"], first["nonce"], first["params"], first["outcome"]) == (START, "77", {"ofs": "1"}, "ok")
    assert (first["cost"], first["counter"], first["userAgent"]) == (2, 2.0, "tests")
    assert world.client.key not in json.dumps(document)
    assert world.client.secret not in json.dumps(document)


# The clock.


def test_a_virtual_clock_moves_only_when_told() -> None:
    clock = VirtualClock(START)
    clock.sleep(1.5)
    assert (clock.now(), clock.monotonic()) == (START + 1500, 1.5)
    clock.step(-3600)
    assert (clock.now(), clock.monotonic()) == (START + 1500 - 3_600_000, 1.5)


def test_a_stop_ends_sleeping() -> None:
    stop = threading.Event()
    clock = VirtualClock(START, stop=stop)
    clock.sleep(1)
    stop.set()
    with pytest.raises(Stopped):
        clock.sleep(1)
    assert clock.now() == START + 1000


def test_threads_share_a_virtual_clock() -> None:
    clock = VirtualClock(START)

    def doze() -> None:
        for _ in range(1000):
            clock.sleep(0.001)

    threads = [threading.Thread(target=doze) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == START + 8000


# On its own.


@pytest.fixture
def standalone() -> Iterator[subprocess.Popen[str]]:
    options = ["--trades", "120", "--seed", "7", "--tier", "pro", "--virtual-clock", str(START), "--fill-every", "60"]
    with standalone_broker("kraken", *options) as process:
        yield process


def test_it_runs_alone_and_is_driven_from_outside(standalone: subprocess.Popen[str]) -> None:
    info = announced(standalone)
    assert info.keys() == {"address", "apiKey", "apiSecret", "accountRef", "oracle", "audit", "control"}
    with httpx.Client(base_url=info["address"], trust_env=False) as http:
        client = Client(http, info["apiKey"], info["apiSecret"])

        def control(name: str, document: object) -> Any:
            answer = http.post(f"{info['control']}/{name}", json=document)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert client.ask("TradesHistory")["count"] == 120
        assert client.ask("GetApiKeyInfo")["iban"] == info["accountRef"]
        assert control("clock", {"advanceSeconds": 60}) == {"nowMs": START + 60_000, "monotonic": 60}
        assert control("clock", {"nowMs": START + 120_000}) == {"nowMs": START + 120_000, "monotonic": 120}
        assert client.ask("TradesHistory")["count"] == 122
        booked = control("fills", [{"pair": "SOLUSD", "count": 2}, {"agoSeconds": 30, "visibleInSeconds": 5}])["fills"]
        assert [fill["visible"] for fill in booked] == [True, True, False]
        assert client.ask("TradesHistory")["count"] == 124
        oracle = http.get(info["oracle"]).json()
        assert oracle["count"] == len(oracle["fills"]) == 125

        control("faults", {"path": "TradesHistory", "error": "EService:Busy"})
        assert client.ask("TradesHistory") == "EService:Busy"
        control("status", {"status": "maintenance"})
        assert client.ask("TradesHistory") == "EService:Unavailable"
        control("status", {"status": "online"})
        control("quirks", {"count": "string"})
        assert client.ask("TradesHistory")["count"] == "124"
        fresh = control("key", {"rotate": True})
        assert client.ask("TradesHistory") == "EAPI:Invalid key"
        assert isinstance(Client(http, fresh["apiKey"], fresh["apiSecret"]).ask("TradesHistory"), dict)

        audit = http.get(info["audit"]).json()
        assert audit["byPath"] == {"/0/private/TradesHistory": 8, "/0/private/GetApiKeyInfo": 1}
        http.delete(info["audit"])
        assert http.get(info["audit"]).json()["total"] == 0
        assert http.post(f"{info['control']}/faults", json={"unknown": 1}).status_code == 400
        assert http.get(f"{info['control']}/nothing").status_code == 404


def test_it_ends_on_sigterm(standalone: subprocess.Popen[str]) -> None:
    announced(standalone)
    standalone.send_signal(signal.SIGTERM)
    assert standalone.wait(10) == 0


def test_it_ends_with_its_parent(standalone: subprocess.Popen[str]) -> None:
    announced(standalone)
    assert standalone.stdin is not None
    standalone.stdin.close()
    assert standalone.wait(10) == 0


def test_the_machines_clock_cannot_be_driven() -> None:
    from worker.clock import SystemClock

    remote = RemoteControlled(KrakenSimulator(SystemClock(), Setup()))
    answer = remote.handle(Request("POST", "/sandbox/clock", "", {}, b'{"advanceSeconds":1}', "localhost"))
    assert answer.status == 400
    assert b"--virtual-clock" in answer.body
