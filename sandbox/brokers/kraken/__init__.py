"""Kraken's spot REST API, simulated."""

from sandbox.brokers.faults import Fault
from sandbox.brokers.kraken.access import ApiKey, sign
from sandbox.brokers.kraken.simulator import KeyChange, KrakenSimulator, NewFill, Quirks, Setup

__all__ = ["ApiKey", "Fault", "KeyChange", "KrakenSimulator", "NewFill", "Quirks", "Setup", "sign"]
