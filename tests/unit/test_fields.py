"""One field at a time: exact or refused."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import log
from worker.errors import BadRecord
from worker.models import plain
from worker.normalize.fields import (
    MAX_DIGITS,
    RAW_LIMIT,
    _flat_json,
    _json,
    parse_decimal,
    parse_seconds,
    parse_utc,
    raw_payload,
    text_of,
)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        ("30010.00000", "30010"),
        ("0.00000001", "0.00000001"),
        (" 7 ", "7"),
        ("-0.0", "0"),
        ("+1.5", "1.5"),
        (".5", "0.5"),
        ("1.", "1"),
        ("1e-8", "0.00000001"),
        ("123456789012345678901234567890.123456789012345678901234567890", None),
        (Decimal("1.10"), "1.1"),
        (12345678901234567890123, "12345678901234567890123"),
        (0, "0"),
    ],
)
def test_B15_numbers_are_exact(value: object, spelled: str | None) -> None:
    assert plain(parse_decimal(value, "vol")) == (
        "123456789012345678901234567890.12345678901234567890123456789" if spelled is None else spelled
    )


@pytest.mark.parametrize(
    "value",
    [
        "NaN", "nan", "Infinity", "-inf", "sNaN", "1e999999", "1e-999999", "1E+41", "1" * 41, "0." + "0" * 40 + "1",
        "1,234.5", "1.234,5", "1_000", "0x10", "٣", "１", "--1", "e5", "", "  ", "abc", "1 2", "1\n2",
        None, True, 1.5, [], {}, b"1", Decimal("NaN"), Decimal("Infinity"), Decimal("1e999999"), Decimal("0e-999999"),
        10**40,
    ],
)  # fmt: skip
def test_B15_what_is_no_amount_is_refused_with_the_field_s_name(value: object) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_decimal(value, "vol")
    assert caught.value.field == "vol"
    assert caught.value.sentence.startswith("vol ")


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=18))
def test_B15_every_decimal_survives(value: Decimal) -> None:
    assert parse_decimal(format(value, "f"), "x") == value
    assert parse_decimal(value, "x") == value


_ANY_DECIMAL = st.builds(
    lambda negative, digits, exponent: Decimal((negative, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 1),
    st.just(0) | st.integers(0, 10**45),
    st.integers(-90, 60),
)


@given(_ANY_DECIMAL)
def test_B15_a_decimal_has_one_spelling(value: Decimal) -> None:
    spelled = plain(value)
    assert Decimal(spelled) == value
    assert re.fullmatch(r"0|-?(?:[1-9]\d*|0(?=\.))(?:\.\d*[1-9])?", spelled, re.ASCII)
    assert plain(Decimal(spelled)) == spelled


@given(_ANY_DECIMAL)
def test_B15_an_amount_has_at_most_40_digits_on_either_side(value: Decimal) -> None:
    whole = 0 if abs(value) < 1 else len(f"{abs(value):f}".partition(".")[0])
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if whole > MAX_DIGITS or abs(exponent) > MAX_DIGITS:
        with pytest.raises(BadRecord, match="more than 40 digits"):
            parse_decimal(value, "x")
    else:
        assert parse_decimal(value, "x") == value


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (Decimal("1710429248.3052235"), 1710429248305),
        ("1710429248.3059999", 1710429248305),
        (1764400000, 1764400000000),
        ("1389071942.2089", 1389071942208),
        (Decimal("1700000000.9999999"), 1700000000999),
    ],
)
def test_B19_seconds_become_milliseconds_rounded_down(value: object, ms: int) -> None:
    assert parse_seconds(value, "time") == ms


@pytest.mark.parametrize("value", [0, -1, "1710429248305", 4_102_444_800, "2021-01-01", None, "", Decimal("NaN")])
def test_B14_a_time_outside_of_reason_is_refused(value: object) -> None:
    with pytest.raises(BadRecord, match="time"):
        parse_seconds(value, "time")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-02", 86_400_000),
        ("2021-11-19 20:33:54.1631", 1637354034163),
        ("2021-11-19T20:33:54.1631Z", 1637354034163),
        ("2021-11-19 20:33:54+00:00", 1637354034000),
        ("2024-02-29 00:00:00.0009999", 1709164800000),
    ],
)
def test_B19_export_times_are_utc(text: str, ms: int) -> None:
    assert parse_utc(text, "time") == ms


@pytest.mark.parametrize(
    "text",
    ["", "2021-13-01", "2023-02-29", "19.11.2021", "2021-11-19 25:00:00", "2021-11-19 10:00:00+02:00", "x" * 999],
)
def test_B19_other_times_are_refused(text: str) -> None:
    with pytest.raises(BadRecord, match="time"):
        parse_utc(text, "time")


def test_B14_a_text_may_be_a_number_but_not_a_thing() -> None:
    assert text_of({"a": " x "}, "a") == "x"
    assert text_of({"a": 5}, "a") == "5"
    assert text_of({"a": ""}, "a") is None
    assert text_of({}, "a") is None
    for value in ([], {}, True):
        with pytest.raises(BadRecord):
            text_of({"a": value}, "a")


def test_the_raw_payload_keeps_numbers_as_they_were_sent() -> None:
    sent = '{"time":1710429248.3052235,"n":12345678901234567890,"vol":"0.10","x":[1.50,null,true],"big":1E+400}'
    assert raw_payload(json.loads(sent, parse_float=Decimal)) == sent


def test_a_bare_nan_stays_readable_json() -> None:
    assert json.loads(raw_payload({"price": Decimal("NaN")})) == {"price": "NaN"}


def test_F2_the_raw_payload_holds_no_secret() -> None:
    log.protect("canary/secret+value==")
    payload = raw_payload({"note": "see canary/secret+value==", "deep": [{"apiKey": "not-registered-anywhere"}]})
    assert "canary" not in payload
    assert "not-registered-anywhere" not in payload


_WORDS = st.sampled_from(
    ["", "plain", "ü\n\"\\/\ud800", "Bearer abcdefghijklmnop", "bearer abcdefghijklmnop", "?t=private", "a eyJ b",
     "eyJaaaaaaaa.bbbbbbbb.c", "-----BEGIN RSA PRIVATE KEY-----", "canary/in fields", "canary\\/in fields"]
)  # fmt: skip
_NAMES = st.sampled_from(["price", "note", "apiKey", "canary/in fields", "t", "x" * 101, "Ж", "two\n\nlines", "5%s"])
_VALUES = _WORDS | st.integers() | st.booleans() | st.none() | st.decimals(allow_nan=True) | st.lists(_WORDS)


@given(st.dictionaries(_NAMES, _VALUES))
def test_F2_the_short_way_to_a_payload_says_what_the_long_one_does(row: dict[str, object]) -> None:
    log.protect("canary/in fields")
    short = _flat_json(row)
    assert short is None or short == _json(row)


def test_F2_the_short_way_is_taken_where_nothing_is_secret() -> None:
    row = {"symbol": "Ж", "price": Decimal("1.10"), "size": 2, "ref": None, "flag": True}
    assert _flat_json(row) == '{"symbol":"\\u0416","price":1.10,"size":2,"ref":null,"flag":true}'
    assert _flat_json({"note": "?t=private"}) is None
    assert _flat_json({"token": "private"}) is None


def test_F8_a_deep_row_is_cut_off_where_nobody_reads() -> None:
    deep = json.loads('{"a":' * 400 + "1" + "}" * 400)
    assert json.loads(raw_payload({"pair": "X", "deep": deep}))["pair"] == "X"


def test_F10_a_huge_row_is_kept_in_part() -> None:
    payload = raw_payload({"note": 'ü"' * 100_000})
    assert len(payload.encode()) <= RAW_LIMIT
    assert json.loads(payload)["truncated"].startswith('{"note":')


def test_B14_half_a_character_is_one_bad_row() -> None:
    with pytest.raises(BadRecord) as bad:
        text_of({"pair": "\ud800X"}, "pair")
    assert bad.value.field == "pair"
    assert text_of({"pair": "Ж/€😀"}, "pair") == "Ж/€😀"
