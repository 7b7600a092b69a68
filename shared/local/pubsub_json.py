"""Pub/Sub's REST form of a publish request, read strictly: it comes from a machine that runs other people's scripts."""

from __future__ import annotations

import binascii
import json

from ..ports import Message

MOST_MESSAGES = 1000  # Pub/Sub's own limit
_KEYS = {"data", "attributes", "orderingKey"}


class PublishError(ValueError):
    """Not a publish request; the text says which part of it is wrong."""


def read_publish_request(topic: str, body: bytes) -> list[Message]:
    """Read {"messages": [{"data": BASE64, "attributes": {...}, "orderingKey": "..."}]}. Raises PublishError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PublishError("the body is not JSON") from error
    entries = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_MESSAGES:
        raise PublishError(f"messages: a list of 1 to {MOST_MESSAGES} messages is needed")
    return [_message(topic, entry, f"messages[{index}]") for index, entry in enumerate(entries)]


def _message(topic: str, entry: object, where: str) -> Message:
    if not isinstance(entry, dict) or not entry.keys() <= _KEYS:
        raise PublishError(f"{where}: an object with no other keys than {', '.join(sorted(_KEYS))} is needed")
    data, attributes, key = entry.get("data", ""), entry.get("attributes", {}), entry.get("orderingKey", "")
    if not isinstance(data, str) or not isinstance(key, str):
        raise PublishError(f"{where}: data and orderingKey are strings")
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise PublishError(f"{where}.attributes: an object of strings is needed")
    try:
        decoded = binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except ValueError as error:  # binascii.Error and UnicodeEncodeError both are one
        raise PublishError(f"{where}.data: not base64") from error
    if not decoded and not attributes:
        raise PublishError(f"{where}: either data or attributes are needed")
    return Message(topic, decoded, attributes, key)
