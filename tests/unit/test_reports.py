"""Raw reports on their way to Convex and back, byte for byte; places in documents; reminders; exit statuses."""

from __future__ import annotations

import hashlib
import io
import random
import zlib
from decimal import Decimal
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import cli, reports
from worker.errors import UnusableFile
from worker.models import (
    Change,
    Difference,
    Execution,
    JobOutcome,
    KeptReport,
    RawReport,
    Refusal,
    Reject,
    Room,
)
from worker.replay import Reread, name_of
from worker.reports import MAX_PARTS, PART_BYTES, content_digest, keep_report, unpack_report, without
from worker.sessions.ibkr_flex import Place, pages_of, remind
from worker.sync import Report

DAY = 24 * 3_600_000
NOW = 1_789_488_000_000
"""2026-09-15, 16:00 UTC."""


class Shelf:
    """A keeper, as Convex is one: parts come in order, and those of other bytes begin anew."""

    def __init__(self, *, dies_after: int | None = None) -> None:
        self.parts: list[bytes] = []
        self.announced: list[int] = []
        self.dies_after = dies_after
        self._bytes = ""

    def begin_report(self, report: RawReport, parts: int, packed_digest: str) -> Room:
        if packed_digest != self._bytes:
            self.parts = []
        self._bytes = packed_digest
        self.announced.append(parts)
        return Room(report_id="r", parts=parts, parts_kept=len(self.parts))

    def keep_part(self, report_id: str, part: int, data: bytes) -> None:
        assert (report_id, part) == ("r", len(self.parts)), "in order, each once"
        if len(self.parts) == self.dies_after:
            raise ConnectionError
        self.parts.append(data)

    def part(self, report_id: str, part: int) -> bytes | None:
        return self.parts[part] if report_id == "r" and part < len(self.parts) else None


def raw(document: bytes) -> RawReport:
    file = io.BytesIO(document)
    return RawReport("ibkr_flex_activity", content_digest(file), len(document), file)


def kept(document: bytes, shelf: Shelf) -> KeptReport:
    report = raw(document)
    return KeptReport(
        report_id="r", source=report.source, digest=report.digest, size=len(document), parts=len(shelf.parts), kept_at=0
    )


def unpacked(document: bytes, shelf: Shelf) -> bytes:
    sink = io.BytesIO()
    unpack_report(kept(document, shelf), shelf.part, sink)
    return sink.read()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders everywhere: chunks of 80 bytes, tags of at most 64, parts of 5."""
    _shrink(monkeypatch)


def _shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_CHUNK", 80)
    monkeypatch.setattr(reports, "_TAG", 64)
    monkeypatch.setattr(reports, "PART_BYTES", 5)
    monkeypatch.setattr(reports, "MAX_PARTS", 10_000)


pieces = st.binary(max_size=400) | st.text("ab<>\"' whenGenerated=", max_size=300).map(str.encode)
repeated = st.tuples(st.sampled_from([b"a", b"<Trade quantity='5'/>\n", b"\0"]), st.integers(0, 600)).map(
    lambda drawn: drawn[0] * drawn[1]
)


@given(document=pieces | repeated)
def test_what_is_kept_comes_back_byte_for_byte(document: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        shelf, report = Shelf(), raw(document)
        keep_report(shelf, report)
        assert report.file.tell() == 0
        assert all(0 < len(part) <= 5 for part in shelf.parts)
        assert shelf.announced == [len(shelf.parts)]
        assert unpacked(document, shelf) == document


def test_parts_are_half_a_megabyte_at_most_and_compressed() -> None:
    document = random.Random(1).randbytes(1_300_000) + b"x" * 50_000_000
    shelf = Shelf()
    keep_report(shelf, raw(document))
    assert [len(part) for part in shelf.parts[:2]] == [512 * 1024] * 2
    assert len(shelf.parts) == 3
    assert PART_BYTES == 512 * 1024
    assert unpacked(document, shelf) == document


def test_a_report_above_the_cap_is_noted_only() -> None:
    shelf = Shelf()
    keep_report(shelf, raw(random.Random(2).randbytes(MAX_PARTS * PART_BYTES + 1)))
    assert (shelf.announced, shelf.parts) == ([0], [])


@pytest.mark.usefixtures("small")
def test_E2_parts_that_are_there_are_not_sent_again() -> None:
    document = random.Random(3).randbytes(100)
    shelf = Shelf(dies_after=7)
    with pytest.raises(ConnectionError):
        keep_report(shelf, raw(document))
    shelf.dies_after = None
    before = list(shelf.parts)
    assert len(before) == 7
    keep_report(shelf, raw(document))
    assert shelf.parts[:7] == before
    assert unpacked(document, shelf) == document
    keep_report(shelf, raw(document))
    assert unpacked(document, shelf) == document, "and a third time sends none"


@pytest.mark.usefixtures("small")
def test_E2_parts_of_the_same_content_made_at_another_time_are_not_mixed() -> None:
    early, late = (
        f'<FlexStatement whenGenerated="20260915;0{minute}0000"><Trades/></FlexStatement>'.encode() * 3
        for minute in (5, 6)
    )
    assert raw(early).digest == raw(late).digest
    shelf = Shelf(dies_after=4)
    with pytest.raises(ConnectionError):
        keep_report(shelf, raw(early))
    shelf.dies_after = None
    keep_report(shelf, raw(late))
    assert unpacked(late, shelf) == late


DOCUMENT = b'<FlexStatement accountId="U1" whenGenerated="20260915;050000"/>' * 40


@pytest.mark.parametrize("at", [0, 1, 2, 10, 40, -6, -5, -1])
def test_a_damaged_report_is_refused(at: int) -> None:
    packed = bytearray(zlib.compress(DOCUMENT))
    packed[at] ^= 0x55
    shelf = Shelf()
    shelf.parts = [bytes(packed)]
    with pytest.raises(UnusableFile, match="damaged or no longer kept whole"):
        unpacked(DOCUMENT, shelf)


@pytest.mark.parametrize("lost", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_report_without_one_of_its_parts_is_refused(lost: int) -> None:
    packed = zlib.compress(DOCUMENT)
    third = len(packed) // 3 + 1
    shelf = Shelf()
    shelf.parts = [packed[:third], packed[third : 2 * third], packed[2 * third :]]
    assert unpacked(DOCUMENT, shelf) == DOCUMENT
    shelf.parts[lost] = b""
    with pytest.raises(UnusableFile):
        unpacked(DOCUMENT, shelf)


@pytest.mark.parametrize("cut", [1, 4])
def test_a_report_without_the_end_of_its_last_part_is_refused(cut: int) -> None:
    """The text is there, the checksum behind it is not: something was not kept as it was sent."""
    shelf = Shelf()
    shelf.parts = [zlib.compress(DOCUMENT)[:-cut]]
    with pytest.raises(UnusableFile, match="damaged"):
        unpacked(DOCUMENT, shelf)


def test_another_report_than_the_one_that_was_kept_is_refused() -> None:
    shelf = Shelf()
    shelf.parts = [zlib.compress(DOCUMENT.replace(b"U1", b"U2"))]
    with pytest.raises(UnusableFile):
        unpacked(DOCUMENT, shelf)


def test_a_report_that_unpacks_to_more_than_was_ever_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_REPORT_BYTES", 1 << 20)
    shelf = Shelf()
    shelf.parts = [zlib.compress(b"\0" * (1 << 24))]
    sink = io.BytesIO()
    with pytest.raises(UnusableFile, match="larger than any"):
        unpack_report(kept(DOCUMENT, shelf), shelf.part, sink)
    assert len(sink.getvalue()) <= 1 << 20


# The digest of a document's content.

STAMPS = ('"20260915;050000"', "'2026-09-15;05:00:00 EDT'", '""', '"2026-09-15"')
tags = st.lists(
    st.sampled_from(['<Trade a="1"/>', "<Trades>", "</Trades>", "text & more ", "\n", "<Lot b='22'/>"]), max_size=30
).map("".join)


@given(
    before=tags, after=tags, stamps=st.permutations(STAMPS), pad=st.integers(0, 130), space=st.sampled_from(["", " "])
)
def test_when_it_was_made_is_no_content_wherever_it_stands(
    before: str, after: str, stamps: list[str], pad: int, space: str
) -> None:
    """The pad moves the stamp over every border between chunks."""
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        digests = {
            content_digest(
                io.BytesIO(f"{' ' * pad}{before}<S x='1' whenGenerated{space}={space}{stamp}>{after}".encode())
            )
            for stamp in stamps
        }
    assert len(digests) == 1
    bare = f"{' ' * pad}{before}<S x='1' >{after}".encode()
    assert digests == {hashlib.sha256(bare).hexdigest()}


@given(document=tags, at=st.integers(0, 600), other=st.sampled_from(["9", "<", '"']))
def test_everything_else_is_content(document: str, at: int, other: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        text = f'<S whenGenerated="20260915">{document}'
        cut = len('<S whenGenerated="20260915">') + at % (len(document) + 1)
        changed = text[:cut] + other + text[cut:]
        assert content_digest(io.BytesIO(text.encode())) != content_digest(io.BytesIO(changed.encode()))


@given(document=st.binary(max_size=500))
def test_the_digest_of_a_document_without_a_time_is_its_own_sha256(document: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        if b"whenGenerated" not in document:
            assert content_digest(io.BytesIO(document)) == hashlib.sha256(document).hexdigest()


def test_the_digest_leaves_the_file_at_its_start() -> None:
    file = io.BytesIO(DOCUMENT)
    file.seek(7)
    assert content_digest(file) == content_digest(io.BytesIO(DOCUMENT))
    assert file.tell() == 0


# A secret in a document.


@given(secret=st.text("0123456789", min_size=1, max_size=40), pad=st.integers(0, 140), times=st.integers(0, 6))
def test_F2_a_secret_is_blanked_wherever_it_stands(secret: str, pad: int, times: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        around = "x" * pad
        document = (around + "".join(f"{secret} {around}" for _ in range(times))).encode()
        cleaned: BinaryIO = without(io.BytesIO(document), secret)
        assert cleaned.tell() == 0
        assert cleaned.read() == document.replace(secret.encode(), b"*" * len(secret))


@pytest.mark.parametrize("at", range(60, 100))
def test_F2_a_secret_between_two_chunks_is_blanked(small: None, at: int) -> None:
    """It stands there once: whoever looks at one chunk alone does not see it."""
    assert without(io.BytesIO(b"x" * at + b"0123456789" + b"x" * 200), "0123456789").read().count(b"*" * 10) == 1


@given(document=st.text("01", max_size=400), secret=st.text("01", min_size=1, max_size=6))
def test_F2_a_secret_that_overlaps_itself_is_gone_too(document: str, secret: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        cleaned = without(io.BytesIO(document.encode()), secret).read()
    assert secret.encode() not in cleaned
    assert len(cleaned) == len(document)


# Places in documents.


def flex(*numbers: int, made: str = "20260915;050000") -> RawReport:
    rows = "".join(f'<Trade tradeID="{number}"/>' for number in numbers)
    return raw(
        f'<FlexQueryResponse queryName="q" type="AF"><FlexStatements count="1"><FlexStatement accountId="U1" '
        f'fromDate="20260901" toDate="20260901" whenGenerated="{made}"><Trades>{rows}</Trades></FlexStatement>'
        "</FlexStatements></FlexQueryResponse>".encode()
    )


def numbers_of(report: RawReport, place: Place, *, stop_after: int | None = None) -> list[int]:
    """The rows of the pages that were taken; the last one that was begun is refused."""
    taken: list[int] = []
    report.file.seek(0)
    pages = pages_of(report, place)
    for count, page in enumerate(pages):
        if count == stop_after:
            break
        taken += [int(row.attributes["tradeID"]) for row in page.records]
    return taken


MANY = range(2500)


@pytest.mark.parametrize("stored", [False, True], ids=["refused page", "killed behind its mutation"])
def test_I2_reading_goes_on_behind_what_was_stored(stored: bool) -> None:
    place = Place(None, None)
    assert numbers_of(flex(*MANY), place, stop_after=1) == list(range(1000))
    # The second page was given out: its mutation carries the place behind it, a job that failed does not.
    expected = 2000 if not stored else 1000
    again = Place(place.note(stored=stored), None)
    assert numbers_of(flex(*MANY, made="20260915;060000"), again) == list(range(expected, 2500))
    finished = Place(again.note(stored=True), None)
    assert numbers_of(flex(*MANY), finished) == list(MANY)


def test_I2_a_changed_document_starts_over() -> None:
    place = Place(None, None)
    numbers_of(flex(*MANY), place, stop_after=1)
    assert numbers_of(flex(*MANY, 9999), Place(place.note(stored=False), None)) == [*MANY, 9999]


def test_I2_another_beginning_of_the_import_reads_a_document_again() -> None:
    place = Place(None, NOW)
    numbers_of(flex(*MANY), place, stop_after=1)
    note = place.note(stored=True)
    assert len(numbers_of(flex(*MANY), Place(note, NOW))) == 1500
    assert len(numbers_of(flex(*MANY), Place(note, NOW - DAY))) == 2500


def test_I2_another_document_in_between_does_not_lose_the_place() -> None:
    """Today's confirmations and the last days are read before an older year goes on."""
    place = Place(None, None)
    numbers_of(flex(*MANY), place, stop_after=1)
    between = Place(place.note(stored=True), None)
    assert numbers_of(flex(7), between) == [7]
    numbers_of(flex(*range(3000, 5500)), between, stop_after=2)
    assert len(numbers_of(flex(*MANY), Place(between.note(stored=True), None))) == 1500


def test_places_of_few_documents_are_remembered() -> None:
    place = Place(None, None)
    documents = [flex(*MANY, 10_000 + number) for number in range(6)]
    for document in documents:
        numbers_of(document, place, stop_after=1)
        place = Place(place.note(stored=False), None)
    assert [place.rows_stored(document) for document in documents] == [0, 0, 2000, 2000, 2000, 2000]


def test_what_was_read_last_of_each_kind_is_known() -> None:
    place = Place(None, None)
    report = flex(1, 2)
    assert not place.was_read(report)
    numbers_of(report, place)
    place = Place(place.note(stored=True), None)
    assert place.was_read(flex(1, 2, made="20260916;050000"))
    assert not place.was_read(flex(1, 2, 3))
    other_kind = RawReport("ibkr_flex_confirm", report.digest, report.size, report.file)
    assert not place.was_read(other_kind)
    assert not Place(place.note(stored=True), NOW).was_read(report)


@pytest.mark.parametrize(
    "note", ["", "{", "[]", "null", '{"rows": 3}', '{"rows": {"d": "x"}, "ended": {}}', '{"rows": {}, "ended": 1}']
)
def test_D10_a_note_that_cannot_be_read_is_none(note: str) -> None:
    assert numbers_of(flex(1, 2), Place(note, None)) == [1, 2]


# Fault C10: the end of a token.


def left(days: float) -> tuple[str, ...]:
    return remind(NOW + round(days * DAY), NOW)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (400, None),
        (14 + 1 / DAY, None),
        (14, "within two weeks"),
        (3 + 1 / DAY, "within two weeks"),
        (3, "within three days"),
        (1 + 1 / DAY, "within three days"),
        (1, "within a day"),
        (1 / DAY, "within a day"),
    ],
)
def test_C10_the_end_of_a_token_is_announced_at_14_3_and_1_days(days: float, words: str | None) -> None:
    sentences = left(days)
    assert len(sentences) == (words is not None)
    for sentence in sentences:
        assert f", {words}. " in sentence
        assert "Make a new one under Flex Web Service in Client Portal" in sentence


@pytest.mark.parametrize("days", [0, -1 / DAY, -30])
def test_C10_a_token_that_should_be_over_is_asked_about(days: float) -> None:
    (sentence,) = left(days)
    assert "was to end on" in sentence
    assert "enter its new end" in sentence


def test_C10_the_day_is_named_and_without_an_end_there_is_nothing_to_say() -> None:
    assert "ends on 2026-09-18," in left(3)[0]
    assert remind(None, NOW) == ()


# What `replay` prints, and its exit status.

FILL = Execution(
    provider="ibkr",
    source="ibkr_flex_activity",
    account_ref="U1",
    external_execution_id="0000f1a2.68c7d001.01",
    occurred_at=NOW,
    symbol="KO",
    raw_symbol="KO",
    asset_class="stock",
    side="sell",
    quantity=Decimal("5.0"),
    price=Decimal("71.150"),
    fee=Decimal(1),
    ingestion_hash="h",
    raw_payload="{}",
)


@pytest.mark.parametrize(
    ("row", "lines"),
    [
        (
            Reread(FILL, Difference(fate="new", changes=())),
            ["+ 0000f1a2.68c7d001.01: sell 5 KO at 71.15, 2026-09-15 16:00:00 UTC"],
        ),
        (
            Reread(
                FILL,
                Difference(
                    fate="changed",
                    changes=(
                        Change(fact="price", before="7.115", after="71.15"),
                        Change(fact="currency", before=None, after="USD"),
                        Change(fact="conid", before="8894", after=None),
                    ),
                ),
            ),
            ["~ 0000f1a2.68c7d001.01: price 7.115 -> 71.15, currency nothing -> USD, conid 8894 -> nothing"],
        ),
        (
            Reread(FILL, Difference(fate="changed", changes=())),
            ["~ 0000f1a2.68c7d001.01: one more view of it"],
        ),
        (Reread(FILL, Difference(fate="known", changes=())), []),
        (Reread(FILL, Difference(fate="outdated", changes=())), []),
        (
            Reread(Reject(reason="price is missing", raw_payload="{}", fingerprint="0123456789abcdef"), None),
            ["! 0123456789ab: price is missing"],
        ),
    ],
    ids=["new", "changed", "another view", "known", "outdated", "unreadable"],
)
def test_a_difference_as_people_read_it(row: Reread, lines: list[str]) -> None:
    assert cli.difference_lines(row) == lines


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (JobOutcome(status="succeeded"), 0),
        (JobOutcome(status="partial", reason="bad_records"), 1),
        (Refusal(reason="held"), 1),
        (Refusal(reason="disconnected"), 1),
        (Refusal(reason="unknown"), 1),
        (None, 1),
    ],
)
def test_files_that_nobody_read_are_no_success(outcome: JobOutcome | Refusal | None, status: int) -> None:
    assert cli.exit_status_of_files(Report("c", "label", outcome)) == status


def test_the_file_of_a_kept_report_says_what_it_is() -> None:
    report = kept(DOCUMENT, Shelf()).model_copy(update={"kept_at": float(NOW)})
    assert name_of(report) == "activity-2026-09-15T1600Z.xml"
    confirmed = report.model_copy(update={"source": "ibkr_flex_confirm"})
    assert name_of(confirmed) == "confirmations-2026-09-15T1600Z.xml"
