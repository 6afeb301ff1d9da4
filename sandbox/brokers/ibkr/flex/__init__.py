"""Interactive Brokers' Flex Web Service, simulated over the same ledger as the live API."""
