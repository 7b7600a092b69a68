"""goldsmith doctor: what builds need of this machine, and how to get what is missing."""

from __future__ import annotations

from dataclasses import asdict

from shared.runtime import opening

from ...home import home
from ...screen.tables import print_json
from ...screen.text import say

LACKING = 3


def doctor(*, as_json: bool, install: bool) -> int:
    """Print what was found; give 0 when builds can run, 3 when something they need is missing.

    With `install`, packages that are missing are installed first.
    """
    if install and not opening.install_lacking_packages():
        return LACKING
    findings = opening.examine(home())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"{'ok' if finding.good else 'MISSING':<8} {finding.what:<20} {finding.text}")
        mended = opening.mending(findings)
        if mended:
            say(f"\nmend all of it with:\n  {mended}")
    return 0 if all(finding.good for finding in findings) else LACKING
