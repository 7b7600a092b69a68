"""A requester's place in a trace: what is taken for one, and what a build makes of it."""

from __future__ import annotations

import pytest

from shared.build.identity import known_traceparent, trace_id, trace_place

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KNOWN = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("text", [KNOWN, f" {KNOWN}\n", f"cc-{TRACE}-{SPAN}-03-what-the-future-will-be-like"])
def test_a_place_in_a_trace_is_taken_for_the_builds(text: str) -> None:
    assert known_traceparent(text) == text.strip()
    assert trace_place("hello-1", text) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}-00",  # its requester is not recorded
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-{'x' * 100}",
    ],
)
def test_with_any_other_text_a_build_has_a_trace_of_its_own(text: str) -> None:
    assert known_traceparent(text) == ""
    assert trace_place("hello-1", text) == (trace_id("hello-1"), "")
