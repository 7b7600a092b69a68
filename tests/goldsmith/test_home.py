"""What warnings of library code look like to a person."""

from __future__ import annotations

import logging

import pytest

from goldsmith.home import ALIKE, Notes


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
