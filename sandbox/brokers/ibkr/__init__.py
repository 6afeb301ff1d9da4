"""Interactive Brokers' Client Portal Web API and Flex Web Service, simulated."""

from sandbox.brokers.faults import Fault
from sandbox.brokers.ibkr.flex.inputs import FlexCode, FlexQuirks
from sandbox.brokers.ibkr.inputs import Cancellation, Correction, NewFill, Quirks, Setup
from sandbox.brokers.ibkr.oauth import Consumer
from sandbox.brokers.ibkr.simulator import IbkrSimulator

__all__ = [
    "Cancellation", "Consumer", "Correction", "Fault", "FlexCode", "FlexQuirks", "IbkrSimulator", "NewFill", "Quirks",
    "Setup",
]  # fmt: skip
