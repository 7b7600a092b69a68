"""The rules by which old images of a family go away: the deployer's, or those of a home. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...names import check_name
from ...quantities import parse_duration

MOST_RETAINED = 1000  # of one family: they are held in memory
_EXAMPLE = '{"FAMILY": {"older_than": "90d", "keep": 3}}'


@dataclass(frozen=True)
class RetireRule:
    """When images of a family go away: those that are older, but for the newest ones."""

    older_than: float = 0.0  # seconds
    keep: int = 1


def read_retire_rules(value: Any, where: str) -> Mapping[str, RetireRule]:
    """Read rules as people write them, by the names of families. InputError names `where` and the key."""
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where}: rules are an object of families, and there must be one; write {_EXAMPLE}")
    return {family: _rule(family, rule, where) for family, rule in value.items()}


def _rule(family: str, rule: Any, where: str) -> RetireRule:
    try:
        check_name(family)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    known = {"older_than", "keep"}
    if not isinstance(rule, dict) or not rule or not set(rule) <= known:
        raise InputError(f"{where}: {family}: a rule has older_than, keep or both, and nothing else; write {_EXAMPLE}")
    keep, age = rule.get("keep", 1), rule.get("older_than", "0s")
    try:
        older_than = parse_duration(age) if isinstance(age, str) else None
    except ValueError as error:
        raise InputError(f"{where}: {family}.older_than: {error}") from error
    if older_than is None:
        raise InputError(f"{where}: {family}.older_than: not a text; write a duration such as 90d")
    return checked_rule(RetireRule(older_than, keep), f"{where}: {family}")


def checked_rule(rule: RetireRule, where: str) -> RetireRule:
    """Return a rule that can be kept. InputError."""
    if type(rule.keep) is not int or not 1 <= rule.keep <= MOST_RETAINED:
        raise InputError(f"{where}.keep: {str(rule.keep)[:20]} is not a number of images; write 1 to {MOST_RETAINED}")
    return rule
