"""One key an attempt, from one secret."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import encode, sign
from shared.errors import EnvironmentFault
from shared.keys import Keys
from tests import values


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(b"short" * 6)


def test_who_has_no_master_key_derives_none() -> None:
    with pytest.raises(EnvironmentFault, match="set GOLDSMITH_MASTER_KEY"):
        Keys(None).of_attempt(values.BUILD_ID, 1)


def test_hazard_11_every_attempt_of_every_build_has_its_own_key() -> None:
    keys = Keys(b"m" * 32)
    made = {keys.of_attempt(build, attempt) for build in ("a", "b", "a\n1", "a1") for attempt in (1, 2, 11)}
    assert len(made) == 12
    assert keys.of_attempt("a", 1) == Keys(b"m" * 32).of_attempt("a", 1)
    assert keys.of_attempt("a", 1) != Keys(b"n" * 32).of_attempt("a", 1)


def test_the_key_is_known_by_its_value() -> None:
    """Builds that run while the functions are deployed anew must not be cut off from their VMs."""
    expected = "fe3ba0c990a3b029ae685d2ee060246a"
    assert Keys(bytes(range(32))).of_attempt(values.BUILD_ID, 1)[:32] == expected


def test_a_signature_is_over_the_exact_bytes() -> None:
    keys, report = Keys(b"m" * 32), values.report()
    data = encode(report)
    signature = sign(keys.of_attempt(report.build_id, report.attempt), data)
    assert keys.good(report, data, signature)
    assert not keys.good(report, data + b" ", signature)
    assert not keys.good(replace(report, attempt=2), data, signature)
    assert not keys.good(report, data, signature.upper())
