"""The command line: `trade-sync run · sync · import-flex · replay · parse · check-flex · keys`.

Data goes to stdout, talk and logs to stderr. Exit status of `sync`: 0 all well, 1 something failed, 2 a person
must act. A bad setting or argument ends any command with 2 and one line for each problem.

Commands that read files load nothing of the daemon, so that they stay within a small memory.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker import __version__, log, parse
from worker.errors import ConvexRefused, ConvexUnavailable, Failure, SettingsInvalid, UnusableFile
from worker.models import Difference, DueConnection, Execution, JobOutcome, Refusal, Reject, plain

if TYPE_CHECKING:
    from worker.replay import Reread
    from worker.settings import Settings
    from worker.sync import Report

app = typer.Typer(
    name="trade-sync",
    help="Pull executed trades from brokers into a Convex trading journal.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
parse_app = typer.Typer(help="Read a broker's file and print canonical executions as JSON lines.", no_args_is_help=True)
app.add_typer(parse_app, name="parse")

ALL_WELL, FAILED, PERSON_MUST_ACT = 0, 1, 2


def main() -> None:
    """The console script."""
    try:
        app(standalone_mode=True)
    except SettingsInvalid as invalid:
        for problem in invalid.problems:
            typer.echo(f"trade-sync: {problem}", err=True)
        sys.exit(PERSON_MUST_ACT)


@app.command()
def run() -> None:
    """Stay and sync every active connection when it is due, until SIGTERM or Ctrl-C."""
    from worker import daemon  # noqa: PLC0415

    sys.exit(daemon.run(_settings()))


@app.command()
def sync(
    everything: Annotated[bool, typer.Option("--all", help="Every connection, due or not.")] = False,
    connection: Annotated[str | None, typer.Option(help="Only this connection, due or not.")] = None,
) -> None:
    """Sync what is due once and leave. Exit 0: all well; 1: something failed; 2: a person must act."""
    from worker import daemon  # noqa: PLC0415

    worker = daemon.Worker(_settings())
    worker.stop_on_signals()
    status = ALL_WELL
    synced: set[str] = set()
    try:
        for report in worker.scheduler.run_once(everything=everything, only=connection):
            synced.add(report.connection_id)
            typer.echo(progress_line(report))
            status = max(status, exit_status(report))
    except ConvexUnavailable as error:
        typer.echo(f"trade-sync: Convex does not answer: {error}", err=True)
        sys.exit(FAILED)
    except ConvexRefused as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(PERSON_MUST_ACT)
    known = worker.scheduler.connections
    if connection is not None and connection not in {c.connection_id for c in known}:
        typer.echo(f"trade-sync: there is no connection {connection}; see `connections.list`", err=True)
        sys.exit(FAILED)
    for waiting in (c for c in known if c.status == "needs_reauth" and c.connection_id not in synced):
        typer.echo(f"{_name(waiting)}: needs new credentials before it can sync; see Import Errors")
        status = PERSON_MUST_ACT
    if not synced:
        typer.echo(f"nothing is due ({len(known)} connection{'' if len(known) == 1 else 's'})")
    sys.exit(status)


@app.command("import-flex")
def import_flex(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="Flex statements in XML, as downloaded from Client Portal."),
    ],
    connection: Annotated[str, typer.Option(help="The connection to Interactive Brokers that they belong to.")],
) -> None:
    """Import downloaded Flex statements. Again changes nothing. Exit as of `sync`, and 1 for an unusable file."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from worker import daemon  # noqa: PLC0415

    try:
        worker = daemon.Worker(_settings())
        worker.stop_on_signals()
        with Progress(console=Console(stderr=True)) as progress:
            report = worker.import_flex(
                connection, files, lambda path: progress.open(path, "rb", description=path.name)
            )
    except (UnusableFile, ConvexUnavailable) as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(FAILED)
    except ConvexRefused as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(PERSON_MUST_ACT)
    typer.echo(progress_line(report))
    sys.exit(exit_status_of_files(report))


@app.command()
def keys(
    out: Annotated[Path, typer.Option(help="Where the worker's private key is written.")] = Path("worker-key.pem"),
    keep: Annotated[
        str | None, typer.Option(help="To rotate: the present TRADE_SYNC_JWKS, whose keys stay valid beside the new.")
    ] = None,
) -> None:
    """Make the worker's key pair and print the two commands that give it its identity."""
    from worker import identity  # noqa: PLC0415

    try:
        typer.echo(identity.write_keys(out, keep=keep))
    except FileExistsError:
        typer.echo(f"trade-sync: {out} exists already; name another file with --out", err=True)
        sys.exit(PERSON_MUST_ACT)
    except ValueError as error:
        typer.echo(f"trade-sync: --keep: {error}", err=True)
        sys.exit(PERSON_MUST_ACT)


@parse_app.command("kraken-trades")
def parse_kraken_trades(
    file: Annotated[Path, typer.Argument(help="A TradesHistory envelope, one envelope a line, or a CSV export.")],
    account: Annotated[str, typer.Option(help="The account reference the executions get.")],
    asset_pairs: Annotated[
        Path | None, typer.Option(help="An AssetPairs answer; without it well-known names are resolved only.")
    ] = None,
) -> None:
    """Kraken trades. Exit 0 without rejects, 2 with some, 1 for an unusable file."""
    try:
        sys.exit(parse.parse_kraken_trades(file, account, asset_pairs, sys.stdout))
    except UnusableFile as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(FAILED)


@parse_app.command("ibkr-live")
def parse_ibkr_live(
    file: Annotated[Path, typer.Argument(help="An answer of /iserver/account/trades, or one answer a line.")],
    account: Annotated[str, typer.Option(help="The account whose rows are wanted.")],
    other_account: Annotated[
        list[str] | None, typer.Option(help="An account whose rows are to be skipped; may be given again.")
    ] = None,
) -> None:
    """Interactive Brokers trades of the live API. Exit 0 without rejects, 2 with some, 1 for an unusable file."""
    try:
        sys.exit(parse.parse_ibkr_live(file, account, other_account or (), sys.stdout))
    except UnusableFile as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(FAILED)


@parse_app.command("ibkr-flex")
def parse_ibkr_flex(
    file: Annotated[Path, typer.Argument(help="A Flex statement in XML, activity or trade confirmation.")],
    account: Annotated[
        str | None, typer.Option(help="The account whose rows are wanted; without it those of all accounts.")
    ] = None,
) -> None:
    """Interactive Brokers trades of a Flex statement. Exit 0 without rejects, 2 with some, 1 for an unusable file."""
    try:
        sys.exit(parse.parse_ibkr_flex(file, account, sys.stdout))
    except UnusableFile as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(FAILED)


@app.command("check-flex")
def check_flex(
    file: Annotated[
        Path | None, typer.Argument(help="A statement of the Flex query in XML, of days with trades.")
    ] = None,
    connection: Annotated[
        str | None, typer.Option(help="Or a connection with Flex queries: it is synced, and what came is checked.")
    ] = None,
) -> None:
    """Name every box missing in a Flex query. Exit 0 when nothing is missing, else 2, 1 if nothing can be checked."""
    try:
        match file, connection:
            case Path(), None:
                sys.exit(parse.check_flex_file(file, sys.stdout))
            case None, str():
                sys.exit(_check_connection(connection))
            case _:
                typer.echo("trade-sync: name a file or a connection, and not both", err=True)
                sys.exit(PERSON_MUST_ACT)
    except (UnusableFile, ConvexUnavailable) as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(FAILED)
    except ConvexRefused as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(PERSON_MUST_ACT)


def _check_connection(connection: str) -> int:
    from worker import daemon  # noqa: PLC0415

    worker = daemon.Worker(_settings())
    worker.stop_on_signals()
    report = worker.sync_flex(connection)
    typer.echo(progress_line(report), err=True)
    if report.job_id is None:
        return FAILED
    with tempfile.TemporaryDirectory() as directory:
        unpacked = worker.unpack_reports(report.job_id, Path(directory))
        status = ALL_WELL
        for path in unpacked.paths:
            typer.echo(f"{path.name}:")
            status = max(status, parse.check_flex_file(path, sys.stdout))
    return status


@app.command()
def replay(
    job: Annotated[str, typer.Argument(help="A job that received Flex reports; see `jobs.list`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and change nothing.")] = False,
) -> None:
    """Read a job's kept reports again with this version: show the difference, then apply it. Exit as of `sync`."""
    from worker import daemon  # noqa: PLC0415

    try:
        worker = daemon.Worker(_settings())
        worker.stop_on_signals()
        with tempfile.TemporaryDirectory() as directory:
            unpacked = worker.unpack_reports(job, Path(directory))
            fates = Counter({"new": 0, "changed": 0, "known": 0, "outdated": 0, "unreadable": 0})
            for row in worker.compare_reports(unpacked):
                fates[row.fate] += 1
                for line in difference_lines(row):
                    typer.echo(line)
            typer.echo(", ".join(f"{count} {fate}" for fate, count in fates.items()))
            if dry_run:
                sys.exit(ALL_WELL)
            report = worker.replay(unpacked)
    except (UnusableFile, ConvexUnavailable, Failure) as error:
        typer.echo(f"trade-sync: {error.sentence if isinstance(error, Failure) else error}", err=True)
        sys.exit(FAILED)
    except ConvexRefused as error:
        typer.echo(f"trade-sync: {error}", err=True)
        sys.exit(PERSON_MUST_ACT)
    typer.echo(progress_line(report))
    sys.exit(exit_status_of_files(report))


def difference_lines(row: Reread) -> list[str]:
    """What people read of one row of a report that is read again; nothing where nothing would change."""
    match row.meaning, row.difference:
        case Execution() as execution, Difference(fate="new"):
            what = f"{execution.side or execution.kind} {plain(execution.quantity)} {execution.symbol}"
            moment = dt.datetime.fromtimestamp(execution.occurred_at / 1000, dt.UTC)
            return [f"+ {execution.key}: {what} at {plain(execution.price)}, {moment:%Y-%m-%d %H:%M:%S} UTC"]
        case Execution() as execution, Difference(fate="changed", changes=changes):
            facts = ", ".join(
                f"{each.fact} {each.before or 'nothing'} -> {each.after or 'nothing'}" for each in changes
            )
            return [f"~ {execution.key}: {facts or 'one more view of it'}"]
        case Reject() as reject, _:
            return [f"! {reject.external_execution_id or reject.fingerprint[:12]}: {reject.reason}"]
        case _:
            return []


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def exit_status(report: Report) -> int:
    """What a report means for the exit status."""
    match report.outcome:
        case JobOutcome(status="succeeded") | Refusal(reason="held" | "not_due"):
            return ALL_WELL
        case JobOutcome(status="blocked_reauth"):
            return PERSON_MUST_ACT
        case _:
            return FAILED


def exit_status_of_files(report: Report) -> int:
    """The same of a report on files: nobody else imports them, so a job that was not granted is no success."""
    return FAILED if isinstance(report.outcome, Refusal) else exit_status(report)


def progress_line(report: Report) -> str:
    """One line a connection: how it ended, and what became of the rows."""
    match report.outcome:
        case None:
            return f"{report.label}: not recorded: {report.problem}"
        case Refusal(reason=reason):
            said = {
                "held": "is being synced by another worker",
                "not_due": "is not due",
                "disconnected": "is disconnected",
                "unknown": "does not exist",
            }
            return f"{report.label}: {said[reason]}"
        case JobOutcome(status=status):
            counts = (
                f"{report.fetched} fetched, {report.inserted} inserted, {report.updated} updated, "
                f"{report.known} known, {report.held} held, {report.rejected} rejected"
            )
            tail = f" - {report.problem}" if report.problem else ""
            return f"{report.label}: {status}: {counts} ({report.seconds:.1f} s){tail}"


def _name(connection: DueConnection) -> str:
    return connection.label or connection.connection_id


def _settings() -> Settings:
    from worker.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    log.configure(style=settings.log_style, level=settings.log_level)
    return settings


if __name__ == "__main__":
    main()
