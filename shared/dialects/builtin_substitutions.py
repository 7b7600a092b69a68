"""Cloud Build's own substitutions, as far as a build outside of Cloud Build can have them.

Apart from the others since `goldsmith convert` has no time to import what uploads need.
"""

from __future__ import annotations

from ..identity import request_digest


def builtin_substitutions(project: str, asked: str) -> dict[str, str]:
    """Give Cloud Build's own substitutions for a workflow that was uploaded; `asked` is what asked for its builds.

    A build that nobody triggered has no others. The number of its project is not known here.
    """
    return {
        "PROJECT_ID": project,
        "BUILD_ID": _uuid(request_digest(asked)),
        "LOCATION": "global",  # where `gcloud builds submit` runs builds unless it is told otherwise
    }


def _uuid(digest: str) -> str:
    """Write the first digits of a digest as UUIDs of version 4 are written."""
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
