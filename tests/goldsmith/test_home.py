"""What warnings of library code look like to a person, and what environment variables may say."""

from __future__ import annotations

import logging

import pytest

from goldsmith.home import ALIKE, Notes, source_date
from shared.errors import InputError


def test_a_guest_that_is_warned_of_without_end_fills_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.Logger("guest")
    log.addHandler(Notes())
    for number in range(3 * ALIKE):
        log.warning("dropped report %s", number)
    log.warning("another one")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *(f"goldsmith: dropped report {number}" for number in range(ALIKE - 1)),
        f"goldsmith: dropped report {ALIKE - 1}; more of the kind are not shown",
        "goldsmith: another one",
    ]


def test_a_date_is_whole_seconds() -> None:
    assert [source_date(text) for text in ("", " ", "0", "1700000000", "4294967295")] == [
        None,
        None,
        0,
        1700000000,
        (1 << 32) - 1,
    ]


@pytest.mark.parametrize("text", ["-1", "1.5", "now", "4294967296", "9" * 5000, "١٢", "1e9", "0x10"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^SOURCE_DATE_EPOCH is no date: "):
        source_date(text)
