#!/usr/bin/env python3
"""Runs the Dockerfile without a container engine, and the worker from its result.

Every instruction is read from the Dockerfile and carried out in a temporary directory that stands for the image:
absolute paths are moved below it, and a fresh virtual environment in /usr/local stands for the base image's Python.
Then the result is examined and its entry point is started with nothing but the image's own environment.

What this cannot show: the base image itself, and that the worker runs as the numeric user (it is only checked that
the Dockerfile says so).
"""

# Running what the Dockerfile says is this script's work.
# ruff: noqa: S603, S310

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
FORBIDDEN = ("pip", "setuptools", "wheel", "uv", "pytest", "mypy", "ruff", "hypothesis")
STOP_SECONDS = 10.0


class CheckFailed(Exception):
    """What is wrong with the Dockerfile or its result."""


@dataclass
class Stage:
    """One image in the making: a directory for its file system, and its configuration."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def path(self, inside: str) -> Path:
        return self.root / (Path(self.workdir) / inside).as_posix().lstrip("/")

    def moved(self, text: str) -> str:
        """`text` with its absolute paths moved below the root."""
        return re.sub(r"(?:(?<=^)|(?<=[\s=:'\"]))/(?=[a-z])(?!dev/|proc/)", f"{self.root}/", text)

    def environment(self) -> dict[str, str]:
        return {name: self.moved(value) for name, value in self.env.items()}


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(name, arguments) in order, with comments dropped and continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines()) if name
    ]


class Build:
    """Carries out a Dockerfile."""

    def __init__(self, context: Path, directory: Path) -> None:
        self.directory = directory
        self.context = directory / "context"
        self.stages: dict[str, Stage] = {}
        copy_context(context, self.context)

    def run(self, dockerfile: str) -> Stage:
        stage: Stage | None = None
        for name, rest in instructions(dockerfile):
            say(f"{name} {rest if len(rest) < 100 else rest[:97] + '…'}")
            if name == "FROM":
                stage = self._from(rest)
            elif stage is None:
                raise CheckFailed(f"{name} before the first FROM")
            else:
                self._apply(stage, name, rest)
        if stage is None:
            raise CheckFailed("the Dockerfile has no FROM")
        for other in self.stages.values():
            if other is not stage:
                shutil.rmtree(other.root)  # whatever still points there is a fault that shows from here on
        return stage

    def _from(self, rest: str) -> Stage:
        image, _, alias = rest.partition(" AS ")
        found = re.fullmatch(r"python:(\d+\.\d+)-slim", image)
        if not found:
            raise CheckFailed(f"the base image {image} is not a slim Python one")
        stage = Stage(self.directory / f"stage{len(self.stages)}")
        local = stage.root / "usr" / "local"
        subprocess.run([interpreter(found[1]), "-m", "venv", str(local)], check=True)
        # Since 3.12 the image's Python brings pip only; an older stand-in brings setuptools too.
        subprocess.run(
            [str(local / "bin" / "pip"), "uninstall", "--yes", "setuptools"], check=True, capture_output=True
        )
        stage.env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        self.stages[alias or str(len(self.stages))] = stage
        return stage

    def _apply(self, stage: Stage, name: str, rest: str) -> None:
        match name:
            case "ENV":
                for pair in shlex.split(rest):
                    variable, _, value = pair.partition("=")
                    stage.env[variable] = re.sub(r"\$(\w+)", lambda found: stage.env.get(found[1], ""), value)
            case "WORKDIR":
                stage.workdir = rest
                stage.path("").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = rest
            case "COPY":
                self._copy(stage, shlex.split(rest))
            case "RUN":
                run(stage, rest)
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.cmd = json.loads(rest)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(rest.partition("CMD ")[2])
            case "EXPOSE" | "LABEL":
                pass
            case _:
                raise CheckFailed(f"{name} is not known to this check; teach it")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
        for source in sources:
            found = self.stages[origin].path(source) if origin else self.context / source
            if not found.exists():
                raise CheckFailed(f"COPY {source}: not in the build context; see .dockerignore")
            destination = stage.path(target)
            if found.is_dir():
                shutil.copytree(found, destination, symlinks=True, dirs_exist_ok=True)
            else:
                destination = destination / found.name if target.endswith("/") else destination
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, destination)
            if origin:
                relocate(destination, self.stages[origin].root, stage.root)


def run(stage: Stage, command: str) -> None:
    # The build host's own settings for pip (mirror, proxy, certificates) are part of any build.
    host = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG") or name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")
    }
    finished = subprocess.run(
        ["/bin/sh", "-ec", stage.moved(command)],
        cwd=stage.path(""),
        env={**host, **stage.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise CheckFailed(
            f"RUN {command}: exit {finished.returncode}\n{finished.stdout[-2000:]}{finished.stderr[-4000:]}"
        )


def relocate(tree: Path, old: Path, new: Path) -> None:
    """In an image both stages have the same paths; here scripts and links of one name the other's directory."""
    for path in [tree, *tree.rglob("*")]:
        if path.is_symlink():
            target = path.readlink().as_posix()
            if target.startswith(f"{old}/"):
                path.unlink()
                path.symlink_to(target.replace(str(old), str(new), 1))
        elif path.is_file() and (path.parent.name == "bin" or path.name == "pyvenv.cfg"):
            text = path.read_bytes()
            if str(old).encode() in text:
                path.write_bytes(text.replace(str(old).encode(), str(new).encode()))


def copy_context(source: Path, target: Path) -> None:
    """What a builder would be sent: everything that .dockerignore leaves."""
    rules = [line for line in (source / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    def sent(path: str) -> bool:
        parts = path.split("/")
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        kept = True
        for rule in rules:
            pattern = rule.removeprefix("!")
            names = parts if pattern.startswith("**/") else prefixes
            if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
                kept = rule.startswith("!")
        return kept

    for directory, folders, files in os.walk(source):
        here = Path(directory).relative_to(source).as_posix().removeprefix(".").lstrip("/")
        folders[:] = [name for name in folders if sent(f"{here}/{name}".lstrip("/"))]
        for name in files:
            path = f"{here}/{name}".lstrip("/")
            if sent(path):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / path, target / path)


def interpreter(version: str) -> str:
    """The image's Python version if this machine has it, else the present one."""
    name = shutil.which(f"python{version}")
    if name and subprocess.run([name, "--version"], capture_output=True, check=False).returncode == 0:
        return name
    say(f"  (no Python {version} here: {sys.version.split()[0]} stands in)")
    return sys.executable


def examine(image: Stage) -> None:
    """No tools, no tests, no root, no leftovers of the build."""
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", image.user):
        raise CheckFailed(f"USER {image.user} is not a number above 0, which orchestrators can verify")
    if not image.healthcheck:
        raise CheckFailed("there is no HEALTHCHECK")
    metadata = [path for path in image.root.rglob("*.dist-info") if path.is_dir()]
    installed = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower(): path for path in metadata}
    if found := sorted(installed.keys() & set(FORBIDDEN)):
        raise CheckFailed(f"tools are left in the image: {', '.join(found)}")
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (REPO / "requirements.lock").read_text(), re.MULTILINE))
    if extra := sorted(installed.keys() - locked - {"trade-sync-worker"}):
        raise CheckFailed(f"not in requirements.lock: {', '.join(extra)}")
    record = (installed["trade-sync-worker"] / "RECORD").read_text()
    owned = {line.split(",")[0].split("/")[0] for line in record.splitlines()}
    if strangers := sorted(name for name in owned if name not in ("worker", "..") and not name.endswith(".dist-info")):
        raise CheckFailed(f"the wheel holds more than the worker: {', '.join(strangers)}")
    for path in image.root.rglob("*"):
        if path.is_symlink() and not path.exists():
            raise CheckFailed(f"{path.relative_to(image.root)} points outside the image, to {path.readlink()}")
    say(f"  {len(installed)} distributions, none of them a tool; user {image.user}")


def start(image: Stage, settings: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(which(image, image.entrypoint[0])), *image.entrypoint[1:], *image.cmd],
        cwd=image.path(""),
        env={**image.environment(), **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def which(image: Stage, name: str) -> str:
    found = shutil.which(name, path=image.environment()["PATH"])
    if found is None or not found.startswith(f"{image.root}/"):
        raise CheckFailed(f"{name} is not in the image's PATH")
    return found


def healthcheck(image: Stage, settings: dict[str, str]) -> int:
    command = [which(image, image.healthcheck[0]), *image.healthcheck[1:]]
    return subprocess.run(
        command, env={**image.environment(), **settings}, capture_output=True, check=False, timeout=10
    ).returncode


def status_of(url: str, deadline: float) -> int:
    """The status of an answer, waiting for the port to open."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError as error:
            if time.monotonic() > deadline:
                raise CheckFailed(f"{url}: {error}") from None
            time.sleep(0.1)


def check_without_settings(image: Stage) -> None:
    process = start(image, {})
    output, _ = process.communicate(timeout=60)
    if process.returncode != 2:
        raise CheckFailed(f"without settings it ends with {process.returncode}, not 2:\n{output}")
    for name in ("CONVEX_URL", "TRADE_SYNC_PRIVATE_KEY"):
        if name not in output:
            raise CheckFailed(f"without settings it does not name {name}:\n{output}")
    if "Traceback" in output:
        raise CheckFailed(f"without settings it shows a traceback:\n{output}")
    say("  without settings: exit 2, the missing ones named")


def check_with_settings(image: Stage) -> None:
    port, nobody = free_ports(2)
    with tempfile.TemporaryDirectory() as keys:
        key = Path(keys) / "key.pem"
        made = [which(image, image.entrypoint[0]), "keys", "--out", str(key)]
        subprocess.run(made, env=image.environment(), capture_output=True, check=True, timeout=60)
        settings = {
            "CONVEX_URL": f"http://127.0.0.1:{nobody}",
            "TRADE_SYNC_PRIVATE_KEY": key.read_text(),
            "TRADE_SYNC_API_PORT": str(port),
        }
    process = start(image, settings)
    try:
        deadline = time.monotonic() + 30
        for path, expected in (("healthz", 200), ("readyz", 503), ("metrics", 200)):
            status = status_of(f"http://127.0.0.1:{port}/{path}", deadline)
            if status != expected:
                raise CheckFailed(f"/{path} answers {status}, not {expected}, while Convex is away")
        if healthcheck(image, settings) != 0:
            raise CheckFailed("the HEALTHCHECK fails although the worker does what it can")
        say("  Convex away: /healthz 200, /readyz 503, the health check passes")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=STOP_SECONDS)
        if process.returncode != 0:
            raise CheckFailed(f"SIGTERM ends it with {process.returncode}, not 0:\n{output}")
        say(f"  SIGTERM: exit 0 after {time.monotonic() - begun:.1f} s")
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"SIGTERM does not end it within {STOP_SECONDS:.0f} s") from None
    finally:
        if end_group(process) and sys.exc_info()[0] is None:
            raise CheckFailed("it leaves a process behind")


def end_group(process: subprocess.Popen[str]) -> bool:
    """Kill what is left of a session that we started; True when there was something."""
    deadline = time.monotonic() + 2
    while process.poll() is not None and time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    process.wait()
    return True


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in servers]
    for server in servers:
        server.close()
    return ports


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build and start the container's contents without a container engine.")
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trade-sync-image-") as directory:
        try:
            image = Build(REPO, Path(directory).resolve()).run((REPO / "Dockerfile").read_text())
            say("examining the result")
            examine(image)
            say("starting the worker from it")
            check_without_settings(image)
            check_with_settings(image)
        except CheckFailed as failure:
            say(f"FAILED: {failure}")
            return 1
    say("the container's contents build, start and stop as they should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
