"""What on Compute Engine was made of an image, or would be: disks, instance templates and managed instance groups.

Instances are their disks. A list that is not whole, since a zone cannot be reached, is none: a user may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.cloud import compute_v1

from ...errors import Transient
from ...image_users import ImageUse
from ...names import compute_path
from .calls import Calls, last

_PAGE = 500  # entries of one answer, the most that Compute Engine gives
_IMAGE = re.compile(r"(?:projects/(?P<project>[^/]+)/)?(?:global/)?images/(?P<name>[^/]+)")
_WHOLE = ("", "NO_RESULTS_ON_PAGE")  # warnings of lists that lack nothing


class GoogleImageUsers:
    """The users of images in all projects that our service account can list."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        """List users page by page. Transient for a list that is not whole; CloudError."""
        templates: dict[str, str] = {}  # their images, by their paths: those alone that are of these images
        for template in self._all("instance templates", project, compute_v1.InstanceTemplatesClient):
            for text in _images_of(template):
                if name := _named(text, project, images_of):
                    templates[compute_path(template.self_link)] = name
                    yield ImageUse(name, "", f"instance template {template.name} of project {project}")
        for group in self._all("managed instance groups", project, compute_v1.InstanceGroupManagersClient):
            for url in {group.instance_template, *(version.instance_template for version in group.versions)}:
                if name := templates.get(compute_path(url), ""):
                    yield ImageUse(name, "", f"managed instance group {group.name} of project {project}")
        for disk in self._all("disks", project, compute_v1.DisksClient):
            if name := _named(disk.source_image, project, images_of):
                instances = ", ".join(last(user) for user in disk.users)
                attached = f", attached to {instances}" if instances else ""
                place = f"disk {disk.name} of project {project} in {last(disk.zone or disk.region)}"
                yield ImageUse(name, disk.source_image_id, place + attached)

    def _all(self, what: str, project: str, client: type[Any]) -> Iterator[Any]:
        """List resources of all zones and regions."""
        kind = client.__name__.removesuffix("Client")
        text = f"{what} of project {project}"
        request = _REQUESTS[kind](project=project, max_results=_PAGE)
        for page in self._calls.whole_pages(text, self._calls.client(client).aggregated_list, request):
            missing = [
                *getattr(page, "unreachables", ()),
                *([page.warning.code] if page.warning.code not in _WHOLE else []),
            ]
            for scope, found in page.items.items():
                if found.warning.code not in _WHOLE:
                    missing.append(f"{scope} ({found.warning.code})")
                yield from getattr(found, _FIELDS[kind])
            if missing:
                raise Transient(f"{text}: the list is not whole; missing: {', '.join(missing)}")


_REQUESTS: Mapping[str, type[Any]] = {
    "Disks": compute_v1.AggregatedListDisksRequest,
    "InstanceTemplates": compute_v1.AggregatedListInstanceTemplatesRequest,
    "InstanceGroupManagers": compute_v1.AggregatedListInstanceGroupManagersRequest,
}
_FIELDS = {
    "Disks": "disks",
    "InstanceTemplates": "instance_templates",
    "InstanceGroupManagers": "instance_group_managers",
}


def _images_of(template: compute_v1.InstanceTemplate) -> Iterator[str]:
    for disk in template.properties.disks:
        yield disk.initialize_params.source_image
    for config in template.source_instance_params.disk_configs:
        yield config.custom_image


def _named(text: str, project: str, images_of: str) -> str:
    """Return the name of an image of a project that a URL or path is of; "" for any other, and for a family's.

    The image that a family leads to stays by itself. A project that is a number may be any.
    """
    match = _IMAGE.fullmatch(compute_path(text))
    owner = (match["project"] or project) if match is not None else ""
    return match["name"] if match is not None and (owner == images_of or owner.isdecimal()) else ""
