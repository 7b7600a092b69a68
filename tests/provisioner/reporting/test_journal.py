"""The reports that are kept for sending again."""

from __future__ import annotations

from provisioner.protocol import SCRIPTS, STEP_FINISHED, Report, encode
from provisioner.reporting.journal import most_telling
from provisioner.reporting.state import UNSENT_LIMIT


def text(kind: str, sequence: int, output: str = "") -> str:
    return encode(Report("hello-0123456789ab", 1, "build", sequence, kind, 1.0, output=output)).decode()


def test_those_of_scripts_go_first() -> None:
    """A network that is down for long must not cost a build the ends of its steps."""
    facts = [text(STEP_FINISHED, number, '"kind":"scripts"') for number in range(150)]
    scripts = [text(SCRIPTS, 150 + number) for number in range(100)]
    assert most_telling(facts + scripts) == facts + scripts[50:]
    assert most_telling(scripts + facts) == scripts[50:] + facts
    assert most_telling(facts * 2) == (facts * 2)[-UNSENT_LIMIT:]
    assert most_telling(facts) == facts
