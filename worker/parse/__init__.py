"""`trade-sync parse`: a broker's file in, canonical executions out as JSON lines, nothing else touched."""

from worker.parse.ibkr_flex import check_flex_file, parse_ibkr_flex
from worker.parse.ibkr_live import parse_ibkr_live
from worker.parse.kraken import parse_kraken_trades

__all__ = ["check_flex_file", "parse_ibkr_flex", "parse_ibkr_live", "parse_kraken_trades"]
