"""Secrets to be looked for in everything that leaves the worker (faults F1 and F2).

Looked for are pieces of sixteen characters, in plain, URL-encoded, JSON-escaped and base64 spelling: half a secret
that a cut left behind is a leak too. Shorter secrets, names for example, are looked for whole and as words.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping

from sandbox.processes import ROOT
from tests.support.deployment import SECRET, TABLES, Client, Deployment
from tests.support.sampling import sample

PIECE = 16


def pieces(secret: str) -> Iterator[str]:
    for start in range(len(secret) - PIECE + 1):
        yield secret[start : start + PIECE]


def spellings(secret: str) -> set[str]:
    raw = secret.encode()
    return {
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote(secret),
        secret.replace("/", "\\/"),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    }


def pem_body(pem: str) -> str:
    """What is secret in a private key in PEM form: its first line begins like that of every key of its kind."""
    lines = [line for line in pem.splitlines() if line and not line.startswith("-----")]
    return "".join(lines[1:])


WORKERS = ("tradeImport/worker:", "tradeImport/reports:")


class Canaries:
    """What must not be found, by name."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.secrets = dict(secrets)
        self._pieces: dict[str, str] = {}
        self._words: dict[str, re.Pattern[str]] = {}
        for name, secret in secrets.items():
            if len(secret) >= PIECE:
                self._pieces |= {piece: name for spelling in spellings(secret) for piece in pieces(spelling)}
            else:
                self._words[name] = re.compile(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])")

    def found_in(self, text: str) -> set[str]:
        """The names of the secrets of which `text` holds a piece."""
        windows = {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}
        return {self._pieces[piece] for piece in windows & self._pieces.keys()} | {
            name for name, word in self._words.items() if word.search(text)
        }


class Scene:
    """A deployment, one user of it, a worker's environment, and every secret there is."""

    def __init__(self, deployment: Deployment, user_token: str, secrets: Mapping[str, str], **settings: str) -> None:
        self.deployment = deployment
        self.canaries = Canaries(
            {
                "private key": pem_body(deployment.private_key),
                "Sync now secret": SECRET,
                "user's token": user_token.split(".")[1],
                **secrets,
            }
        )
        self._user_token = user_token
        self.env = {
            **os.environ,
            "CONVEX_URL": deployment.address,
            "TRADE_SYNC_PRIVATE_KEY": deployment.private_key,
            "TRADE_SYNC_SECRET": SECRET,
            "TRADE_SYNC_LOG_LEVEL": "debug",
            **settings,
        }

    def sync(self) -> tuple[int, str]:
        """`trade-sync sync --all`: its exit status and all it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "worker", "sync", "--all"],
            cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def at_rest(self) -> Iterator[tuple[str, str]]:
        """Every document but the one field that holds the credentials, where the canaries must be found."""
        for table in TABLES:
            for document in self.deployment.documents(table):
                if table == "brokerageConnections":
                    auth = document.pop("auth")
                    assert auth["kind"] == "ibkr_gateway" or self.canaries.found_in(json.dumps(auth))
                yield table, json.dumps(document)

    def queries(self) -> Iterator[tuple[str, str]]:
        """Every answer that the owner can get."""
        owner = Client(self.deployment.address, f"Bearer {self._user_token}")
        ids = {table: rows[0]["_id"] for table in TABLES if (rows := self.deployment.documents(table))}
        asked = 0
        for function in self.deployment.functions():
            if function["isPublic"] and function["kind"] == "query" and not function["path"].startswith(WORKERS):
                try:
                    args = sample(function["args"], ids)
                except KeyError:
                    continue  # takes the id of something this owner has none of
                yield function["path"], json.dumps(owner.query(function["path"], args))
                asked += 1
        assert asked >= 6

    def assert_clean(self, *texts: tuple[str, str]) -> None:
        for where, text in (*texts, *self.at_rest(), *self.queries()):
            assert self.canaries.found_in(text) == set(), where
