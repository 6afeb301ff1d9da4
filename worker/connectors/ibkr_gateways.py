"""The Client Portal gateways this worker may use, as its operator lists them in IBKR_GATEWAYS.

Entries stand apart by commas or blanks:

    https://localhost:5000
    https://gateway.lan:5000#sha256=9F:86:D0:…:0A:08
    https://gateway.lan:5000#sha256=9F86D0…0A08;owner=https://your-app.clerk.accounts.dev|user_2abc

`#sha256=` is the fingerprint of the gateway's certificate, which it signs itself; only a gateway on this machine
may go without (reference ibkr 2.1, 7.13). `;owner=` reserves a gateway for the connections of one Convex user, by
token identifier; a comma, blank or per cent sign inside one is written %2C, %20, %25.

Whoever reaches a gateway is let in as whoever is logged in there. Therefore the addresses that users enter are only
looked up in this list: no connection is ever made to anything but the operator's own spelling (fault F7).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

import httpx

from worker import log
from worker.clock import Clock
from worker.errors import AuthFailed
from worker.http import Http, Origin, is_loopback, read_fingerprint, read_origin

SETTING: Final = "IBKR_GATEWAYS"
DEFAULT: Final = "https://localhost:5000"

_ENTRY = re.compile(r"(?P<address>[^#;]+)(?:#sha256=(?P<pinned>[^#;]*))?(?:;owner=(?P<owner>.*))?")
# The last label is no number, or resolvers would read `2130706433` and `127.0x1` as addresses.
_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*(?!(?:\d+|0x[0-9a-f]*)$)[a-z0-9_-]+")
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway: its origin, its certificate's SHA-256 in hex, and whose it is, where it is not everybody's."""

    address: str
    pinned: str | None = None
    owner: str | None = None


def parse_gateways(text: str) -> tuple[Gateway, ...]:
    """The gateways that `text` lists, or ValueError with the number of the entry that is wrong, and what is right."""
    entries = [entry for entry in re.split(r"[,\s]+", text) if entry]
    if not entries:
        raise ValueError(f"lists no gateway; the usual one is {DEFAULT}")
    found: dict[Origin, Gateway] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            gateway = _read_entry(entry)
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
        identity = _identity(gateway.address)
        if identity in found:
            raise ValueError(f"entry {number}: the same gateway is listed twice")
        found[identity] = gateway
    return tuple(found.values())


def find_gateway(gateways: Iterable[Gateway], base_url: str, owner_id: str) -> Gateway:
    """The listed gateway that `base_url` means, if `owner_id` may use it; raises AuthFailed before any connection.

    `localhost`, `127.0.0.1` and `[::1]` with the same port mean the same gateway; every other host is compared as it
    is written. A gateway of somebody else is refused in the words of one that is not listed.
    """
    try:
        wanted = _identity(base_url.strip())
    except ValueError:
        wanted = None
    for gateway in gateways:
        if _identity(gateway.address) == wanted and gateway.owner in (None, owner_id):
            return gateway
    # Without what stands before an @: that may be a password.
    shown = log.redact(base_url.strip()).rpartition("@")[2][:_LONGEST_SHOWN]
    raise AuthFailed(
        f"This worker may not use a gateway at {shown}. Correct the address, or ask the worker's operator to add it to "
        f"{SETTING}.",
        code="ibkr_gateway_not_allowed",
        action="update_credentials",
    )


def open_gateway_http(gateway: Gateway, clock: Clock, transport: httpx.BaseTransport | None = None) -> Http:
    """A client that sends nothing to any other machine, nor past any other certificate, than `gateway`'s own.

    Redirects are answers: a gateway without a login sends to its login page (reference ibkr 2.4).
    """
    return Http(
        gateway.address,
        clock,
        kind="ibkr",
        transport=transport,
        pinned=gateway.pinned,
        loopback=is_loopback(read_origin(gateway.address).host),
        redirects="answer",
    )


def _read_entry(entry: str) -> Gateway:
    parts = _ENTRY.fullmatch(entry)
    if parts is None:
        raise ValueError("write https://host:port, then #sha256=…, then ;owner=…, where they are needed")
    origin = _checked_host(read_origin(parts["address"]))
    local = is_loopback(origin.host)
    pinned, owner = parts["pinned"], parts["owner"]
    if origin.scheme != "https" and not local:
        raise ValueError("http is allowed on this machine only, use https")
    if origin.scheme != "https" and pinned is not None:
        raise ValueError("http shows no certificate, so leave #sha256= out")
    if pinned is None and not local:
        raise ValueError("a gateway on another machine needs #sha256= and the fingerprint of its certificate")
    return Gateway(
        address=str(origin),
        pinned=None if pinned is None else read_fingerprint(pinned).hex(),
        owner=None if owner is None else _read_owner(owner),
    )


def _read_owner(text: str) -> str:
    if not text:
        raise ValueError("no owner stands after ;owner=")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("what stands after ;owner= cannot be read; a per cent sign is written %25") from None


def _checked_host(origin: Origin) -> Origin:
    """The origin with its host in one spelling; raises ValueError for what is no machine's own name or address."""
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        if not _NAME.fullmatch(origin.host):
            raise ValueError("the host is neither a name nor an IP address in its usual spelling") from None
        return origin
    mapped = isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id) is not None
    if mapped or address.is_unspecified or address.is_link_local or address.is_multicast:
        raise ValueError("the IP address is not the own address of a machine")
    return replace(origin, host=address.compressed)


def _identity(url: str) -> Origin:
    origin = _checked_host(read_origin(url))
    return replace(origin, host="localhost") if origin.host in _THIS_MACHINE else origin
