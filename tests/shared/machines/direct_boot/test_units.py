"""Which units a direct boot holds back. That images boot with them is tests/system's."""

from __future__ import annotations

import pytest

from shared.machines.direct_boot.units import DEFERRED, MASKED


@pytest.mark.parametrize(
    ("service", "sockets"),
    [
        ("rsyslog.service", ["syslog.socket"]),
        ("syslog-ng.service", ["syslog.socket"]),
        ("snapd.service", ["snapd.socket"]),
        ("ssh.service", ["ssh.socket"]),
        ("systemd-networkd.service", ["systemd-networkd.socket"]),
        ("systemd-resolved.service", ["systemd-resolved-monitor.socket", "systemd-resolved-varlink.socket"]),
    ],
)
def test_the_sockets_of_a_service_are_held_back_with_it(service: str, sockets: list[str]) -> None:
    """One that was not would start it in vain until systemd gives the socket up, and the boot counts as degraded."""
    assert {service, *sockets} <= set(DEFERRED)


def test_no_unit_is_held_back_in_both_ways() -> None:
    assert not set(DEFERRED) & set(MASKED)
    assert len({*DEFERRED, *MASKED}) == len(DEFERRED) + len(MASKED)
