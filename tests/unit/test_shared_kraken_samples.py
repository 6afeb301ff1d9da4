"""Real payloads, where the folder with them is at hand. Expectations are derived by hand from reference kraken."""

from __future__ import annotations

import base64
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worker.connectors.kraken import sign
from worker.connectors.kraken_errors import Action, classify, envelope
from worker.errors import UnusableFile
from worker.normalize.symbols import PairBook, _cuts
from worker.parse import parse_kraken_trades

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "kraken"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")


def load(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(), parse_float=Decimal)


def parsed(name: str, pairs: str | None = None) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    out = io.StringIO()
    status = parse_kraken_trades(SAMPLES / name, "A", SAMPLES / pairs if pairs else None, out)
    *rows, report = (json.loads(line) for line in out.getvalue().splitlines())
    return status, rows, report


def facts(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row.get("externalExecutionId"),
        row["occurredAt"],
        row["symbol"],
        row["assetClass"],
        row["side"],
        row["quantity"],
        row["price"],
        row["fee"],
        row["currency"],
        ",".join(row["flags"]),
    )


# Times: floor(seconds * 1000) of `time`, or of the UTC text of an export.
EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "trades-history-closing-compact.json": [
        ("TO3MMA-BSBGV-XUV4A1", 1570477513200, "BTC/USD", "crypto", "buy", "0.2", "7000.6", "0", "USD",
         "margin,position_close"),
    ],
    "trades-history-delisted-pair-icn.json": [
        ("TY5BYV-WJUQF-XPYEYD", 1389071942208, "ICN/BTC", "crypto", "sell", "0.5", "32.07562", "0.03208", "BTC", ""),
    ],
    "trades-history-empty.json": [],
    "trades-history-equity-hypothetical.json": [
        ("TSYNTH-EQUIT-000001", 1771581000123, "WAB", "stock", "buy", "1", "15", "0.1", "USD", ""),
        ("TSYNTH-EQUIT-000002", 1771581900567, "WAB", "stock", "buy", "2", "10", "0.2", "USD", ""),
        ("TSYNTH-FOREX-000003", 1771574400000, "USDC/USD", "crypto", "buy", "100", "0.99", "1", "USD", ""),
    ],
    "trades-history-liquidation-and-stablecoin.json": [
        ("TSYNTH-LIQUI-DATION", 1710429248305, "BTC/USD", "crypto", "sell", "0.0001", "72026.5", "0.01873", "USD",
         "margin,liquidation,position_close"),
        ("TIMIRG-WUNNE-RRJ6GT", 1586340086457, "USDC/USDT", "crypto", "sell", "22.2", "0.9986", "0.04433784", "USDT",
         ""),
    ],
    "trades-history-no-count-trade-id-maker.json": [
        ("THVRQM-33VKH-UCI7BS", 1688667796880, "BTC/USD", "crypto", "buy", "0.02", "30010", "0", "USD", ""),
        ("TCWJEG-FL4SZ-3FKGH6", 1688667769639, "BTC/USD", "crypto", "buy", "0.01", "30010", "0", "USD", ""),
    ],
    "trades-history-position-fields.json": [
        ("TBGB6I-IMYKU-WWA2SK", 1428084298098, "BTC/USD", "crypto", "sell", "0.1", "9.25", "0.00296", "USD",
         "margin,position_open"),
        ("TNJAD2-A56J2-34HIEZ", 1428084246804, "BTC/USD", "crypto", "sell", "0.1", "9.25", "0.00296", "USD",
         "margin,position_open"),
    ],
    "trades-history-string-count-no-postxid.json": [
        ("TY5BYV-WJUQF-XPYEYD-1", 1389071942208, "LTC/BTC", "crypto", "sell", "0.5", "32.07562", "0.03208", "BTC", ""),
        ("TY5BYV-WJUQF-XPYEYD-2", 1389071942208, "BTC/USD", "crypto", "sell", "0.5", "32.07562", "0.03208", "USD", ""),
        ("TY5BYV-WJUQF-XPYEYD-3", 1389071942208, "BTC/USD", "crypto", "sell", "0.5", "32.07562", "0.03208", "USD", ""),
    ],
    "query-trades-closing.json": [
        ("TNGJFU-5CD67-ZV3AEO", 1428084298098, "BTC/USD", "crypto", "buy", "0.1", "9.25", "0.00412", "USD",
         "margin,position_close"),
        ("TRWCIF-3MJWU-5DYJG5", 1428082705964, "BTC/USD", "crypto", "buy", "0.1", "9.25", "0.00412", "USD",
         "margin,position_close"),
    ],
    "trades-export-2020-position-columns.csv": [
        ("TAAAAA-AAAAA-AAAAA4", 1604483158416, "ETH/GBP", "crypto", "buy", "0.0678", "295", "0.032", "GBP", ""),
    ],
    "trades-export-2021-old-header.csv": [
        ("TAAAAA-AAAAA-AAAAA1", 1636156719113, "ADA/EUR", "crypto", "buy", "29.13295073", "1.716269", "0.13", "EUR",
         ""),
        ("TAAAAA-AAAAA-AAAAA2", 1637354034163, "BTC/EUR", "crypto", "buy", "0.01462504", "51300.2", "1.9507", "EUR",
         ""),
        ("TAAAAA-AAAAA-AAAAA3", 1637500940039, "ADA/EUR", "crypto", "buy", "149.11146389", "1.661556", "0.644168",
         "EUR", ""),
    ],
    "trades-export-2025-margin-anonymised.csv": [
        ("BUY-AAA", 1736467200000, "BTC/USD", "crypto", "buy", "10", "10", "0.1", "USD", "margin,position_open"),
        ("SELL-AAA", 1737331200000, "BTC/USD", "crypto", "sell", "10", "12", "0.2", "USD", "margin,position_close"),
        ("BUY-BBB", 1738368000000, "ETH/USD", "crypto", "buy", "10", "5", "0.05", "USD", "margin,position_open"),
        ("SELL-BBB", 1738713600000, "ETH/USD", "crypto", "sell", "10", "4", "0.1", "USD", "margin,position_close"),
        ("BUY-CCC", 1740787200000, "SOL/USD", "crypto", "buy", "10", "2.5", "0.025", "USD", "margin,position_open"),
        ("SELL-CCC-1", 1741564800000, "SOL/USD", "crypto", "sell", "6", "2.8", "0.0168", "USD",
         "margin,position_close"),
        ("SELL-CCC-2", 1741737600000, "SOL/USD", "crypto", "sell", "4", "2.8", "0.0112", "USD",
         "margin,position_close"),
        ("BUY-DDD", 1743465600000, "XRP/USD", "crypto", "buy", "1", "0.5001", "0.0001", "USD", "margin,position_open"),
        ("SELL-DDD", 1743552000000, "XRP/USD", "crypto", "sell", "1", "0.4001", "0.0001", "USD",
         "margin,position_close"),
    ],
    "trades-export-2026-equity-pair-reduced.csv": [
        (None, 1771580700000, "WAB", "stock", "buy", "2", "10", "0.2", "USD", ""),
        (None, 1771579800000, "WAB", "stock", "buy", "1", "15", "0.1", "USD", ""),
        (None, 1771581600000, "MSFT", "stock", "sell", "4", "10", "0.3", "USD", ""),
        (None, 1771574400000, "USDC/USD", "crypto", "buy", "100", "0.99", "1", "USD", ""),
    ],
}  # fmt: skip


@pytest.mark.parametrize("pairs", [None, "asset-pairs-full-402-2022.json"])
@pytest.mark.parametrize("name", EXPECTED)
def test_every_trades_sample(name: str, pairs: str | None) -> None:
    status, rows, report = parsed(name, pairs)
    assert (status, report["rejects"]) == (0, 0)
    assert [facts(row) for row in rows] == EXPECTED[name]


def test_the_page_of_fifty() -> None:
    raw = load("trades-history-50-rows-count-2346.json")["result"]["trades"]
    status, rows, report = parsed("trades-history-50-rows-count-2346.json")
    assert (status, report["rows"], report["executions"]) == (0, 50, 50)
    assert report["warnings"] == ["The file holds 50 trades of 2346 that Kraken counts."]
    assert {row["externalExecutionId"] for row in rows} == set(raw)
    assert len({row["externalOrderId"] for row in rows}) == 46
    for name, position in (("quantity", "vol"), ("price", "price"), ("fee", "fee")):
        sent = sum(Decimal(trade[position]) for trade in raw.values())
        assert sum(Decimal(row[name]) for row in rows) == sent
    for row in rows:
        assert row["occurredAt"] == int(Decimal(raw[row["externalExecutionId"]]["time"]) * 1000)
        cost = Decimal(raw[row["externalExecutionId"]]["cost"])
        assert abs(Decimal(row["price"]) * Decimal(row["quantity"]) - cost) <= Decimal("0.00001")


def test_an_unquoted_comma_shifts_nothing() -> None:
    _, rows, _ = parsed("trades-export-2025-margin-anonymised.csv")
    (shifted,) = (row for row in rows if row["externalExecutionId"] == "BUY-CCC")
    raw = json.loads(shifted["rawPayload"])
    assert (raw["net"], raw["trades"]) == ("2.947", "SELL-CCC-1,SELL-CCC-2")


OTHERS = sorted(
    path.name
    for path in (SAMPLES.glob("*.json") if SAMPLES.is_dir() else ())
    if not path.name.startswith(("trades-history-", "query-trades-"))
)


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_sample_passes_for_trades(name: str) -> None:
    with pytest.raises(UnusableFile):
        parsed(name)


VERDICTS: dict[str, set[Action]] = {
    "reauth": {"credentials"},
    "retry_once_then_reauth": {"nonce"},
    "retry_after_decay": {"throttle"},
    "retry_after_timestamp": {"wait_until"},
    "retry": {"transient", "not_ready"},
    "ignore_for_reads": {"transient"},
    "wait_15_min": {"lockout"},
    "bug": {"bug"},
    "stop_and_report": {"disabled"},
}


def test_every_error_sample_has_its_rule() -> None:
    judged = 0
    for case in load("errors.json"):
        content = envelope(case.get("body"))
        if content is not None and content.error is not None:
            assert classify(content.error).action in VERDICTS[case["verdict"]], content.error
            judged += 1
    assert judged == 32


@pytest.mark.parametrize("index", range(5))
def test_signature_vectors(index: int) -> None:
    vector = load("signature-vectors.json")[index]
    secret = base64.b64decode(vector["secret"])
    assert sign(secret, vector["path"], vector["nonce"], vector["body"]) == vector["api_sign"]


FULL = "asset-pairs-full-402-2022.json"


def test_all_listed_pairs_resolve_alike_by_id_altname_and_wsname() -> None:
    pairs = load(FULL)["result"]
    book = PairBook.of(pairs, load("assets-201-2022.json")["result"])
    for pair_id, entry in pairs.items():
        base, quote = entry["wsname"].split("/")
        shown = f"{_shown(base)}/{_shown(quote)}"
        for raw in (pair_id, entry["altname"], entry["wsname"], shown, f"{pair_id}.d"):
            assert book.resolve(raw).symbol == shown, raw


def _shown(name: str) -> str:
    return {"XBT": "BTC", "XDG": "DOGE"}.get(name, name)


def test_splitting_by_known_assets_alone_is_right_for_every_listed_name() -> None:
    """4.3: one unique, correct answer for all 451 strings; also for what the bundled names add."""
    pairs = load(FULL)["result"]
    book = PairBook.of(pairs, load("assets-201-2022.json")["result"])
    names = {**pairs} | {e["altname"]: e for e in pairs.values()}
    assert len(names) == 451
    for assets, quotes in ((book._assets, book._quotes), book._with_bundled()):
        for name, entry in names.items():
            base, quote = entry["wsname"].split("/")
            found = {pair.instrument().symbol for pair in _cuts(name, assets, quotes)}
            assert found == {f"{_shown(base)}/{_shown(quote)}"}, name


def test_pairs_that_vanished_still_resolve() -> None:
    book = PairBook.of(load(FULL)["result"], load("assets-201-2022.json")["result"])
    for pair_id, entry in load("asset-pairs-2020-since-vanished.json")["result"].items():
        if "wsname" in entry:
            base, quote = entry["wsname"].split("/")
        else:
            assert pair_id.endswith(".d")
            known = load(FULL)["result"].get(pair_id.removesuffix(".d"))
            if known is None:
                continue
            base, quote = known["wsname"].split("/")
        assert book.resolve(pair_id).symbol == f"{_shown(base)}/{_shown(quote)}", pair_id


def test_a_tokenised_pair() -> None:
    book = PairBook.of(load("asset-pairs-tokenized-aaplx.json")["result"])
    instrument = book.resolve("AAPLxUSD")
    assert (instrument.symbol, instrument.asset_class, instrument.currency) == ("AAPLx/USD", "tokenized", "USD")
