"""A wish to end a build: asked for once, seen from another thread."""

from __future__ import annotations

from shared.interruption import Interruption


def test_first_reason_stays() -> None:
    assert not Interruption().asked
    interruption = Interruption()
    interruption.ask("cancelled by SIGINT")
    interruption.ask("cancelled by SIGTERM")
    assert interruption.asked
    assert interruption.reason == "cancelled by SIGINT"
