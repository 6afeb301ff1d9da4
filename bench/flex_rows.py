"""What a Flex statement of 100,000 rows costs, beside ibflex in the same run.

The budget: 64 MiB of memory at the peak, and three times the rows a second that ibflex reads. The statement, about
140 MB, is made while it is read. ibflex builds the whole document in memory, so it reads fewer rows of the same kind
(`--ibflex-rows`), which does its rate no harm. Each is measured in a process of its own.

Run: `.venv/bin/python bench/flex_rows.py [--rows N]`. Prints one JSON line; exit 1 beyond the budget.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MIB, TIMES = 64, 3.0

_HEAD = (
    '<FlexQueryResponse queryName="bench" type="AF">\n<FlexStatements count="1">\n'
    '<FlexStatement accountId="U7654321" fromDate="20250102" toDate="20251231" period="" '
    'whenGenerated="20260102;031500">\n<Trades>\n'
)
_FOOT = "</Trades>\n</FlexStatement>\n</FlexStatements>\n</FlexQueryResponse>\n"
_ROW = (
    '<Trade accountId="U7654321" acctAlias="" model="" currency="USD" fxRateToBase="0.91234" '
    'assetCategory="{category}" subCategory="{sub}" symbol="{symbol}" '
    'description="{symbol} OF THE BENCH" conid="{conid}" securityID="US0378331005" securityIDType="ISIN" '
    'cusip="037833100" isin="US0378331005" figi="BBG000B9XRY4" '
    'listingExchange="NASDAQ" underlyingConid="" underlyingSymbol="{symbol}" underlyingSecurityID="" '
    'underlyingListingExchange="" issuer="" issuerCountryCode="US" tradeID="{trade}" multiplier="{multiplier}" '
    'relatedTradeID="" strike="" reportDate="{day}" expiry="" dateTime="{day};{time}" putCall="" tradeDate="{day}" '
    'principalAdjustFactor="" settleDateTarget="{day}" transactionType="ExchTrade" exchange="ISLAND" '
    'quantity="{quantity}" tradePrice="{price}" tradeMoney="1366.52" proceeds="-1366.52" taxes="0" '
    'ibCommission="-1.0352" ibCommissionCurrency="USD" netCash="-1369.52" closePrice="455.49" '
    'openCloseIndicator="{mark}" notes="P" cost="1369.52" fifoPnlRealized="0" mtmPnl="-0.05" origTradePrice="0" '
    'origTradeDate="" origTradeID="" origOrderID="0" origTransactionID="0" buySell="{side}" clearingFirmID="" '
    'ibOrderID="{order}" transactionID="{transaction}" ibExecID="0001f4e8.{execution:08x}.01.01" '
    'relatedTransactionID="" rtn="" brokerageOrderID="000e3ea6.0001cbfa.6940ef59.0001" orderReference="" '
    'volatilityOrderLink="" exchOrderId="N/A" extExecID="PC16JANEETF201531" orderTime="{day};{time}" openDateTime="" '
    'holdingPeriodDateTime="" whenRealized="" whenReopened="" levelOfDetail="EXECUTION" changeInPrice="0" '
    'changeInQuantity="0" orderType="LMT" traderID="" isAPIOrder="N" accruedInt="0" initialInvestment="" '
    'positionActionID="" serialNumber="" deliveryType="" commodityType="" fineness="0.0" weight="0.0" />\n'
)
_INSTRUMENTS = (
    ("STK", "COMMON", "AAPL", 265598, "192.26", 1),
    ("STK", "ETF", "SPY", 756733, "654.31", 1),
    ("OPT", "C", "AAPL  250919C00190000", 700000001, "3.45", 100),
    ("CASH", "", "EUR.USD", 12087792, "1.08125", 1),
)


def pieces(rows: int) -> Iterator[bytes]:
    """A statement of `rows` fills, piece by piece."""
    yield _HEAD.encode()
    for number in range(rows):
        category, sub, symbol, conid, price, multiplier = _INSTRUMENTS[number % len(_INSTRUMENTS)]
        sold = number % 3 == 0
        size = number % 90 + 1
        yield _ROW.format(
            category=category, sub=sub, symbol=symbol, conid=conid, price=price, multiplier=multiplier,
            trade=1_252_050_191 + number, transaction=5_103_375_270 + number, order=1_022_115_019 + number // 3,
            execution=0x69411EA0 + number, day=f"2025{number % 12 + 1:02}{number % 28 + 1:02}",
            time=f"{9 + number % 7:02}{number % 60:02}{number * 7 % 60:02}",
            quantity=-size if sold else size, side="SELL" if sold else "BUY", mark="C" if sold else "O",
        ).encode()  # fmt: skip
    yield _FOOT.encode()


class Statement(io.RawIOBase):
    """Bytes made when they are read, so that the document is nowhere whole."""

    def __init__(self, made: Iterator[bytes]) -> None:
        self.seconds = 0.0
        """What making them has cost: that is no part of reading them."""
        self._made = made
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        began = time.process_time()
        view = memoryview(buffer)  # type: ignore[arg-type]
        parts, size = [self._rest], len(self._rest)
        while size < len(view) and (piece := next(self._made, None)) is not None:
            parts.append(piece)
            size += len(piece)
        data = b"".join(parts)
        self._rest = data[len(view) :]
        given = data[: len(view)]
        view[: len(given)] = given
        self.seconds += time.process_time() - began
        return len(given)


def read_here(statement: BinaryIO) -> int:
    """Read and normalise a statement with this project; how many executions there were."""
    from worker.models import Execution  # noqa: PLC0415 - each reader is loaded in its own process only
    from worker.normalize.flex_document import FlexRow, read_flex  # noqa: PLC0415
    from worker.normalize.ibkr_flex import Drift, is_execution, normalize_row  # noqa: PLC0415

    drift, executions = Drift(), 0
    for event in read_flex(statement):
        if isinstance(event, FlexRow) and is_execution(event, drift):
            executions += isinstance(normalize_row(event, drift), Execution)
    return executions


def read_with_ibflex(statement: BinaryIO) -> int:
    """Read a statement with ibflex; how many trades there were."""
    import ibflex  # noqa: PLC0415 - each reader is loaded in its own process only

    response = ibflex.parser.parse(statement)
    return len(response.FlexStatements[0].Trades)


def measure(reader: str, rows: int) -> dict[str, float]:
    """Rows a second and peak memory of a reader, in a process that does nothing else."""
    command = [sys.executable, __file__, "--rows", str(rows), "--child", reader]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very file
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _child(reader: str, rows: int) -> None:
    read = read_with_ibflex if reader == "ibflex" else read_here
    read(cast("BinaryIO", Statement(pieces(100))))  # loads what it needs
    statement = Statement(pieces(rows))
    began = time.process_time()
    found = read(cast("BinaryIO", statement))
    took = time.process_time() - began - statement.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = {"read": found, "rows_per_second": round(rows / took), "peak_mib": round(peak, 1)}
    sys.stdout.write(json.dumps(report))


def _better(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """The faster of two measurements, with the higher peak of both."""
    faster = max(one, other, key=lambda measured: measured["rows_per_second"])
    return {**faster, "peak_mib": max(one["peak_mib"], other["peak_mib"])}


def main() -> int:
    """Measure both and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ibflex-rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=("ibflex", "here"))
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.rows)
        return 0
    here, ibflex = {"rows_per_second": 0.0, "peak_mib": 0.0}, {"rows_per_second": 0.0, "peak_mib": 0.0}
    # In turns, and the best of each: what else the machine does slows down either.
    for _ in range(options.repeats):
        here = _better(here, measure("here", options.rows))
        ibflex = _better(ibflex, measure("ibflex", min(options.rows, options.ibflex_rows)))
    times = here["rows_per_second"] / ibflex["rows_per_second"]
    report = {
        "rows": options.rows,
        "mib": round(sum(map(len, pieces(options.rows))) / 2**20, 1),
        "executions": here["read"],
        "rows_per_second": here["rows_per_second"],
        "ibflex_rows_per_second": ibflex["rows_per_second"],
        "times": round(times, 2),
        "peak_mib": here["peak_mib"],
        "ibflex_peak_mib": ibflex["peak_mib"],
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return int(times < TIMES or here["peak_mib"] > MIB or here["read"] != options.rows)


if __name__ == "__main__":
    sys.exit(main())
