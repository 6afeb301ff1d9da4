"""trade import: copies executed trades from brokers into a Convex trading journal."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("trade-sync-worker")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
