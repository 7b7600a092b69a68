"""Answers to list requests: filter, order, pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence

from .filters import compiled
from .links import last
from .refusals import Document, Refusal, invalid

MOST = 500  # entries of a page
_NEWEST_FIRST = "creationTimestamp desc"


def page_of(items: Iterable[Document], query: Mapping[str, str]) -> tuple[Sequence[Document], str | None]:
    """Return one page of the answer to a list request, and the token of the next page."""
    found = filter(compiled(query.get("filter", "")), items)
    order = query.get("orderBy", "name")
    if order not in ("name", _NEWEST_FIRST):
        raise invalid("orderBy", order, f"Only name and {_NEWEST_FIRST} are supported.")
    newest_first = order == _NEWEST_FIRST
    ordered = sorted(found, key=lambda item: _key(item, newest_first), reverse=newest_first)
    if token := query.get("pageToken"):
        after = _decoded(token)
        ordered = [
            item
            for item in ordered
            if (_key(item, newest_first) < after if newest_first else _key(item, newest_first) > after)
        ]
    size = _size(query)
    page = ordered[:size]
    more = len(ordered) > size and size
    return page, _encoded(_key(page[-1], newest_first)) if more else None


def list_document(kind: str, link: str, items: Iterable[Document], query: Mapping[str, str], path: str) -> Document:
    """Return the answer to a list request; `kind` is that of the items, such as compute#image."""
    page, token = page_of(items, query)
    document: Document = {"kind": f"{kind}List", "id": path, "items": list(page), "selfLink": link}
    if not page:
        del document["items"]
    return document | ({"nextPageToken": token} if token else {})


def aggregated(
    kind: str, link: str, items: Iterable[Document], query: Mapping[str, str], collection: str, zones: Sequence[str]
) -> Document:
    """Return the answer to an aggregatedList request: one entry for each zone, a warning for an empty one."""
    page, token = page_of(items, query)
    scopes: Document = {}
    for zone in zones:
        here = [item for item in page if last(item["zone"]) == zone]
        scopes[f"zones/{zone}"] = {collection: here} if here else {"warning": _nothing(f"zones/{zone}")}
    document: Document = {"kind": f"{kind}AggregatedList", "id": link, "items": scopes, "selfLink": link}
    return document | ({"nextPageToken": token} if token else {})


def _nothing(scope: str) -> Document:
    return {
        "code": "NO_RESULTS_ON_PAGE",
        "message": f"There are no results for scope '{scope}' on this page.",
        "data": [{"key": "scope", "value": scope}],
    }


def _key(item: Document, newest_first: bool) -> list[str]:
    place = [item["name"], item.get("zone", "")]
    return [item["creationTimestamp"], *place] if newest_first else place


def _size(query: Mapping[str, str]) -> int:
    text = query.get("maxResults", str(MOST))
    if not text.isdecimal() or len(text) > 18 or int(text) > MOST:
        raise invalid("maxResults", text, f"Must be a number between 0 and {MOST}.")
    return int(text)


def _encoded(key: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _decoded(token: str) -> list[str]:
    try:
        return [str(part) for part in json.loads(base64.urlsafe_b64decode(token))]
    except (ValueError, TypeError, RecursionError) as error:
        raise Refusal(400, "invalid", f"Invalid value for field 'pageToken': '{token}'.") from error
