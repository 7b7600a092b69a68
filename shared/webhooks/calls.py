"""The calls of webhooks as messages: one for each webhook that wants to know of a finished build.

    builds-finished ──► one message a webhook on webhook-calls ──► one POST, tried again by redelivery

Each is tried by itself, so that a receiver that is down costs the others nothing, and none is told twice for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..build.build import Build
from ..build.events import read_build
from ..errors import PoisonMessage, StoreError
from ..ports import Message
from ..topology import WEBHOOKS_TOPIC
from .body import webhook_body
from .send import send
from .webhook import Webhook

WEBHOOK = "webhook"  # the attribute that names it


def calls_of(finished: Message, hooks: Sequence[Webhook]) -> Iterator[Message]:
    """Yield a message for each webhook that is to be told of a finished build."""
    outcome = finished.attributes.get("outcome", "")
    for hook in hooks:
        if outcome in hook.outcomes:
            attributes = {"build_id": finished.ordering_key, WEBHOOK: hook.name}
            yield Message(WEBHOOKS_TOPIC, finished.data, attributes, line_of(hook.name))


def line_of(name: str) -> str:
    """Return the line in which the calls of one webhook wait; no build can be called so."""
    return f"webhook {name}"


def make_call(message: Message, hooks: Sequence[Webhook], logs: str, now: float) -> None:
    """Send what a message says. Transient, Permanent; PoisonMessage for what is no call of a webhook that there is.

    `logs` has {build_id} in it, and is where the consoles of a build's VMs are.
    """
    name = message.attributes.get(WEBHOOK, "")
    hook = next((each for each in hooks if each.name == name), None)
    if hook is None:
        raise PoisonMessage(f"a call of webhook {name!r:.60}, which there is not; it was taken out of the settings")
    build = finished_build(message.data)
    body = webhook_body(build, hook.format, logs.replace("{build_id}", build.id))
    send(hook, f"{build.id}.{build.created:.0f}", body, now)


def finished_build(data: bytes) -> Build:
    """Read the build of an announcement, or of a call. PoisonMessage."""
    try:
        return read_build(data)
    except StoreError as error:
        raise PoisonMessage(f"no finished build: {error}") from error
