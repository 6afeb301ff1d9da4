"""Interactive Brokers' Client Portal Web API, simulated."""

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.inputs import Correction, NewFill, Quirks, Setup
from sandbox.brokers.ibkr.oauth import Consumer
from sandbox.brokers.ibkr.simulator import IbkrSimulator

__all__ = ["Consumer", "Correction", "Fault", "IbkrSimulator", "NewFill", "Quirks", "Setup"]
