"""`make demo`: the whole product at work on this machine, with no account and no network.

Real are the worker, its HTTP, its signatures and tokens, the Convex package and the project's own functions.
Simulated are the brokers and the Convex host. Whatever is shown was read back from Convex through the functions
that the app's pages call.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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

from sandbox import session
from sandbox.convex import LocalConvex, local_convex
from sandbox.processes import ROOT, Child, free_port, start_ibkr, start_kraken, start_pages
from worker.connectors.ibkr_calendar import outage_at
from worker.models import Region

CONSOLE = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
TRADES = 130
IBKR_TRADES = 10
LOG = ROOT / ".build" / "demo-worker.log"

PLANS = (
    # name, instrument as a person types it, campaign
    ("Bitcoin above the range", "btcusd", "Majors, autumn"),
    ("Ether against the euro", "ETH/EUR", "Majors, autumn"),
    ("Solana swing", " sol-usd ", None),
    ("Cardano breakout", "ADA/EUR", None),
    ("Cardano dip", "ADAEUR", None),
    ("Apple before earnings", " aapl ", None),
    ("Berkshire, long", "BRK B", None),
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
    ibkr: Child
    journal: Journal
    kraken_id: str
    ibkr_id: str
    worker_env: dict[str, str]
    api_port: int


@contextlib.contextmanager
def sandbox(*, fill_every: int | None) -> Iterator[World]:
    """Start the servers, seed the journal, connect the simulated accounts."""
    api_port = free_port()
    growth = ("--fill-every", str(fill_every)) if fill_every else ()
    with contextlib.ExitStack() as stack:
        convex = stack.enter_context(local_convex("--crons", env={"TRADE_SYNC_URL": f"http://127.0.0.1:{api_port}"}))
        kraken = stack.enter_context(start_kraken("--trades", str(TRADES), "--years", "1", "--seed", "demo", *growth))
        ibkr = stack.enter_context(
            # A session that midnight does not end: the demo's commands do.
            start_ibkr("--trades", str(IBKR_TRADES), "--years", "0.95", "--seed", "demo", "--no-reset", *growth)
        )
        authorization = {"Authorization": f"Bearer {convex.userToken}"}
        client = stack.enter_context(httpx.Client(base_url=convex.address, headers=authorization, timeout=30))
        journal = Journal(client)
        seed_plans(journal)
        kraken_id = journal.mutation(
            "tradeImport/connections:create",
            kind="kraken",
            label="Kraken (simulated)",
            settings={"intervalMinutes": 1},
            auth={"kind": "kraken", "apiKey": kraken.info["apiKey"], "apiSecret": kraken.info["apiSecret"]},
        )
        ibkr_id = journal.mutation(
            "tradeImport/connections:create",
            kind="ibkr_gateway",
            label="Interactive Brokers (simulated)",
            settings={"intervalMinutes": 1, "ibkrRegion": waking_region()},
            auth={"kind": "ibkr_gateway", "baseUrl": ibkr.info["address"]},
        )
        flex = ibkr.info["flex"]
        journal.mutation(
            "tradeImport/connections:create",
            kind="ibkr_flex",
            label="Interactive Brokers, reports (simulated)",
            accountRef=ibkr.info["accounts"][0],
            settings={"intervalMinutes": 15},
            auth={
                "kind": "ibkr_flex",
                "token": flex["token"],
                "activityQueryId": flex["activityQuery"],
                "confirmQueryId": flex["confirmQuery"],
            },
        )
        worker_env = {
            "IBKR_FLEX_URL": flex["address"],
            "CONVEX_URL": convex.address,
            "KRAKEN_BASE_URL": kraken.info["address"],
            "IBKR_GATEWAYS": ibkr.info["address"],
            "TRADE_SYNC_PRIVATE_KEY": convex.workerPrivateKey,
            "TRADE_SYNC_SECRET": convex.syncSecret,
            "TRADE_SYNC_API_PORT": str(api_port),
            "TRADE_SYNC_LOG_STYLE": "console",
        }
        session.DEMO.parent.mkdir(exist_ok=True)
        session.DEMO.write_text(json.dumps({"gateway": ibkr.info["address"]}))
        stack.callback(session.DEMO.unlink, missing_ok=True)
        yield World(convex, kraken, ibkr, journal, kraken_id, ibkr_id, worker_env, api_port)


def waking_region() -> Region:
    """Where no published reset is near, or an expired session would be taken for one."""
    now = int(time.time() * 1000)
    regions: tuple[Region, ...] = ("america", "europe", "asia")
    near = {
        region: any(outage_at(now + minutes * 60_000, region) for minutes in range(0, 61, 10)) for region in regions
    }
    return min(regions, key=lambda region: near[region])


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
    labels = {each["connectionId"]: each["label"] for each in journal.query("tradeImport/connections:list")}
    for job in reversed(journal.query("tradeImport/jobs:list", paginationOpts={"numItems": 5, "cursor": None})["page"]):
        stats = {name: int(count) for name, count in job["stats"].items()}
        CONSOLE.print(
            f"  {labels[job['connectionId']]}, [bold]{job['mode']}[/] {job['status']}: {stats['fetched']} fetched ="
            f" {stats['inserted']} inserted + {stats['updated']} updated + {stats['known']} known"
            f" + {stats['held']} held + {stats['rejected']} rejected"
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


Facts = tuple[int, str | None, Decimal, Decimal, Decimal]
"""When, side, quantity, price and fee of an execution."""


def kraken_ledger(world: World) -> dict[str, Facts]:
    """What Kraken's ledger says, by trade id."""
    fills = httpx.get(world.kraken.info["oracle"]).raise_for_status().json()["fills"]
    return {
        fill["txid"]: (
            int(fill["timeMs"]), fill["type"], Decimal(fill["vol"]), Decimal(fill["price"]), Decimal(fill["fee"]),
        )
        for fill in fills
    }  # fmt: skip


def ibkr_ledger(world: World) -> dict[str, Facts]:
    """What Interactive Brokers' ledger says of fills, by execution, each in its last revision.

    Expiries have no id that the live API and the reports share.
    """
    with session.client(world.ibkr.info["address"]) as gateway:
        fills = gateway.get("/sandbox/oracle").raise_for_status().json()["fills"]
    sides = {"B": "buy", "S": "sell"}
    return {
        fill["family"]: (
            # The live API tells whole seconds.
            int(fill["timeMs"]) // 1000 * 1000, sides.get(fill["side"]), Decimal(fill["size"]), Decimal(fill["price"]),
            Decimal(fill["commission"] or 0),
        )
        for fill in fills
        if fill["kind"] == "fill"
    }  # fmt: skip


def compare(world: World) -> bool:
    """Is what Convex holds exactly what the brokers' ledgers say, to the last digit?"""
    stored = httpx.get(f"{world.convex.address}/sandbox/documents", params={"table": "externalExecutions"}).json()
    CONSOLE.print()
    ledgers = (("Kraken", "kraken", kraken_ledger(world)), ("Interactive Brokers", "ibkr", ibkr_ledger(world)))
    fills = [row for row in stored if row["kind"] == "fill"]
    same = [equals(name, truth, [row for row in fills if row["provider"] == key]) for name, key, truth in ledgers]
    return all(same)


def equals(broker: str, truth: dict[str, Facts], rows: list[dict[str, Any]]) -> bool:
    """Compare one broker's ledger with the executions Convex holds of it, and say what differs."""
    held: dict[str, Facts] = {
        row["externalExecutionId"]: (
            int(row["occurredAt"]), row.get("side"), Decimal(row["quantity"]), Decimal(row["price"]),
            Decimal(row["fee"]),
        )
        for row in rows
    }  # fmt: skip
    same = truth == held and len(rows) == len(truth)
    CONSOLE.print(
        f"the ledger of {broker}: {len(truth)} executions; Convex: {len(rows)} executions; "
        + ("[green]equal, to the last digit[/]" if same else "[red]NOT equal[/]")
    )
    for key in sorted(truth.keys() | held.keys()):
        if truth.get(key) != held.get(key):
            CONSOLE.print(f"  {key}: ledger {truth.get(key)}, Convex {held.get(key)}")
    return same


def worker_environment(world: World) -> dict[str, str]:
    """The settings of this demo, and none that the shell has for a real worker."""
    ours = ("TRADE_SYNC_", "CONVEX_", "KRAKEN_", "IBKR_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | world.worker_env


def run_once(world: World) -> int:
    """One sync of what is due, checked against the ledgers."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "sync"], env=worker_environment(world), cwd=ROOT, check=False
    )
    show_jobs(world.journal)
    show_inbox(world.journal, 10)
    same = compare(world)
    return 0 if same and done.returncode == 0 else 1


def press_sync_now(world: World, how: str) -> None:
    """Press Sync now as the app does, and say how long it took until a job had served it."""
    before = newest_job(world, world.kraken_id)
    pressed = time.monotonic()
    answer = world.journal.mutation("tradeImport/sync:syncNow", connectionId=world.kraken_id)
    if answer["result"] == "limited":
        time.sleep(max(0.0, answer["until"] / 1000 - time.time()) + 0.2)
        pressed = time.monotonic()
        world.journal.mutation("tradeImport/sync:syncNow", connectionId=world.kraken_id)
    while time.monotonic() - pressed < 30:
        job = newest_job(world, world.kraken_id)
        if job is not None and job != before and job["status"] != "running":
            CONSOLE.print(f"  Sync now, {how}: {job['status']} after {time.monotonic() - pressed:.1f} s")
            return
        time.sleep(0.05)
    raise DemoFailed(f"Sync now, {how}, was not served within 30 s; see {LOG}")


def newest_job(world: World, connection_id: str) -> dict[str, Any] | None:
    """The connection's last job."""
    opts = {"numItems": 1, "cursor": None}
    page = world.journal.query("tradeImport/jobs:list", connectionId=connection_id, paginationOpts=opts)["page"]
    return page[0] if page else None


def wait_for_first_jobs(world: World, worker: subprocess.Popen[bytes]) -> None:
    """Until the daemon has finished the first imports."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if worker.poll() is not None:
            raise DemoFailed(f"the worker ended with {worker.returncode}; see {LOG}")
        jobs = [newest_job(world, connection_id) for connection_id in (world.kraken_id, world.ibkr_id)]
        if all(job is not None and job["status"] != "running" for job in jobs):
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
            wait_for_first_jobs(world, worker)
            show_jobs(world.journal)
            show_inbox(world.journal)
            press_sync_now(world, "posted to the worker's endpoint")
            httpx.post(
                f"{world.convex.address}/sandbox/env", json={"name": "TRADE_SYNC_URL", "value": None}
            ).raise_for_status()
            press_sync_now(world, "without an inbound port, through the watch")
            with contextlib.ExitStack() as stack:
                built = (ROOT / "web" / ".next" / "BUILD_ID").exists()
                pages = stack.enter_context(start_pages(world.convex.address)) if built else None
                show_addresses(world)
                show_pages(pages)
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
    kraken, ibkr = world.kraken.info, world.ibkr.info
    for what, where in (
        ("Convex (local)", world.convex.address),
        ("Kraken (simulated)", kraken["address"]),
        ("  its ledger", kraken["oracle"]),
        ("  calls it got", kraken["audit"]),
        ("IBKR (simulated)", ibkr["loginUrl"]),
        ("  its ledger", ibkr["oracle"]),
        ("  calls it got", ibkr["audit"]),
        ("worker", f"http://127.0.0.1:{world.api_port}/readyz and /metrics"),
        ("  its log", os.path.relpath(LOG)),
    ):
        CONSOLE.print(f"  {what:<20}{where}")
    CONSOLE.print(
        "\n  End the Interactive Brokers session and watch it recover, from another terminal:\n"
        "    make session DO=expire     the connection asks for a login\n"
        "    make session DO=login      or open the address above and log in; within a minute the import goes on\n"
        "\n  A new simulated fill appears every minute or so and is imported by itself. Ctrl-C stops everything.\n"
    )


def show_pages(pages: Child | None) -> None:
    """The one address that matters."""
    if pages is None:
        CONSOLE.print("  The pages are not built yet: stop this and start it with `make demo`.\n")
        return
    CONSOLE.print(f"  [bold]Open the Import Inbox: {pages.info['address']}[/]\n", soft_wrap=True)


def follow(world: World, worker: subprocess.Popen[bytes]) -> None:
    """Print rows as they arrive, and what the owner of a connection would read when something is wrong."""
    # By the fill, not by its trade: what is derived anew may be another row of the journal.
    seen = {row["executionId"] for row in world.journal.inbox(1000)}
    said = health(world)
    while worker.poll() is None:
        for label, sentence in (now := health(world)).items():
            if sentence != said.get(label):
                CONSOLE.print(f"  {datetime.now(UTC):%H:%M:%S} UTC  {label}: {sentence}")
        said = now
        for row in reversed(world.journal.inbox(50)):
            if row["executionId"] not in seen:
                seen.add(row["executionId"])
                moment = datetime.fromtimestamp(row["occurredAt"] / 1000, UTC)
                CONSOLE.print(
                    f"  {moment:%H:%M:%S} UTC  new in the inbox: {row['side']} {row['quantity']} {row['symbol']}"
                    f" @ {row['price']}  suggested: {suggested(row)}"
                )
        time.sleep(1)
    raise DemoFailed(f"the worker ended with {worker.returncode}; see {LOG}")


def health(world: World) -> dict[str, str]:
    """What each connection's page says; a sync under way is no news."""
    connections = world.journal.query("tradeImport/connections:list", now=time.time() * 1000)
    return {
        each["label"]: f"{each['health']['state']}. {each['health']['sentence']}"
        for each in connections
        if each["health"]["state"] != "syncing"
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the trade import against simulated brokers on this machine.")
    parser.add_argument(
        "--once", action="store_true", help="one sync, checked against the brokers' ledgers, then leave"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    CONSOLE.print("starting the sandbox: local Convex server, Kraken and Interactive Brokers simulators …")
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
