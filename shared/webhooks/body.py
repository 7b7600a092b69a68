"""The body of a webhook: the finished build as a document, or as a message of a chat."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..build.build import Build, Outcome
from ..engine.result import result
from ..quantities import format_duration
from .webhook import BodyFormat

TYPE = "build.finished"
LONGEST_REASON = 1500  # characters; a section of Slack's takes 3,000
_SIGNS = {
    Outcome.SUCCEEDED: ":white_check_mark:",
    Outcome.UNCHANGED: ":heavy_equals_sign:",
    Outcome.CANCELLED: ":no_entry_sign:",
}


def webhook_body(build: Build, form: BodyFormat, logs: str) -> bytes:
    """Return what is sent of a finished build. `logs` is where the consoles of its VMs are."""
    return _FORMS[form](build, logs)


def _document(build: Build, logs: str) -> bytes:
    """Write the result, as it stands in the bucket too, in the envelope of Standard Webhooks."""
    told = json.loads(result(build, (), logs, build.cleaning))
    told["family"] = build.plan.image.family if build.plan else None
    return _json({"type": TYPE, "timestamp": _time(build.updated), "data": told})


def _message(build: Build, logs: str) -> bytes:
    """Write a message in Slack's format, which Mattermost, Rocket.Chat and Google Chat's bridges take as well."""
    outcome = build.outcome or Outcome.FAILED
    head = f"{_SIGNS.get(outcome, ':x:')} *{_plain(build.name)}* {outcome.value.replace('_', ' ')}"
    lines = [f"{head} after {format_duration(max(0, round(build.updated - build.created)))}"]
    if build.image is not None and outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED):
        family = f" of family `{_plain(build.plan.image.family)}`" if build.plan and build.plan.image.family else ""
        lines.append(f"Image `{_plain(build.image.project)}/{_plain(build.image.name)}`{family}")
    if build.reason:
        lines.append(f"```{_reason(build.reason)}```")
    lines.append(f"Build `{_plain(build.id)}`, logs: {_plain(logs)}" if build.plan else f"Build `{_plain(build.id)}`")
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}}
    return _json({"text": f"{build.name}: {outcome.value}", "blocks": [section]})


def _plain(text: str | None) -> str:
    """Return text in which nothing is a link, a mention or an entity of Slack's."""
    return (text or "").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _reason(text: str) -> str:
    """Return the beginning of a reason, as long as it may be once it is plain."""
    pieces, left = [], LONGEST_REASON
    for sign in text.replace("```", "'''"):
        piece = _plain(sign)
        left -= len(piece)
        if left < 0:
            break
        pieces.append(piece)
    return "".join(pieces)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_FORMS: Mapping[BodyFormat, Callable[[Build, str], bytes]] = {"json": _document, "slack": _message}
