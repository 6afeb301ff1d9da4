"""Names of pairs: resolution order of reference kraken 4.3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.normalize.symbols import Instrument, PairBook

FIXTURES = Path(__file__).parent.parent / "fixtures" / "kraken"
PAIRS = json.loads((FIXTURES / "asset-pairs.json").read_text())["result"]
ASSETS = {
    "XXBT": {"aclass": "currency", "altname": "XBT"},
    "XETH": {"aclass": "currency", "altname": "ETH"},
    "XXDG": {"aclass": "currency", "altname": "XDG"},
    "XTZ": {"aclass": "currency", "altname": "XTZ"},
    "ZETA": {"aclass": "currency", "altname": "ZETA"},
    "GEL": {"aclass": "currency", "altname": "GEL"},
    "ZUSD": {"aclass": "currency", "altname": "USD"},
    "ZEUR": {"aclass": "currency", "altname": "EUR"},
    "AAPLx": {"aclass": "tokenized_asset", "altname": "AAPLx"},
}
BOOK = PairBook.of(PAIRS, ASSETS)


def known(symbol: str, asset_class: str, currency: str) -> Instrument:
    return Instrument(symbol, asset_class, currency)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("XXBTZUSD", known("BTC/USD", "crypto", "USD")),  # 1 id
        ("XBTEUR", known("BTC/EUR", "crypto", "EUR")),  # 2 altname
        ("ETH/XBT", known("ETH/BTC", "crypto", "BTC")),  # 3 wsname
        ("XXBTZUSD.d", known("BTC/USD", "crypto", "USD")),  # 4 dark pool
        ("BTC/USD", known("BTC/USD", "crypto", "USD")),  # 5 slash, by the name shown
        ("DOGE/USD", known("DOGE/USD", "crypto", "USD")),
        ("XETHZEUR", known("ETH/EUR", "crypto", "EUR")),  # 6 two ids whose pair is not listed
        ("ETHEUR", known("ETH/EUR", "crypto", "EUR")),
        ("ZETAUSD", known("ZETA/USD", "crypto", "USD")),  # never stripped by its first letter
        ("XTZUSD", known("XTZ/USD", "crypto", "USD")),
        ("XDGUSD", known("DOGE/USD", "crypto", "USD")),
        ("ZEURZUSD", known("EUR/USD", "forex", "USD")),
        ("GELUSD", known("GEL/USD", "crypto", "USD")),  # a coin that is called like the lari
        ("AAPLxUSD", known("AAPLx/USD", "tokenized", "USD")),
        ("AAPLx/USD", known("AAPLx/USD", "tokenized", "USD")),
        ("XBTUSD:BTNL", known("BTC/USD", "crypto", "USD")),
        ("XICNXXBT", known("ICN/BTC", "crypto", "BTC")),  # retired assets
        ("XXBTZKRW", known("BTC/KRW", "crypto", "KRW")),
        ("BSVEUR", known("BSV/EUR", "crypto", "EUR")),
        ("xxbtzusd", known("BTC/USD", "crypto", "USD")),  # case folded as the last resort
        ("  XXBTZUSD ", known("BTC/USD", "crypto", "USD")),
    ],
)
def test_B17_names_are_resolved_in_order(raw: str, expected: Instrument) -> None:
    assert BOOK.resolve(raw) == expected


@pytest.mark.parametrize(
    "raw", ["QQQQWWWW", "USD", "XXBT", "", "/", "/USD", "BTC/", "BTC/QQQQ", "Ünïcode", "pi_xbtusd"]
)
def test_B17_unknown_names_stay_as_they_are(raw: str) -> None:
    assert BOOK.resolve(raw) == Instrument(raw.strip(), "other", None, resolved=False)


def test_the_static_names_alone_read_common_pairs() -> None:
    book = PairBook()
    for raw, symbol in (
        ("XXBTZUSD", "BTC/USD"), ("XBTUSDT", "BTC/USDT"), ("ADAEUR", "ADA/EUR"), ("USDCUSD", "USDC/USD"),
        ("XETHXXBT", "ETH/BTC"), ("DOTUSD", "DOT/USD"), ("BTC/EUR", "BTC/EUR"), ("ZUSDZCAD", "USD/CAD"),
        ("SNXXBT", "SNX/BTC"), ("ICXETH", "ICX/ETH"), ("ZRXXBT", "ZRX/BTC"), ("XTZUSD", "XTZ/USD"),
    ):  # fmt: skip
        assert book.resolve(raw).symbol == symbol


def test_a_cut_that_is_not_unique_is_no_answer() -> None:
    assets = {name: {"aclass": "currency", "altname": name} for name in ("AB", "ABC", "CDE", "DE")}
    pairs = {
        "1": {"base": "ABC", "quote": "DE", "altname": "1"},
        "2": {"base": "AB", "quote": "CDE", "altname": "2"},
    }
    book = PairBook.of(pairs, assets)
    assert not book.resolve("ABCDE").resolved


@pytest.mark.parametrize(
    ("raw", "aclass", "expected"),
    [
        ("WAB/USD", "equity_pair", known("WAB", "stock", "USD")),
        ("ETH/USD", "equity_pair", known("ETH", "stock", "USD")),  # a ticker, not the coin
        ("XETHZUSD", "forex", known("ETH/USD", "crypto", "USD")),
        ("GONE/USD", "forex", known("GONE/USD", "crypto", "USD")),
        ("GONE/USD", None, known("GONE/USD", "other", "USD")),  # never guessed
        ("XETHZUSD", "futures_contract", known("ETH/USD", "other", "USD")),
        ("AAPLxUSD", "tokenized_asset", known("AAPLx/USD", "tokenized", "USD")),
        ("WABUSD", "equity_pair", Instrument("WABUSD", "other", None, resolved=False)),
    ],
)
def test_the_class_word_of_a_row_decides_what_a_name_cannot(raw: str, aclass: str | None, expected: Instrument) -> None:
    assert BOOK.resolve(raw, aclass) == expected


def test_without_assets_names_come_from_the_pairs() -> None:
    book = PairBook.of(PAIRS)
    assert book.resolve("XETHZEUR").symbol == "ETH/EUR"
    assert book.resolve("ZEURZUSD").asset_class == "forex"
    assert book.resolve("AAPLx/USD").asset_class == "tokenized"


@pytest.mark.parametrize("entry", [None, "x", {}, {"base": 1, "quote": "ZUSD"}, {"base": "", "quote": "ZUSD"}])
def test_B14_entries_of_another_shape_are_passed_over(entry: object) -> None:
    book = PairBook.of({**PAIRS, "BROKEN": entry}, {**ASSETS, "BROKEN": entry})
    assert book.resolve("XXBTZUSD").symbol == "BTC/USD"


def test_pairs_are_remembered_for_ever() -> None:
    listed = PairBook.of({"NEWUSD": {"base": "NEW", "quote": "ZUSD", "wsname": "NEW/USD"}}, ASSETS)
    text = listed.remember("NEWUSD").remember("QQQQ").dumps()
    later = PairBook.loads(text).merge(BOOK)
    assert later.resolve("NEWUSD") == known("NEW/USD", "crypto", "USD")
    assert later.knows({"pair": "NEWUSD"})
    assert later.dumps() == text
    assert not BOOK.resolve("NEWUSD").resolved


def test_merging_drops_nothing() -> None:
    one = PairBook.of({"AAAUSD": {"base": "AAA", "quote": "ZUSD"}}).remember("AAAUSD")
    two = PairBook.of({"BBBEUR": {"base": "BBB", "quote": "ZEUR"}}).remember("BBBEUR")
    for book in (one.merge(two), two.merge(one)):
        assert [book.resolve(raw).symbol for raw in ("AAAUSD", "BBBEUR")] == ["AAA/USD", "BBB/EUR"]
        assert list(json.loads(book.dumps())) == ["AAAUSD", "BBBEUR"]


def test_remembering_again_changes_nothing() -> None:
    book = BOOK.remember("XXBTZUSD")
    assert book.remember("XXBTZUSD") is book
    assert BOOK.dumps() == "{}"


@pytest.mark.parametrize("text", [None, "", "x", "[]", "1", '{"A":1}', '{"A":[1]}'])
def test_D10_a_memory_that_cannot_be_read_is_empty(text: str | None) -> None:
    assert PairBook.loads(text).dumps() == "{}"


def test_knows_says_when_fresh_lists_could_tell_more() -> None:
    assert BOOK.knows({"pair": "XXBTZUSD"})
    assert BOOK.knows({"pair": "XXBTZUSD.d"})
    assert BOOK.knows({"pair": "WAB/USD", "aclass": "equity_pair"})
    assert BOOK.knows({})
    assert not BOOK.knows({"pair": "XICNXXBT"})
    assert BOOK.remember("XICNXXBT").knows({"pair": "XICNXXBT"})
    assert not PairBook().knows({"pair": "XXBTZUSD"})
