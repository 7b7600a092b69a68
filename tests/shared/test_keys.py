"""One key a VM, from one secret."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from provisioner.protocol import PHASES, VERIFY, encode, sign
from shared.errors import EnvironmentFault
from shared.keys import BY_ATTEMPT, Keys
from tests.world import values


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(b"short" * 6)


def test_who_has_no_master_key_derives_none() -> None:
    with pytest.raises(EnvironmentFault, match="set GOLDSMITH_MASTER_KEY"):
        Keys(None).of_machine(values.BUILD_ID, 1, "build")


def test_hazard_11_every_vm_of_every_attempt_of_every_build_has_its_own_key() -> None:
    keys = Keys(b"m" * 32)
    named = list(itertools.product(("a", "b", "a\n1", "a1", "1:a"), (1, 2, 11), PHASES))
    made = {keys.of_machine(*each) for each in named}
    assert len(made) == len(named)
    assert keys.of_machine("a", 1, "build") == Keys(b"m" * 32).of_machine("a", 1, "build")
    assert keys.of_machine("a", 1, "build") != Keys(b"n" * 32).of_machine("a", 1, "build")
    assert made.isdisjoint(keys.of_machine(*each, BY_ATTEMPT) for each in named)


def test_the_key_is_known_by_its_value() -> None:
    """Builds that run while the functions are deployed anew must not be cut off from their VMs."""
    keys = Keys(bytes(range(32)))
    assert keys.of_machine(values.BUILD_ID, 1, "build")[:32] == "3df76a4d74d23afcb7dc2d95de0bafd7"
    for phase in PHASES:
        assert keys.of_machine(values.BUILD_ID, 1, phase, BY_ATTEMPT)[:32] == "fe3ba0c990a3b029ae685d2ee060246a"


def test_a_signature_is_over_the_exact_bytes() -> None:
    keys, report = Keys(b"m" * 32), values.report()
    data = encode(report)
    signature = sign(keys.of_machine(report.build_id, report.attempt, report.phase), data)
    assert keys.good(report, data, signature)
    assert not keys.good(report, data + b" ", signature)
    assert not keys.good(replace(report, attempt=2), data, signature)
    assert not keys.good(replace(report, phase=VERIFY), data, signature)
    assert not keys.good(report, data, signature, BY_ATTEMPT)
    assert not keys.good(report, data, signature.upper())
