"""Where finished builds are told, as JSON that a person writes: webhooks.json of the home, or a secret in the cloud.

{
  "ci": {"url": "https://ci.example.com/golden-images", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
  "chat": {"url": "https://hooks.slack.com/services/T/B/X", "format": "slack", "outcomes": ["failed", "timed_out"]}
}
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from ..build.build import Outcome
from ..errors import InputError
from ..names import quoted

MOST_WEBHOOKS = 20
SECRET_PREFIX, LEAST_SECRET, LONGEST_SECRET = "whsec_", 24, 64  # bytes; the Standard Webhooks' own bounds
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BodyFormat = Literal["json", "slack"]
_KEYS = ("url", "format", "outcomes", "secret")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class Webhook:
    """One place that is told."""

    name: str
    url: str = field(repr=False)  # of a chat it is a secret by itself
    format: BodyFormat = "json"
    outcomes: tuple[Outcome, ...] = tuple(Outcome)
    secret: bytes | None = field(default=None, repr=False)  # signs what is sent


def read_webhooks(text: str) -> tuple[Webhook, ...]:
    """Read webhooks in the order of their names. InputError has a line for each fault, and shows no URL or secret."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"not JSON: {error}; correct it") from error
    if not isinstance(document, dict):
        raise InputError('not an object; write {"NAME": {"url": "https://..."}}')
    if len(document) > MOST_WEBHOOKS:
        raise InputError(f"{len(document)} webhooks; {MOST_WEBHOOKS} are the most")
    faults: list[str] = []
    found = [_webhook(name, document[name], faults) for name in sorted(document)]
    if faults:
        raise InputError("\n".join(faults))
    return tuple(found)


def _webhook(name: str, given: Any, faults: list[str]) -> Webhook:
    if not _NAME.fullmatch(name):
        faults.append(f"{quoted(name)} is no name; write at most 32 lower-case letters, digits and dashes")
    if not isinstance(given, dict):
        faults.append(f'{quoted(name)} is not an object; write {{"url": "https://..."}}')
        return Webhook(name, "")
    faults += [f"{name}.{key}: unknown key; write one of {', '.join(_KEYS)}" for key in given if key not in _KEYS]
    kind = given.get("format", "json")
    if kind not in get_args(BodyFormat):
        faults.append(f"{name}.format: write one of {', '.join(get_args(BodyFormat))}")
    secret = _secret(name, given, kind, faults)
    return Webhook(name, _url(name, given, faults), kind, _outcomes(name, given, faults), secret)


def _url(name: str, given: Mapping[str, Any], faults: list[str]) -> str:
    url = given.get("url")
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        host = (parts.hostname or "") if parts else ""
        _ = parts.port if parts else None
    except ValueError:
        parts, host = None, ""
    if parts is None or not host or not str(url).isascii() or any(sign in str(url) for sign in " \t\r\n\0"):
        faults.append(f"{name}.url: is missing, or no URL; write https://HOST/PATH")
    elif parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        faults.append(f"{name}.url: is not https, so that others could read and change what is sent; write https://")
    elif parts.username is not None or parts.fragment:
        faults.append(f"{name}.url: has a user, a password or a fragment, which are not sent; leave it out")
    return str(url)


def _outcomes(name: str, given: Mapping[str, Any], faults: list[str]) -> tuple[Outcome, ...]:
    outcomes = given.get("outcomes", list(Outcome))
    known = [outcome.value for outcome in Outcome]
    if not isinstance(outcomes, list) or not outcomes or any(each not in known for each in outcomes):
        faults.append(f"{name}.outcomes: write a list of some of {', '.join(known)}, or leave it out for all")
        return ()
    return tuple(Outcome(each) for each in outcomes)


def _secret(name: str, given: Mapping[str, Any], kind: object, faults: list[str]) -> bytes | None:
    text = given.get("secret")
    if text is None:
        if kind == "json":
            faults.append(f"{name}.secret: is missing, so the receiver could not tell who sends; write {_SECRET_FORM}")
        return None
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        secret = b""
    if not LEAST_SECRET <= len(secret) <= LONGEST_SECRET:
        faults.append(f"{name}.secret: is no secret of {LEAST_SECRET} to {LONGEST_SECRET} bytes; write {_SECRET_FORM}")
    return secret


_SECRET_FORM = f"{SECRET_PREFIX} and what `openssl rand -base64 32` prints"
