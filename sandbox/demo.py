"""`make demo`: the whole product at work on this machine, with no account and no network.

Real are the worker, its HTTP, its signatures and tokens, the Convex package and the project's own functions.
Simulated are the broker and the Convex host. Whatever is shown was read back from Convex through the functions
that the app's pages call.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from sandbox.convex import LocalConvex, local_convex
from sandbox.processes import ROOT, Child, free_port, start_kraken

CONSOLE = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
TRADES = 130
LOG = ROOT / ".build" / "demo-worker.log"

PLANS = (
    # name, instrument as a person types it, campaign
    ("Bitcoin above the range", "btcusd", "Majors, autumn"),
    ("Ether against the euro", "ETH/EUR", "Majors, autumn"),
    ("Solana swing", " sol-usd ", None),
    ("Cardano breakout", "ADA/EUR", None),
    ("Cardano dip", "ADAEUR", None),
)


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The app's functions, called as its user."""

    client: httpx.Client

    def query(self, path: str, **args: Any) -> Any:
        return self._call("query", path, args)

    def mutation(self, path: str, **args: Any) -> Any:
        return self._call("mutation", path, args)

    def _call(self, kind: str, path: str, args: dict[str, Any]) -> Any:
        answer = self.client.post(f"/api/{kind}", json={"path": path, "args": args, "format": "json"}).json()
        if answer.get("status") != "success":
            raise DemoFailed(f"{path}: {answer.get('errorData') or answer}")
        return answer["value"]

    def inbox(self, count: int) -> list[dict[str, Any]]:
        """The newest rows that wait for review."""
        page = self.query("tradeImport/inbox:list", paginationOpts={"numItems": count, "cursor": None})
        rows: list[dict[str, Any]] = page["page"]
        return rows


@dataclass(frozen=True, slots=True)
class World:
    """Everything the demo runs against."""

    convex: LocalConvex
    kraken: Child
    journal: Journal
    connection_id: str
    worker_env: dict[str, str]
    api_port: int


@contextlib.contextmanager
def sandbox(*, fill_every: int | None) -> Iterator[World]:
    """Start the servers, seed the journal, connect the simulated account."""
    api_port = free_port()
    growth = ("--fill-every", str(fill_every)) if fill_every else ()
    with contextlib.ExitStack() as stack:
        convex = stack.enter_context(local_convex(env={"TRADE_SYNC_URL": f"http://127.0.0.1:{api_port}"}))
        kraken = stack.enter_context(start_kraken("--trades", str(TRADES), "--years", "1", "--seed", "demo", *growth))
        authorization = {"Authorization": f"Bearer {convex.userToken}"}
        client = stack.enter_context(httpx.Client(base_url=convex.address, headers=authorization, timeout=30))
        journal = Journal(client)
        seed_plans(journal)
        connection_id = journal.mutation(
            "tradeImport/connections:create",
            kind="kraken",
            label="Kraken (simulated)",
            settings={"intervalMinutes": 1},
            auth={"kind": "kraken", "apiKey": kraken.info["apiKey"], "apiSecret": kraken.info["apiSecret"]},
        )
        worker_env = {
            "CONVEX_URL": convex.address,
            "KRAKEN_BASE_URL": kraken.info["address"],
            "TRADE_SYNC_PRIVATE_KEY": convex.workerPrivateKey,
            "TRADE_SYNC_SECRET": convex.syncSecret,
            "TRADE_SYNC_API_PORT": str(api_port),
            "TRADE_SYNC_LOG_STYLE": "console",
        }
        yield World(convex, kraken, journal, connection_id, worker_env, api_port)


def seed_plans(journal: Journal) -> None:
    """Two campaigns and a few open plans, typed as people type them."""
    campaigns: dict[str, str] = {}
    for name, symbol, campaign in PLANS:
        if campaign and campaign not in campaigns:
            campaigns[campaign] = journal.mutation(
                "campaigns:createCampaign", name=campaign, thesis="Strength after the summer", status="active"
            )
        journal.mutation(
            "tradePlans:createTradePlan",
            name=name,
            instrumentSymbol=symbol,
            entryConditions="Close above the range",
            exitConditions="Close below the range",
            targetConditions="Twice the risk",
            status="active",
            **({"campaignId": campaigns[campaign]} if campaign else {}),
        )


def show_jobs(journal: Journal) -> None:
    """One line a job: what it did."""
    for job in reversed(journal.query("tradeImport/jobs:list", paginationOpts={"numItems": 5, "cursor": None})["page"]):
        stats = {name: int(count) for name, count in job["stats"].items()}
        CONSOLE.print(
            f"  job [bold]{job['mode']}[/] {job['status']}: {stats['fetched']} fetched = {stats['inserted']} inserted"
            f" + {stats['updated']} updated + {stats['known']} known + {stats['held']} held"
            f" + {stats['rejected']} rejected"
        )


def show_inbox(journal: Journal, count: int = 20) -> None:
    """The newest rows of the Import Inbox."""
    counts = journal.query("tradeImport/inbox:counts")
    rows = journal.inbox(count)
    table = Table(title=f"Import Inbox: {int(counts['pendingReview'])} wait for review, the newest {len(rows)}:")
    for column in ("time (UTC)", "symbol", "side"):
        table.add_column(column)
    for column in ("quantity", "price", "fee"):
        table.add_column(column, justify="right")
    table.add_column("suggested plan")
    for row in rows:
        table.add_row(
            datetime.fromtimestamp(row["occurredAt"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            row["symbol"],
            row["side"],
            row["quantity"],
            row["price"],
            f"{row['fee']} {row['feeCurrency'] or ''}",
            suggested(row),
        )
    CONSOLE.print(table)


def suggested(row: dict[str, Any]) -> str:
    """The plan that is suggested for a row; a dash for none."""
    return str(row["suggestion"]["name"]) if row["suggestion"] else "-"


def compare(world: World) -> bool:
    """Is what Convex holds exactly what the broker's ledger says, to the last digit?"""
    oracle = httpx.get(world.kraken.info["oracle"]).raise_for_status().json()["fills"]
    stored = httpx.get(f"{world.convex.address}/sandbox/documents", params={"table": "externalExecutions"}).json()
    truth = {
        fill["txid"]: (
            int(fill["timeMs"]), fill["type"], Decimal(fill["vol"]), Decimal(fill["price"]), Decimal(fill["fee"]),
        )
        for fill in oracle
    }  # fmt: skip
    held = {
        row["externalExecutionId"]: (
            int(row["occurredAt"]), row["side"], Decimal(row["quantity"]), Decimal(row["price"]), Decimal(row["fee"]),
        )
        for row in stored
    }  # fmt: skip
    same = truth == held and len(stored) == len(oracle)
    CONSOLE.print(
        f"\nthe broker's ledger: {len(oracle)} executions; Convex: {len(stored)} executions; "
        + ("[green]equal, to the last digit[/]" if same else "[red]NOT equal[/]")
    )
    for txid in sorted(truth.keys() | held.keys()):
        if truth.get(txid) != held.get(txid):
            CONSOLE.print(f"  {txid}: ledger {truth.get(txid)}, Convex {held.get(txid)}")
    return same


def worker_environment(world: World) -> dict[str, str]:
    """The settings of this demo, and none that the shell has for a real worker."""
    ours = ("TRADE_SYNC_", "CONVEX_", "KRAKEN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | world.worker_env


def run_once(world: World) -> int:
    """One sync of what is due, checked against the ledger."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "sync"], env=worker_environment(world), cwd=ROOT, check=False
    )
    show_jobs(world.journal)
    show_inbox(world.journal, 10)
    same = compare(world)
    return 0 if same and done.returncode == 0 else 1


def press_sync_now(world: World, how: str) -> None:
    """Press Sync now as the app does, and say how long it took until a job had served it."""
    before = newest_job(world.journal)
    pressed = time.monotonic()
    answer = world.journal.mutation("tradeImport/sync:syncNow", connectionId=world.connection_id)
    if answer["result"] == "limited":
        time.sleep(max(0.0, answer["until"] / 1000 - time.time()) + 0.2)
        pressed = time.monotonic()
        world.journal.mutation("tradeImport/sync:syncNow", connectionId=world.connection_id)
    while time.monotonic() - pressed < 30:
        job = newest_job(world.journal)
        if job is not None and job != before and job["status"] != "running":
            CONSOLE.print(f"  Sync now, {how}: {job['status']} after {time.monotonic() - pressed:.1f} s")
            return
        time.sleep(0.05)
    raise DemoFailed(f"Sync now, {how}, was not served within 30 s; see {LOG}")


def newest_job(journal: Journal) -> dict[str, Any] | None:
    """The connection's last job."""
    page = journal.query("tradeImport/jobs:list", paginationOpts={"numItems": 1, "cursor": None})["page"]
    return page[0] if page else None


def wait_for_first_job(world: World, worker: subprocess.Popen[bytes]) -> None:
    """Until the daemon has finished the first import."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if worker.poll() is not None:
            raise DemoFailed(f"the worker ended with {worker.returncode}; see {LOG}")
        job = newest_job(world.journal)
        if job is not None and job["status"] != "running":
            return
        time.sleep(0.1)
    raise DemoFailed(f"the first import did not finish within a minute; see {LOG}")


def run_on(world: World) -> int:
    """The daemon, both ways of Sync now, and then whatever happens."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log_file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker", "run"],
            env=worker_environment(world),
            cwd=ROOT,
            stderr=log_file,
            stdout=log_file,
        )
        try:
            wait_for_first_job(world, worker)
            show_jobs(world.journal)
            show_inbox(world.journal)
            press_sync_now(world, "posted to the worker's endpoint")
            httpx.post(
                f"{world.convex.address}/sandbox/env", json={"name": "TRADE_SYNC_URL", "value": None}
            ).raise_for_status()
            press_sync_now(world, "without an inbound port, through the watch")
            show_addresses(world)
            follow(world, worker)
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(timeout=12)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
    return 0


def show_addresses(world: World) -> None:
    """Where to look, and how to stop."""
    kraken = world.kraken.info
    for what, where in (
        ("Convex (local)", world.convex.address),
        ("Kraken (simulated)", kraken["address"]),
        ("  its ledger", kraken["oracle"]),
        ("  calls it got", kraken["audit"]),
        ("worker", f"http://127.0.0.1:{world.api_port}/readyz and /metrics"),
        ("  its log", os.path.relpath(LOG)),
    ):
        CONSOLE.print(f"  {what:<20}{where}")
    CONSOLE.print(
        "\n  A new simulated fill appears every minute or so and is imported by itself. Ctrl-C stops everything.\n"
    )


def follow(world: World, worker: subprocess.Popen[bytes]) -> None:
    """Print rows as they arrive."""
    seen = {row["tradeId"] for row in world.journal.inbox(200)}
    while worker.poll() is None:
        for row in reversed(world.journal.inbox(50)):
            if row["tradeId"] not in seen:
                seen.add(row["tradeId"])
                moment = datetime.fromtimestamp(row["occurredAt"] / 1000, UTC)
                CONSOLE.print(
                    f"  {moment:%H:%M:%S} UTC  new in the inbox: {row['side']} {row['quantity']} {row['symbol']}"
                    f" @ {row['price']}  suggested: {suggested(row)}"
                )
        time.sleep(1)
    raise DemoFailed(f"the worker ended with {worker.returncode}; see {LOG}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the trade import against simulated brokers on this machine.")
    parser.add_argument("--once", action="store_true", help="one sync, checked against the broker's ledger, then leave")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    CONSOLE.print("starting the sandbox: local Convex server, Kraken simulator …")
    try:
        with sandbox(fill_every=None if options.once else 60) as world:
            return run_once(world) if options.once else run_on(world)
    except KeyboardInterrupt:
        CONSOLE.print("stopped")
        return 0
    except DemoFailed as failure:
        CONSOLE.print(f"[red]demo: {failure}[/]")
        return 1


if __name__ == "__main__":
    sys.exit(main())
