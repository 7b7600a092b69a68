"""Instance templates and managed instance groups: documents that name images. No instance is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .rest.calls import Call, fingerprint, new_document
from .rest.links import Links, check_name, last, path_of
from .rest.listing import list_document, page_of
from .rest.operations import Operations
from .rest.refusals import Document, already_exists, in_use, not_found

KINDS: Mapping[str, str] = {"instanceTemplates": "InstanceTemplate", "instanceGroupManagers": "InstanceGroupManager"}


class Templates:
    """The templates and groups of all projects."""

    def __init__(self, links: Links, operations: Operations, zones: Sequence[str]) -> None:
        self._links = links
        self._operations = operations
        self._zones = zones
        self._documents: dict[str, Document] = {}

    def get(self, call: Call) -> Document:
        """Return one."""
        return self._named(call.path)

    def list(self, call: Call) -> Document:
        """List those of a scope."""
        here = [found for path, found in self._documents.items() if path.startswith(f"{call.path}/")]
        kind = f"compute#{_kind(call.collection)}"
        return list_document(kind, self._links.url(call.path), here, call.query, call.path)

    def aggregated(self, call: Call) -> Document:
        """List those of all scopes."""
        every = {path: found for path, found in self._documents.items() if f"/{call.collection}/" in path}
        own = [found for path, found in every.items() if path.startswith(f"projects/{call.project}/")]
        page, token = page_of(own, call.query)
        scopes: Document = {}
        for scope in ("global", *(f"zones/{zone}" for zone in self._zones)):
            here = [found for found in page if f"/{scope}/" in found["selfLink"]]
            nothing = {"code": "NO_RESULTS_ON_PAGE", "message": f"There are no results for scope '{scope}'."}
            scopes[scope] = {call.collection: here} if here else {"warning": nothing}
        link = self._links.url(f"projects/{call.project}/aggregated/{call.collection}")
        kind = f"compute#{_kind(call.collection)}AggregatedList"
        document: Document = {"kind": kind, "id": link, "items": scopes, "selfLink": link}
        return document | ({"nextPageToken": token} if token else {})

    def insert(self, call: Call) -> Document:
        """Make one. A group has to name a template that is there."""
        path = f"{call.path}/{check_name(call.body.get('name', ''))}"
        if path in self._documents:
            raise already_exists(path)
        document = {**call.body, **new_document(_kind(call.collection), path, self._links)}
        if call.collection == "instanceGroupManagers":
            template = path_of(call.body.get("instanceTemplate", ""), call.project, "resource.instanceTemplate")
            self._named(template)
            url = self._links.url(template)
            document |= {
                "instanceTemplate": url,
                "versions": [{"instanceTemplate": url}],
                "zone": self._links.url(call.parent),
                "fingerprint": fingerprint(call.body),
                "instanceGroup": self._links.url(f"{call.parent}/instanceGroups/{last(path)}"),
            }

        def work() -> None:
            self._documents[path] = document

        return self._operations.begin(call, "insert", path, document["id"], work)

    def delete(self, call: Call) -> Document:
        """Delete one. A template that a group has stays."""
        document = self._named(call.path)
        url = document["selfLink"]
        users = [path for path, found in self._documents.items() if found.get("instanceTemplate") == url]
        if users:
            raise in_use(call.path, users[0])

        def work() -> None:
            self._documents.pop(call.path, None)

        return self._operations.begin(call, "delete", call.path, document["id"], work)

    def _named(self, path: str) -> Document:
        found = self._documents.get(path)
        if found is None:
            raise not_found(path)
        return found


def _kind(collection: str) -> str:
    kind = KINDS[collection]
    return kind[0].lower() + kind[1:]
