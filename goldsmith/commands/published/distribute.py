"""goldsmith images distribute: ask a deployment to give an image to others, and wait for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from shared.errors import InputError
from shared.published.distribution_request import ask_to_distribute
from shared.quantities import parse_duration

from ...exit_status import NOT_SUCCEEDED
from ...places import Place, open_client_of
from ...screen.tables import print_json, print_table
from ...screen.text import complain
from ..images import written_image

POLL = 1.0  # seconds


def give_to_others(
    name: str, place: Place, share: Sequence[str], copies: Sequence[str], wait: str, *, as_json: bool
) -> int:
    """Publish a request and print what has come of each target; return the exit status. InputError."""
    assert place.project is not None
    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        raise InputError(f"--wait: {error}") from error
    until = time.monotonic() + seconds
    project, name = written_image(name, place.project)
    client = open_client_of(place.project, place.bucket)
    asked = ask_to_distribute(project, name, share, [_copy(text) for text in copies], client.store, client.bus)
    settled = asked.settled(client.store.image(project, name))
    while len(settled) < len(asked.targets) and time.monotonic() < until:
        time.sleep(POLL)
        settled = asked.settled(client.store.image(project, name))
    waiting = sorted({*asked.targets} - {each.target for each in settled})
    if as_json:
        done = [asdict(each) for each in settled]
        print_json({"project": project, "name": name, "targets": done, "waiting": waiting})
    else:
        rows = [(each.target, "refused" if each.refused else "done", each.refused) for each in settled]
        print_table(("TARGET", "", "WHY"), [*rows, *((target, "waits", "") for target in waiting)])
    if waiting and seconds:
        complain(
            f"nothing is known yet of {', '.join(waiting)}; the deployment goes on, and the log of deprecate_images "
            "says what comes of it, or why the request is refused"
        )
    return NOT_SUCCEEDED if (waiting and seconds) or any(each.refused for each in settled) else 0


def _copy(text: str) -> dict[str, str]:
    """Read the copy of an option: the id of a project, or keys with their values. InputError."""
    if "=" not in text:
        return {"project": text}
    asked: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key or key in asked:
            raise InputError(f"--copy {text}: write PROJECT, or KEY=VALUE,... with each key once")
        asked[key] = value
    return asked
