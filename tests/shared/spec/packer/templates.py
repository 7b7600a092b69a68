"""Templates as texts, and what they come to, without files."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from shared.spec.packer.draft import PackerDraft, draft_template_build, spec_names
from shared.spec.packer.hcl_template import read_hcl_template
from shared.spec.packer.language.syntax import TemplateFiles
from shared.spec.packer.parts import PackerTemplate, Surroundings
from shared.spec.packer.step_maker import TemplatePlaces

FILES = {"setup.sh": "#!/bin/sh\n", "tmp.sh": "touch /tmp/x\n", "boot.sh": "sudo reboot\n", "motd": "hi\n"}
FILES |= {"play/site.yml": "- hosts: [default, db]\n", "play/needs.yml": ""}
FOLDERS = ("site", "site/", ".", "play/roles")
SECRET = 'variable "token" {\n  sensitive = true\n}\n'
SOURCE = """source "googlecompute" "web" {{
  project_id = "my-project"
  source_image_family = "debian-12"
  zone = "us-central1-a"
  {options}
}}
build {{
  sources = ["source.googlecompute.web"]
  {rest}
}}
{before}
"""


def read_file(path: str) -> str:
    """Return a text of FILES. ValueError."""
    if path not in FILES:
        raise ValueError(f"there is no file {path}")
    return FILES[path]


def found_files(folder: str, pattern: str) -> list[str]:
    """Return the FILES that a pattern is for."""
    return [name for name in FILES if fnmatch(name, pattern) and name in ("setup.sh", "motd")]


def template_of(text: str, given: Mapping[str, str] | None = None, **environment: str) -> PackerTemplate:
    """Return a template in HCL that has been read."""
    around = Surroundings(given or {}, {}, environment, read_file, found_files, "/work", ".")
    return read_hcl_template(TemplateFiles({"web.pkr.hcl": text}), around)


def drafts_of(template: PackerTemplate) -> list[PackerDraft]:
    """Return the drafts of all images of a template."""
    places = TemplatePlaces(
        lambda path: path,
        lambda name: f"made/{name}",
        lambda path: True if path in FOLDERS else False if path in FILES else None,
        lambda path: FILES.get(path, ""),
    )
    names = spec_names(template.builds)
    return [draft_template_build(build, name, places) for build, name in zip(template.builds, names, strict=True)]


def problems_of(template: PackerTemplate) -> list[str]:
    """Return the problems of a template and of its drafts: `LINE: what: text`."""
    found = [*template.problems, *(each for draft in drafts_of(template) for each in draft.document.problems)]
    return [f"{each.position.line if each.position else 0}: {each.shown}: {each.text}" for each in found]


def hcl(options: str = "", rest: str = "", before: str = "") -> str:
    """Return a template with one source, which has these options, and these parts of its build."""
    return SOURCE.format(options=options, rest=rest, before=before)


def values_of(options: str = "", rest: str = "", before: str = "") -> Any:
    """Return the document of that template."""
    template = template_of(hcl(options, rest, before))
    assert problems_of(template) == []
    (draft,) = drafts_of(template)
    return draft.document.data


def told(options: str = "", rest: str = "", before: str = "") -> list[str]:
    """Return the problems of that template, without their lines."""
    return [line.partition(": ")[2] for line in problems_of(template_of(hcl(options, rest, before)))]


def notes_of(options: str = "", rest: str = "", before: str = "") -> list[str]:
    """Return what that template is told to have no effect."""
    template = template_of(hcl(options, rest, before))
    (draft,) = drafts_of(template)
    return [text for _, text in draft.notes]
