"""Raw reports on their way to Convex and back: compressed, in parts, none larger than it may be."""

from __future__ import annotations

import hashlib
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, Final, Protocol, cast

from worker.errors import UnusableFile
from worker.models import KeptReport, RawReport, Room

PART_BYTES: Final = 512 * 1024
MAX_PARTS: Final = 24
MAX_REPORT_BYTES: Final = 1 << 30
"""Of a report that is unpacked again: what was packed was smaller."""

_DAMAGED: Final = "a kept report is damaged or no longer kept whole"
_CHUNK: Final = 1 << 18
_IN_MEMORY: Final = 4 << 20
_TAG: Final = 1 << 16
_MADE_AT: Final = re.compile(rb"\bwhenGenerated\s*=\s*(\"[^\"]*\"|'[^']*')")


class Keeper(Protocol):
    """Where a job's reports are kept."""

    def begin_report(self, report: RawReport, parts: int, packed_digest: str) -> Room: ...

    def keep_part(self, report_id: str, part: int, data: bytes) -> None: ...


def keep_report(keeper: Keeper, report: RawReport) -> None:
    """Keep a report, unless its content is kept already; one that is too large is only noted.

    Leaves its file at the start.
    """
    packed, digest = _packed(report.file)
    with packed:
        parts = -(-packed.seek(0, 2) // PART_BYTES)
        room = keeper.begin_report(report, parts if parts <= MAX_PARTS else 0, digest)
        for part in range(room.parts_kept, room.parts):
            packed.seek(part * PART_BYTES)
            keeper.keep_part(room.report_id, part, packed.read(PART_BYTES))
    report.file.seek(0)


def unpack_report(report: KeptReport, part_of: Callable[[str, int], bytes | None], sink: BinaryIO) -> None:
    """Write a kept report to `sink` as it came from the broker. Raises UnusableFile if it is not what was kept."""
    inflate = zlib.decompressobj()
    size = 0
    for part in range(report.parts):
        data = part_of(report.report_id, part)
        while data:
            try:
                plain = inflate.decompress(data, _CHUNK)
            except zlib.error:
                raise UnusableFile(_DAMAGED) from None
            data = inflate.unconsumed_tail
            size += len(plain)
            if size > MAX_REPORT_BYTES:
                raise UnusableFile("a kept report is larger than any that was ever kept")
            sink.write(plain)
    sink.seek(0)
    if not inflate.eof or content_digest(sink) != report.digest:
        raise UnusableFile(_DAMAGED)


def content_digest(file: IO[bytes]) -> str:
    """SHA-256 of what a document says, whenever it was made. Leaves `file` at its start."""
    digest = hashlib.sha256()
    file.seek(0)
    rest = b""
    while chunk := file.read(_CHUNK):
        text = rest + chunk
        # A tag is looked at whole, unless it is longer than any tag that says when a document was made.
        cut = max(text.rfind(b"<"), len(text) - _TAG)
        digest.update(_MADE_AT.sub(b"", text[:cut]))
        rest = text[cut:]
    digest.update(_MADE_AT.sub(b"", rest))
    file.seek(0)
    return digest.hexdigest()


def without(file: BinaryIO, secret: str) -> BinaryIO:
    """The document with `secret` blanked wherever it stands (fault F2). Leaves it at its start."""
    needle = secret.encode()
    if not any(needle in text for text in _overlapping(file, len(needle) - 1)):
        file.seek(0)
        return file
    clean = spooled()
    file.seek(0)
    rest = b""
    while chunk := file.read(_CHUNK):
        text = (rest + chunk).replace(needle, b"*" * len(needle))
        cut = max(0, len(text) - len(needle) + 1)
        clean.write(text[:cut])
        rest = text[cut:]
    clean.write(rest)
    file.close()
    clean.seek(0)
    return clean


def spooled() -> BinaryIO:
    """A file that stays in memory while it is small."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))


def _overlapping(file: BinaryIO, overlap: int) -> Iterator[bytes]:
    file.seek(0)
    rest = b""
    while chunk := file.read(_CHUNK):
        text = rest + chunk
        yield text
        rest = text[-overlap:] if overlap else b""


def _packed(file: BinaryIO) -> tuple[BinaryIO, str]:
    """The compressed file, and a digest of what is in it."""
    packed, digest = spooled(), hashlib.sha256()
    deflate = zlib.compressobj(6)
    file.seek(0)
    more = True
    while more:
        chunk = file.read(_CHUNK)
        more = bool(chunk)
        some = deflate.compress(chunk) if more else deflate.flush()
        digest.update(some)
        packed.write(some)
    return packed, digest.hexdigest()
