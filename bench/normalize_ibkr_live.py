"""What normalising 10,000 rows of the live API costs: the budget is 0.3 s of CPU and 150 MiB of memory.

Run: `.venv/bin/python bench/normalize_ibkr_live.py [--rows N]`. Prints one JSON line; exit 1 beyond the budget.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from worker import log
from worker.normalize.ibkr_live import normalize_trades

SECONDS, MIB = 0.3, 150
_KINDS = (
    ("STK", "AAPL", "AAPL", None, "192.26", 1),
    ("FUT", "MES", "MES DEC23", None, "4346.25", 5),
    ("OPT", "AAPL", "AAPL", "DEC 15 '23 190 Call", "3.45", 100),
    ("CASH", "EUR", "EUR.USD", None, "1.08125", 1),
)


def answer(rows: int) -> str:
    """An answer of `rows` fills, a second apart, each with all the fields that a real row has."""
    made = []
    for number in range(rows):
        sec_type, symbol, first, second, price, multiplier = _KINDS[number % len(_KINDS)]
        size = number % 90 + 1
        at = 1_702_000_000 + number
        row: dict[str, Any] = {
            "execution_id": f"0000e0d5.{0x6576FD38 + number:08x}.01.01",
            "symbol": symbol,
            "supports_tax_opt": "1",
            "side": "BS"[number % 2],
            "order_description": f"Bot {size} @ {price} on ISLAND",
            "trade_time": time.strftime("%Y%m%d-%H:%M:%S", time.gmtime(at)),
            "trade_time_r": at * 1000,
            "size": float(size),
            "price": price,
            "order_ref": f"order-{number}",
            "submitter": "user1234",
            "exchange": "ISLAND",
            "commission": "1.01",
            "net_amount": float(round(Decimal(price) * size * multiplier, 2)),
            "account": "U1234567",
            "accountCode": "U1234567",
            "account_allocation_name": "U1234567",
            "company_name": "APPLE INC",
            "contract_description_1": first,
            "sec_type": sec_type,
            "listing_exchange": "NASDAQ.NMS",
            "conid": 265598,
            "conidEx": "265598",
            "clearing_id": "IB",
            "clearing_name": "IB",
            "liquidation_trade": "0",
            "is_event_trading": "0",
            "order_id": 17437897932 + number,
        }
        made.append(json.dumps(row | ({"contract_description_2": second} if second else {})))
    return f"[{','.join(made)}]"


def main() -> int:
    """Measure; the process has done nothing else, so its peak memory is the answer's and its meaning's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    log.protect(*(f"{letter}-secret-of-a-connection" for letter in "abcdefgh"))
    records = json.loads(answer(rows), parse_float=Decimal)
    taken = []
    for _ in range(5):
        began = time.process_time()
        meaning = normalize_trades(records, "U1234567", aliases={"U1234567": "U1234567"}, other_accounts=())
        taken.append(time.process_time() - began)
        executions = len(meaning.executions)
        del meaning
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = {
        "rows": rows,
        "executions": executions,
        "cpu_seconds_best": round(min(taken), 3),
        "cpu_seconds_worst": round(max(taken), 3),
        "peak_mib": round(peak, 1),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    allowed = SECONDS * max(rows, 10_000) / 10_000
    return int(min(taken) > allowed or peak > MIB or executions != rows)


if __name__ == "__main__":
    sys.exit(main())
