"""Requests: what waits for a person, the preview of what can be asked for, and what has come of a request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from flask import Response, redirect, request

from ...build.damage import Damaged
from ...build.image.approval import AskedPromotion
from ...build.trigger import Trigger
from ...errors import InputError, NotFound
from ...people.take import why_not
from ...person_requests import REQUEST_ID, PersonRequest
from ..web.desk import header_values
from ..web.pages import DashboardArea, Operation, Page, PageDocument, Parameter, html_answer
from ..web.schemas import ANY_OBJECT, FLAG, NUMBER, TEXT, listing, record
from ..web.served import Served
from .forms import browser_key, give_key, new_form, read_kind, sent_form
from .preview import ASK_TITLES, EFFECTS, VERBS, preview_of

POLL = 0.25  # seconds
READ_ONLY = "this dashboard only shows; nothing proves here who you are"


def waiting_page(served: Served, _arguments: Mapping[str, str]) -> PageDocument:
    """Return the promotions that wait for approval, and the specs whose triggers are paused."""
    store = served.backend.store
    kept = [*store.promotions(), *store.triggers()]
    promotions = [each for each in kept if isinstance(each, AskedPromotion)]
    triggers = [each for each in kept if isinstance(each, Trigger) and each.paused]
    damaged = [each.why for each in kept if isinstance(each, Damaged)]
    return {
        "promotions": [asdict(each) | {"target": f"{each.project}/{each.image}"} for each in promotions],
        "paused": [
            {"spec": each.spec, "name": each.name, "paused": each.paused, "failures": each.failures}
            for each in triggers
        ],
        "damaged": damaged,
    }


def asks_about(served: Served, target: str) -> Sequence[Mapping[str, Any]]:
    """Return what people have asked for about a target, the newest first, for the page of that."""
    found = served.backend.store.person_requests(target)
    return [asdict(each) for each in reversed(found) if isinstance(each, PersonRequest)]


def one_request(served: Served, _arguments: Mapping[str, str], request_id: str) -> PageDocument:
    """Return what has come of a request; nothing, for one that nobody has taken up yet."""
    if not REQUEST_ID.fullmatch(request_id):
        raise NotFound("there is no such request")
    known = served.backend.store.person_request(request_id)
    title = "Asked for" if known is None else ASK_TITLES[known.kind]
    return {
        "id": request_id,
        "title": title,
        "taken": known is not None,
        "asked": None if known is None else asdict(known),
    }


def _who(served: Served) -> str:
    """Return who the person is; "" where nothing proves it."""
    return "" if served.desk is None else served.desk.who(header_values(request))


def show_form(served: Served, kind: str) -> Response:
    """Show what is about to be asked for, with the form where the person may ask for it."""
    wanted = read_kind(kind)
    target, channel = request.args.get("target", ""), request.args.get("channel", "")
    shown = preview_of(wanted, target, channel, served)
    by = _who(served)
    why = READ_ONLY if served.desk is None else why_not(wanted, by, channel, served.backend)
    document = {
        "kind": wanted,
        "title": ASK_TITLES[wanted],
        "effect": EFFECTS[wanted],
        "verb": VERBS[wanted],
        "target": target,
        "channel": channel,
        "facts": shown.facts,
        "choices": shown.choices,
        "why": why,
        "by": by,
        "rebuilds": served.desk is not None and served.desk.rebuilds,
        "form": None,
        "seal": "",
    }
    if why or shown.choices:
        return html_answer("ask.html", document)
    key, form = browser_key(request), new_form(wanted, target, channel, shown.seen, by)
    answer = html_answer("ask.html", {**document, "form": form, "seal": form.seal(key)})
    give_key(answer, request, key)
    answer.headers["Referrer-Policy"] = "same-origin"  # else the form would come from nowhere, with Origin: null
    return answer


def send_form(served: Served) -> Response:
    """Hand over what a person asks for, and lead to what has come of it."""
    desk = served.desk
    if desk is None:
        return _refused(READ_ONLY)
    try:
        by = desk.who(header_values(request))
        form = sent_form(request, by)
    except InputError as error:
        return _refused(str(error))
    if why := why_not(form.kind, by, form.channel, served.backend):
        return _refused(why)
    reason = " ".join(request.form.get("reason", "").split())
    if not reason or len(reason) > 500 or not reason.isprintable():
        raise InputError("a reason is needed, in one line of at most 500 characters: it is recorded with your name")
    now = served.backend.clock.now()
    alone, cascade = (form.kind == "revoke" and request.form.get(name) == "yes" for name in ("alone", "cascade"))
    asked = PersonRequest(form.id, form.kind, form.target, by, reason, now, channel=form.channel, seen=form.seen)
    desk.send(replace(asked, alone=alone, cascade=cascade))
    _wait(served, form.id, desk.patience)
    answer = redirect(f"/requests/{form.id}", 303)
    assert isinstance(answer, Response)
    return answer


def _wait(served: Served, key: str, patience: float) -> None:
    """Wait until a request has ended, or patience has."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        known = served.backend.store.person_request(key)
        if known is not None and known.has_ended:
            return
        time.sleep(POLL)


def _refused(text: str) -> Response:
    return html_answer("error.html", {"status": 403, "text": text}, 403)


_PAGE = {200: ("text/html", TEXT)}
_KIND = Parameter("kind", "what is asked for", {"type": "string", "enum": list(ASK_TITLES)}, "path")

AREA = DashboardArea(
    name="requests",
    title="Requests",
    pages=(
        Page(
            path="/requests",
            summary="What waits for people: promotions and paused triggers",
            query=waiting_page,
            template="requests.html",
            schema=record(
                promotions=listing(ANY_OBJECT),
                paused=listing(record(spec=TEXT, name=TEXT, paused=NUMBER, failures={"type": "integer"})),
                damaged=listing(TEXT),
            ),
        ),
        Page(
            path="/requests/<request_id>",
            summary="What has come of a person's request",
            query=one_request,
            template="request.html",
            schema=record(id=TEXT, title=TEXT, taken=FLAG, asked={"type": ["object", "null"]}),
            parameters=(Parameter("request_id", "the request's id, of its form", TEXT, "path"),),
        ),
    ),
    operations=(
        Operation(
            path="/ask/<kind>",
            summary="Show what is about to be asked for",
            view=show_form,
            answers={**_PAGE, 400: ("text/html", TEXT), 404: ("text/html", TEXT)},
            parameters=(
                _KIND,
                Parameter("target", "a build's id, PROJECT/IMAGE, or the place of a spec", TEXT),
                Parameter("channel", "of a promotion", TEXT),
            ),
        ),
        Operation(
            path="/ask",
            summary="Ask for what a form has shown",
            view=send_form,
            method="POST",
            answers={303: ("text/html", TEXT), 400: ("text/html", TEXT), 403: ("text/html", TEXT)},
            body=("application/x-www-form-urlencoded", ANY_OBJECT),
        ),
    ),
)
