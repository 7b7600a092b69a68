"""What a failure says about a program that the image does not have."""

from __future__ import annotations

import pytest

from provisioner.elements.run import program_hint

LACKS = b"/tmp/in_target.d/install.d/50-x: line 3: frob: command not found\n"
SAID = ": this image has no frob; install it in a step before this one (action: install-packages)"


@pytest.mark.parametrize(
    ("status", "tail", "said"),
    [
        (127, LACKS, SAID),
        (127, LACKS + b"cleaning up\n" * 9, SAID),
        (1, b"begins\n" + LACKS, SAID),
        (1, LACKS + b"not there\nends\n", SAID),
        (1, LACKS + b"goes on\n" * 4 + b"another thing is wrong\n", ""),
        (0, LACKS, ""),
        (127, b"\xff", ""),
    ],
)
def test_a_program_hint_is_named_where_it_matters(status: int, tail: bytes, said: str) -> None:
    assert program_hint(status, tail) == said
