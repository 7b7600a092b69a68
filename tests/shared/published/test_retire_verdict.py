"""The verdict on one image, as a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import ImageDocument, Retirement
from shared.build.damage import Damaged
from shared.build.image.retire_rules import RetireRule
from shared.published.retire_verdict import SECOND_LOOK, RetireFacts, retire_verdict

NOW = 1_700_000_000.0
DAY = 86400.0
KNOWN = ImageDocument("p", "one", "one-0123456789ab", "d1" * 32, state="published", id="4711")
FACTS = RetireFacts("p", "one", "4711", "hello", NOW - 90 * DAY, is_obsolete=False, known=KNOWN)
RULE = RetireRule(older_than=30 * DAY, keep=1)


def marked(age: float, **changes: object) -> RetireFacts:
    """An image that was made OBSOLETE so long ago."""
    retired = replace(Retirement(NOW - age - 1, NOW - age), **changes)  # type: ignore[arg-type]  # by name
    return replace(FACTS, is_obsolete=True, known=replace(KNOWN, retired=retired))


VERDICTS: dict[str, tuple[RetireFacts, str, str]] = {
    "old and not used": (FACTS, "obsolete", "it is 90d old, and nothing uses it"),
    "begun by a run that was killed": (
        replace(FACTS, known=replace(KNOWN, retired=Retirement(NOW - 1))),
        "obsolete",
        "it is 90d old",
    ),
    "OBSOLETE by others": (replace(FACTS, is_obsolete=True), "obsolete", "it is 90d old"),
    "for less than a day": (marked(SECOND_LOOK - 1), "wait", "unless something uses it"),
    "for a day": (marked(SECOND_LOOK), "delete", "nothing uses it"),
    "deleted by a run that was killed": (marked(2 * DAY, deleting=True), "delete", "nothing uses it"),
    "young": (replace(FACTS, created=NOW - 29 * DAY), "keep", "it is younger than 30d"),
    "needed": (replace(FACTS, top="its family leads to it"), "keep", "its family leads to it"),
    "needed since": (replace(marked(2 * DAY), top="its family leads to it"), "keep", "its family leads to it"),
    "used": (replace(FACTS, used="disk d"), "keep", "in use by disk d"),
    "used since": (replace(marked(2 * DAY), used="disk d"), "keep", "in use by disk d; it stays OBSOLETE"),
    "not known to be used": (
        replace(marked(2 * DAY), blind="project q cannot be read"),
        "keep",
        "q cannot be read; it",
    ),
    "active again": (replace(marked(2 * DAY), is_obsolete=False), "keep", "it was made active again after Goldsmith"),
    "OBSOLETE again": (marked(2 * DAY, left=True), "keep", "it was made active again after Goldsmith"),
    "foreign": (replace(FACTS, known=None), "keep", "Goldsmith has no record"),
    "foreign, of a name of ours": (replace(FACTS, id="4712"), "keep", "Goldsmith has no record"),
    "foreign, of a name that was marked": (replace(marked(2 * DAY), id="4712"), "keep", "Goldsmith has no record"),
    "damaged": (replace(FACTS, known=Damaged("p/one", "not JSON")), "keep", "cannot be read"),
    "kept for a retry": (replace(FACTS, known=replace(KNOWN, state="kept")), "keep", "has not published it"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(name: str) -> None:
    facts, action, why = VERDICTS[name]
    verdict = retire_verdict(facts, RULE, NOW)
    assert (verdict.action, why in verdict.why) == (action, True), verdict.why
    assert verdict.blind is (facts.blind != "")
