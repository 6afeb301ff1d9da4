"""One machine stands in for the world: simulated brokers, a local Convex server, demo data."""
