"""Pure: what an execution id of Interactive Brokers says (reference ibkr 2.9, DESIGN section 6).

The id is opaque but for its last segment: a correction is a new row whose id differs only there. Both sources, the
live API and Flex, spell it alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FIRST_REVISION: Final = 1

_FEWEST_DOTS: Final = 2
"""In an id of four segments, without the last."""

_MOST_DIGITS: Final = 9
_NO_ID: Final = frozenset({"", "N/A"})


class ExecutionId(NamedTuple):
    """An execution, and which saying of it this is: the highest revision holds."""

    family: str
    revision: int


def native_id(text: str | None) -> str | None:
    """The id a row states; None where it states none."""
    stated = (text or "").strip()
    return None if stated.upper() in _NO_ID else stated


def parse_execution_id(text: str) -> ExecutionId:
    """`0000e0d5.6576fd38.01.02` is revision 2 of `0000e0d5.6576fd38.01`; an id of another shape is its own family."""
    family, _, last = text.rpartition(".")
    if family.count(".") >= _FEWEST_DOTS and len(last) <= _MOST_DIGITS and last.isascii() and last.isdigit():
        return ExecutionId(family, int(last))
    return ExecutionId(text, FIRST_REVISION)


def parent_of(text: str) -> str | None:
    """The first two segments, which the legs of a combo share with the combo's own row; None for a shorter id."""
    head, *rest = text.split(".", 2)
    return f"{head}.{rest[0]}" if len(rest) == 2 else None
