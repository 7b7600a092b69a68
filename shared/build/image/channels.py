"""The channels of a deployment, as a person writes them: {"dev": {}, "prod": {"approvers": ["ann@example.com"]}}. Pure.

The channel `prod` of the family `web` is the family `web-prod`, which anything that takes a family can name. It holds
copies of images of `web`, made by promotions. Names of channels have no dashes, so the last dash of a family's name
divides it in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...named_documents import read_by_name
from ...names import quoted
from ...quantities import format_duration, parse_duration

MOST_CHANNELS = 20
MOST_APPROVALS = 5  # that a spec can ask for
CHANNEL_LENGTH = 16
CHANNEL_NAME = re.compile(rf"[a-z][a-z0-9]{{0,{CHANNEL_LENGTH - 1}}}")
_MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_FORM = '{"dev": {}, "prod": {"approvers": ["MAIL", "MAIL"]}}'
APPROVE_WITHIN = 7 * 86400.0  # seconds
_LEAST_WITHIN, _MOST_WITHIN = 60.0, 90 * 86400.0


@dataclass(frozen=True)
class Channel:
    """What is promoted to one channel, and on whose word."""

    approvers: tuple[str, ...] = ()  # mail addresses, in lower case, of those who may approve; (): none is needed
    approve_within: float = APPROVE_WITHIN  # seconds after which a promotion that is not approved lapses


Channels = Mapping[str, Channel]


def no_channels() -> Channels:
    """Return the channels of a deployment that has none."""
    return {}


def read_channels(text: str) -> Channels:
    """Read channels in the order of their names. InputError has a line for each fault."""
    faults: list[str] = []
    named = read_by_name(text, "channels", MOST_CHANNELS, _FORM)
    found = {name: _channel(name, value, faults) for name, value in named.items()}
    if faults:
        raise InputError("\n".join(faults))
    return found


def channel_family(family: str, channel: str) -> str:
    """Return the family that a channel of a family is; images that are promoted get their names likewise."""
    return f"{family}-{channel}"


def family_of_channel(family: str, channels: Channels) -> tuple[str, str] | None:
    """Return the family and the channel that a family's name stands for; None where it ends with no channel's name."""
    base, dash, channel = family.rpartition("-")
    return (base, channel) if dash and base and channel in channels else None


def _channel(name: str, given: Any, faults: list[str]) -> Channel:
    if not CHANNEL_NAME.fullmatch(name):
        faults.append(
            f"{quoted(name)} is no name of a channel; write at most {CHANNEL_LENGTH} lower-case letters and digits, a "
            "letter first and no dash"
        )
    if not isinstance(given, dict):
        faults.append(f"{quoted(name)} is not an object; write {_FORM}")
        return Channel()
    unknown = [key for key in given if key not in ("approvers", "approve_within")]
    faults += [f"{name}: {quoted(str(key))}: unknown key; write approvers or approve_within" for key in unknown]
    approvers = given.get("approvers", [])
    if approvers is None:
        approvers = []
    if not isinstance(approvers, list):
        faults.append(f"{name}.approvers: is not a list; write a list of mail addresses, or leave it out")
        return Channel()
    wrong = [each for each in approvers if not isinstance(each, str) or not _MAIL.fullmatch(each)]
    faults += [f"{name}.approvers: {quoted(str(each))} is no mail address; write ann@example.com" for each in wrong]
    mails = tuple(dict.fromkeys(each.lower() for each in approvers if each not in wrong))
    return Channel(mails, _within(name, given.get("approve_within"), faults))


def _within(name: str, given: Any, faults: list[str]) -> float:
    if given is None:
        return APPROVE_WITHIN
    try:
        seconds = parse_duration(given) if isinstance(given, str) else 0.0
    except ValueError:
        seconds = 0.0
    if not _LEAST_WITHIN <= seconds <= _MOST_WITHIN:
        least, most = format_duration(_LEAST_WITHIN), format_duration(_MOST_WITHIN)
        faults.append(f"{name}.approve_within: {quoted(str(given))} is no duration from {least} to {most}; write 7d")
    return seconds
