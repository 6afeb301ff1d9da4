"""Simulated brokers: real HTTP, real signatures, scripted faults, an oracle of true fills and an audit."""
