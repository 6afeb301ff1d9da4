"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from worker.cli import app
from worker.settings import table

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def test_the_table_of_settings_is_the_workers_own() -> None:
    rows = re.findall(r"^\| `((?:CONVEX|TRADE_SYNC|KRAKEN|IBKR)\w*)` \| (.*?) \| (.*) \|$", README, re.MULTILINE)
    assert [(name, default.strip("`"), meaning) for name, default, meaning in rows] == table()


def test_every_command_it_names_exists() -> None:
    commands = set(re.findall(r"trade-sync ((?:parse )?[a-z-]+)(?=[ `\n])", README)) - {"."}
    assert {"run", "sync", "keys", "parse kraken-trades"} <= commands
    for command in commands:
        help_text = CliRunner().invoke(app, [*command.split(), "--help"])
        assert help_text.exit_code == 0, command


def test_every_make_target_it_names_exists() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z0-9-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
