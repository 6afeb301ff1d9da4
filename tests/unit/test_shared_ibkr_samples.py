"""Real payloads, where the folder with them is at hand. Expectations are derived by hand from reference ibkr 2.8."""

from __future__ import annotations

import hashlib
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from worker.errors import UnusableFile
from worker.parse import parse_ibkr_live

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "ibkr"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")


def parsed(name: str, account: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    out = io.StringIO()
    status = parse_ibkr_live(SAMPLES / name, account, (), out)
    *rows, report = (json.loads(line) for line in out.getvalue().splitlines())
    return status, rows, report


def fill(account: str, **own: str | int) -> dict[str, Any]:
    """A whole execution: what all samples have in common, what each says, and the hash that follows from it."""
    hashed = (
        "ibkr", account, own["symbol"], own["side"], own["quantity"], own["price"], int(own["occurredAt"]) // 1000, 0,
    )  # fmt: skip
    return {
        "type": "execution",
        "provider": "ibkr",
        "source": "ibkr_live",
        "accountRef": account,
        "revision": 1,
        "kind": "fill",
        "assetClass": "stock",
        "rawSymbol": own["symbol"],
        "flags": [],
        "ingestionHash": hashlib.sha256("\n".join(map(str, hashed)).encode()).hexdigest(),
        **own,
    }


# Times: `trade_time_r`. Sizes and prices without the zeros at their end. net_amount is price times size in all of
# them (5 × 192.26 = 961.3, 0.5 × 420.08 = 210.04, 9 × 86.41 = 777.69), so there is no multiplier and no warning.
EXPECTED: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "trades-official-example.json": (
        "U1234567",
        [
            fill(
                "U1234567", externalExecutionId="0000e0d5.6576fd38.01", externalOrderId="17437897932",
                occurredAt=1702317649000, symbol="AAPL", side="sell", quantity="5", price="192.26", fee="1.01",
                conid="265598",
            ),
        ],
    ),
    "trades-fractional-and-whole.json": (
        "DU5822420",
        [
            fill(
                "DU5822420", externalExecutionId="0000e22a.64bb6708.01", occurredAt=1662144086000, symbol="MRK",
                side="sell", quantity="9", price="86.41", fee="1.02", conid="70101545",
            ),
            fill(
                "DU5822420", externalExecutionId="00012735.6311860f.01", occurredAt=1662145171000, symbol="INTU",
                side="buy", quantity="0.5", price="420.08", fee="1", conid="270662",
            ),
        ],
    ),
    "trades-empty.json": ("U1234567", []),
}  # fmt: skip
PRIVATE = {"submitter"}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_trades_sample(name: str) -> None:
    account, expected = EXPECTED[name]
    status, rows, report = parsed(name, account)
    assert status == 0
    assert [{name: value for name, value in row.items() if name != "rawPayload"} for row in rows] == expected
    kinds = {"fill": len(expected)} if expected else {}
    assert (report["rows"], report["kinds"], report["rejects"], report["skipped"]) == (len(expected), kinds, 0, 0)
    assert report["warnings"] == (
        [] if expected else ["The file holds no rows. An empty answer does not prove that there were no trades."]
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_raw_payloads_are_the_rows_without_the_user_s_name(name: str) -> None:
    _, rows, _ = parsed(name, EXPECTED[name][0])
    kept = [json.loads(row["rawPayload"], parse_float=Decimal) for row in rows]
    sent = json.loads((SAMPLES / name).read_text(), parse_float=Decimal)
    for row in sent:
        assert {field: value for field, value in row.items() if field not in PRIVATE} in kept
    assert len(kept) == len(sent)


def test_every_trades_sample_is_expected() -> None:
    assert {path.name for path in SAMPLES.glob("trades-*.json")} == set(EXPECTED)


OTHERS = sorted(
    path.name
    for path in (SAMPLES.iterdir() if SAMPLES.is_dir() else ())
    if path.suffix in (".json", ".xml", ".md") and path.name not in EXPECTED
)


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_sample_passes_for_trades(name: str) -> None:
    with pytest.raises(UnusableFile):
        parsed(name, "U1234567")
