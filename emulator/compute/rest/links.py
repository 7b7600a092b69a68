"""Names of resources: full URLs, the paths in them, and what else Compute Engine takes for one."""

from __future__ import annotations

import re

from .refusals import invalid

NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_FULL = re.compile(
    r"(?:https?://[^/]+/compute/[^/]+/)?(?P<path>projects/[^/]+/(?:global|zones/[^/]+|regions/[^/]+)/.+)"
)
_PARTIAL = re.compile(r"/?(?:global|zones/[^/]+|regions/[^/]+)/.+")


class Links:
    """URLs of resources. They name Google's own host, whichever endpoint gave them, as real answers do."""

    base = "https://www.googleapis.com/compute/v1/"

    def url(self, path: str) -> str:
        """Return a resource's URL; a path is projects/PROJECT/SCOPE/COLLECTION/NAME."""
        return self.base + path


def path_of(text: str, project: str, field: str) -> str:
    """Return the path of a resource that a request names by URL or a part of one. Raises Refusal."""
    if found := _FULL.fullmatch(text):
        return found["path"]
    if _PARTIAL.fullmatch(text):
        return f"projects/{project}/{text.removeprefix('/')}"
    raise invalid(field, text, "The URL is malformed.")


def last(path: str) -> str:
    """Return the name at the end of a path or URL."""
    return path.rsplit("/", 1)[-1]


def check_name(name: str) -> str:
    """Hold a new resource's name to the rule for names. Raises Refusal."""
    if not NAME.fullmatch(name):
        raise invalid("resource.name", name, f"Must be a match of regex '(?:{NAME.pattern})'")
    return name
