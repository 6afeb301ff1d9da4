"""Executions made to order, for tests that need no broker."""

from __future__ import annotations

from decimal import Decimal

from worker.models import Execution, ingestion_hash


def execution(number: int, *, account: str, raw: str = "{}", quantity: str = "1") -> Execution:
    at = 1_750_000_000_000 + number
    return Execution(
        provider="kraken",
        source="kraken_trades",
        account_ref=account,
        external_execution_id=f"TAAAAA-BBBBB-{number:06}",
        occurred_at=at,
        symbol="BTC/USD",
        raw_symbol="XXBTZUSD",
        asset_class="crypto",
        side="buy",
        quantity=Decimal(quantity),
        price=Decimal("60000.5"),
        fee=Decimal("0.1"),
        currency="USD",
        fee_currency="USD",
        ingestion_hash=ingestion_hash(
            provider="kraken",
            account_ref=account,
            symbol="BTC/USD",
            side="buy",
            quantity=Decimal(quantity),
            price=Decimal("60000.5"),
            occurred_at=at,
            repeat=0,
        ),
        raw_payload=raw,
    )
