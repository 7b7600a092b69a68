"""Compute Engine's rules for names and labels, in one place.

The spec is held to them when it is read and every name that a plan makes obeys them, so that a name is never refused
after money has been spent. Each check gives its text back or raises ValueError saying what to write instead.
https://cloud.google.com/compute/docs/naming-resources, https://cloud.google.com/compute/docs/labeling-resources
"""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping

NAME_LENGTH = 63  # of images, families, machines, disks
SPEC_NAME_LENGTH = 32  # so that NAME-12HEX and gs-BUILDID-aN-WHAT stay within that
LABEL_LENGTH = 63  # characters, of a label's key and of its value
LABEL_BYTES = 128  # the same in UTF-8
LABEL_COUNT = 64  # labels that one resource can carry
SPEC_LABEL_COUNT = LABEL_COUNT - 4  # three are Goldsmith's own, and one says until when an image is kept
LOCAL = "local"  # the project of this machine's image catalogue
COS_PROJECT = "cos-cloud"  # whose images are Container-Optimized OS's, and have milestones
KEY_VERSION = (
    r"projects/[a-z0-9:.-]{1,63}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}/"
    r"cryptoKeys/[A-Za-z0-9_-]{1,63}/cryptoKeyVersions/[1-9][0-9]{0,9}"
)
MAKER_IMAGE = "projects/debian-cloud/global/images/family/debian-12"  # that VMs boot from to make a root from nothing
IMAGE_PATH = r"projects/(?P<project>[^/\s]+)/global/images/(?:family/(?P<family>[^/\s]+)|(?P<name>[^/\s]+))"
OWN_NAMES = "gs-"  # begins the names of what builds make for themselves; IAM lets functions touch no others
RESERVED_LABELS = "goldsmith-"  # keys that start so are Goldsmith's own
BUILD_LABEL = "goldsmith-build"  # on everything that a build makes: its id
ATTEMPT_LABEL = "goldsmith-attempt"  # on machines and disks: which attempt made them
EXPIRES_LABEL = "goldsmith-expires"  # on machines and disks: the Unix time after which a sweep may delete them
SOURCE_LABEL = "goldsmith-source"  # on an image: the name of the image it was made from
REVOKED_LABEL = "goldsmith-revoked"  # on an image that was revoked: when, in Unix seconds
VERIFY_LABEL = "goldsmith-verify"  # on an image that no family has: pending, and failed where that is kept
DIGEST_LABEL = "goldsmith-digest"  # on an image: the first 40 digits of its content digest
COPY_LABEL = "goldsmith-copy-of"  # on a copy of an image: the id of the image that it is a copy of

_OF_ATTEMPT = "-a[0-9]+-[a-z]+[0-9]?(-ci)?"  # follows the build id in the name of what an attempt makes
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUFFIX = re.compile(r"[-a-z0-9]*[a-z0-9]")
_PROJECT = re.compile(r"([a-z0-9][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]")  # old ones begin with a domain
_COMPUTE_URL = re.compile(r"(https?:)?//([-a-z0-9]+\.)+googleapis\.com/compute/[a-z0-9_]+/")
_NETWORK = re.compile(r"((projects/[-a-z0-9.:]+/)?global/networks/)?[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBNET = re.compile(r"((projects/[-a-z0-9.:]+/)?regions/[-a-z0-9]+/subnetworks/)?[a-z]([-a-z0-9]*[a-z0-9])?")
SECRET_IN_ENVIRONMENT, SECRET_IN_FILE, SECRET_OF_MANAGER = "env:", "file:", "projects/"
"""The beginnings of the places of secrets."""
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,254}")
_SECRET_VERSION = re.compile(
    r"projects/[a-z0-9:.-]{1,63}/secrets/[A-Za-z0-9_-]{1,255}/versions/(?:[1-9][0-9]{0,9}|latest)"
)
LATEST_VERSION = "/versions/latest"  # ends the place of a secret whose newest version is meant
_KMS_KEY = re.compile(
    r"projects/[-a-z0-9.:]{1,100}/locations/[-a-z0-9]{1,40}/keyRings/[-_A-Za-z0-9]{1,63}/cryptoKeys/[-_A-Za-z0-9]{1,63}"
    r"(?:/cryptoKeyVersions/[0-9]{1,9})?"
)
_LICENSE = re.compile(r"projects/[-a-z0-9.:]+/global/licenses/[a-z]([-a-z0-9]*[a-z0-9])?")
_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")


MOST_COMPARED = 20_000  # names among which the nearest ones are looked for
MOST_MEANT = 3


def quoted(text: str) -> str:
    """Show a text inside a message, cut when it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return `did you mean X?` where there is an X, else a list of the choices."""
    choices = list(choices)
    by_letters = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word[:100].lower(), by_letters, n=1, cutoff=0.6)
    return f"did you mean {by_letters[close[0]]}?" if close else f"write one of: {', '.join(choices)}"


def meant(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X or Y?` for the known names that are nearest to one that is not known, or ""."""
    among = list(itertools.islice(known, MOST_COMPARED))
    begun = [name for name in among if word and name.startswith(word)][:MOST_MEANT]
    close = begun or difflib.get_close_matches(word[:100], among, n=MOST_MEANT, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Return the problem of a key that is not known here."""
    known = list(known)
    return f"unknown key; {nearest(str(key), known)}" if known else "unknown key; nothing can be set here"


def shown_value(value: object) -> str:
    """Return a value's name, as a person sees it in the file."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quoted(str(value))}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return "keys and values" if isinstance(value, Mapping) else "a list"


ALL_USERS = "allAuthenticatedUsers"  # whom an image can be shared with; Compute Engine knows no wider audience
_PROJECT_NUMBER = re.compile(r"project:([0-9]{6,20})")
_MEMBER = re.compile(
    r"(?:user|group|serviceAccount):[^\s:@/]{1,100}@[a-z0-9][-a-z0-9.]{1,200}[a-z0-9]"
    r"|domain:[a-z0-9][-a-z0-9.]{1,200}[a-z0-9]"
    r"|principal(?:Set)?://[^\s]{1,500}"
)


def check_name(text: str, longest: int = NAME_LENGTH) -> str:
    """Check the name of an image, family or machine."""
    if len(text) > longest or not _NAME.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a valid name; write at most {longest} lower-case letters, digits and dashes, "
            f"a letter first and no dash last{_example(text, longest)}"
        )
    return text


def output_name(text: str, longest: int = NAME_LENGTH) -> str:
    """Check the name of an image that a spec makes, or that it derives its image's name from."""
    if text.startswith(OWN_NAMES):
        raise ValueError(
            f"{quoted(text)} begins with {OWN_NAMES}, as the machines, disks and images that builds make for "
            f"themselves do; write another name, for example {quoted('my-' + text)}"
        )
    return check_name(text, longest)


def _example(text: str, longest: int) -> str:
    """Propose the nearest valid name, where one can be made of `text`."""
    near = re.sub(r"[^a-z0-9]+", "-", text.lower())
    near = re.sub(r"^[^a-z]+", "", near)[:longest].rstrip("-")
    return f", for example {near}" if near else ""


def is_own(name: str, labels: Mapping[str, str]) -> bool:
    """Return whether a resource that has a name of ours carries the label of the very build that the name tells.

    Anyone in the project may give a machine, disk or image such a name; without the label it is not a build's.
    """
    build_id = labels.get(BUILD_LABEL, "")
    return bool(build_id) and re.fullmatch(OWN_NAMES + re.escape(build_id) + _OF_ATTEMPT, name) is not None


def name_suffix(text: str) -> str:
    """Check what is appended to the name of the source image."""
    if len(text) >= NAME_LENGTH or not _SUFFIX.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a valid end of a name; write lower-case letters, digits and dashes, "
            "no dash last, such as -hello"
        )
    return text


def project_id(text: str) -> str:
    """Check a project's id (not its number or display name), or `local`."""
    if text != LOCAL and not _PROJECT.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a project id; write the id that `gcloud projects list` shows, such as cos-cloud, "
            f"or {LOCAL} for the images of this machine"
        )
    return text


def cloud_project(text: str) -> str:
    """Check the id of a project on Google Cloud."""
    if text == LOCAL:
        raise ValueError(
            f"{LOCAL} stands for this machine, which keeps no copies; write the id of a project on Google Cloud"
        )
    return project_id(text)


def zone(text: str) -> str:
    """Check the form of a zone's name."""
    if not _ZONE.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a zone; write one such as us-central1-a")
    return text


def compute_path(text: str) -> str:
    """Return the path in the URL of a resource of Compute Engine: any of Google's hosts, any version; others as it is.

    https://www.googleapis.com/compute/v1/projects/... and https://compute.googleapis.com/compute/beta/projects/...
    name the same.
    """
    url = _COMPUTE_URL.match(text)
    return text[url.end() :] if url else text


def network(text: str) -> str:
    """Check a network's name, path or URL, and return its name or path."""
    path = compute_path(text)
    if not _NETWORK.fullmatch(path):
        raise ValueError(
            f"{quoted(text)} is not a network; write its name, global/networks/NAME or "
            "projects/PROJECT/global/networks/NAME"
        )
    return path


def subnetwork(text: str) -> str:
    """Check a subnetwork's name, path or URL, and return its name or path."""
    path = compute_path(text)
    if not _SUBNET.fullmatch(path):
        raise ValueError(
            f"{quoted(text)} is not a subnetwork; write its name, regions/REGION/subnetworks/NAME or "
            "projects/PROJECT/regions/REGION/subnetworks/NAME"
        )
    return path


def license_path(text: str) -> str:
    """Check the path of a licence."""
    if not _LICENSE.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a licence; write it as projects/PROJECT/global/licenses/NAME")
    return text


def kms_key(text: str) -> str:
    """Check the path of a key of Cloud KMS, or of a version of one."""
    if not _KMS_KEY.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a key of Cloud KMS; write it as "
            "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
        )
    return text


def image_user(text: str) -> str:
    """Check a member that an image is shared with, and return it as IAM writes it.

    `project:NUMBER` is the account by which managed instance groups of that project make their VMs.
    """
    if (written := written_member(text)) != text:
        return written
    if text != ALL_USERS and not _MEMBER.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is no member that an image can be shared with; write user:, group: or serviceAccount: and "
            f"an address, domain: and a domain, project: and a project's number, or {ALL_USERS}"
        )
    return text


def written_member(text: str) -> str:
    """Return `project:NUMBER` as IAM writes that project's account, and any other member as it is."""
    found = _PROJECT_NUMBER.fullmatch(text)
    return text if found is None else f"serviceAccount:{found[1]}@cloudservices.gserviceaccount.com"


def secret_place(text: str) -> str:
    """Check where the value of a secret comes from. ValueError, which quotes nothing: the text may be the value."""
    path = text.removeprefix(SECRET_IN_FILE)
    in_file = path != text and path != "" and "\0" not in path
    if not in_file and not _VARIABLE.fullmatch(text) and not _SECRET_VERSION.fullmatch(text):
        raise ValueError(
            "is no place of a secret; write env:NAME, file:PATH or projects/PROJECT/secrets/NAME/versions/NUMBER, and "
            "never the value itself"
        )
    return text


def label_key(text: str) -> str:
    """Check a label's key."""
    if not text or not _is_label(text) or text[0] in "_-" or unicodedata.category(text[0]).startswith("N"):
        raise ValueError(
            f"{quoted(text)} is not a valid label key; write at most {LABEL_LENGTH} lower-case letters, digits, "
            "dashes and underscores, a letter first"
        )
    return text


def label_value(text: str) -> str:
    """Check a label's value; it may be empty."""
    if not _is_label(text):
        raise ValueError(
            f"{quoted(text)} is not a valid label value; write at most {LABEL_LENGTH} lower-case letters, digits, "
            "dashes and underscores"
        )
    return text


def as_label_value(text: str) -> str:
    """Turn any text into a label value, keeping what can be kept."""
    kept = "".join(character if _is_label(character) else "-" for character in text.lower())[:LABEL_LENGTH]
    while len(kept.encode()) > LABEL_BYTES:
        kept = kept[:-1]
    return kept


def _is_label(text: str) -> bool:
    r"""Return whether a text matches `[\p{Ll}\p{Lo}\p{N}_-]*` within the limits, where \p{Lo} is caseless letters."""
    if len(text) > LABEL_LENGTH or len(text.encode(errors="replace")) > LABEL_BYTES:
        return False
    categories = (unicodedata.category(character) for character in text if character not in "_-")
    return all(category in ("Ll", "Lo") or category.startswith("N") for category in categories)
