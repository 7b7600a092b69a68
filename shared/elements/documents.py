"""Read the YAML and JSON files of elements, each fault with its place.

What the files may hold is in provisioner/elements/documents.py. package-installs and svc-map are YAML, of which JSON is
a part; pkg-map is JSON alone, as the program that diskimage-builder brings for it reads nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from provisioner.elements.documents import (
    DOCUMENTS,
    PACKAGE_MAP,
    SERVICE_MAP,
    DocumentFault,
    document_faults,
    fault_text,
    repeated_services,
)
from provisioner.elements.model import Element, ElementsError
from provisioner.system.files import read_text

from ..spec.document import Document, Position, Problem, read_values

ELEMENT_DOCUMENT_LIMIT = 1 << 18  # bytes of one file
TOTAL_LIMIT = 1 << 19  # bytes of all files of the elements of an image: the plan holds them
PROBLEM_LIMIT = 100
_MERGE = "<<"


def read_documents(elements: Sequence[Element]) -> dict[str, dict[str, Any]]:
    """Return the documents of elements, by element and file name. ElementsError tells all problems.

    They are what JSON can hold. Elements without documents are left out, and files that are empty.
    """
    read: dict[tuple[str, str], Document] = {}
    problems: list[str] = []
    total = 0
    for element in elements:
        for file in DOCUMENTS:
            path = f"{element.folder}/{file}"
            text = _text(path, problems)
            total += len(text)
            if total > TOTAL_LIMIT:
                raise ElementsError(
                    [f"{path}: the elements have more than {TOTAL_LIMIT} bytes of such files; write less"]
                )
            document = read_element_document(file, text)
            problems += [f"{path}:{told(problem, document)}" for problem in document.problems]
            if document.data is not None and not document.problems:
                read[element.name, file] = document
    found: dict[str, dict[str, Any]] = {}
    for (name, file), document in read.items():
        found.setdefault(name, {})[file] = document.data
    folders = {element.name: element.folder for element in elements}
    for name, service, text in repeated_services(found, list(folders)):
        place = told(Problem((service,), text), read[name, SERVICE_MAP])
        problems.append(f"{folders[name]}/{SERVICE_MAP}:{place}")
    if problems:
        hidden = len(problems) - PROBLEM_LIMIT
        raise ElementsError([*problems[:PROBLEM_LIMIT], *([f"and {hidden} more problems"] if hidden > 0 else [])])
    return found


def _text(path: str, problems: list[str]) -> str:
    """Return a file's text; "" where there is none, or a problem."""
    try:
        return read_text(path, ELEMENT_DOCUMENT_LIMIT, errors="strict")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        problems.append(f"{path}: is not UTF-8 at byte {error.start + 1}; save the file as UTF-8")
    except OSError as error:
        problems.append(f"{path}: {(error.strerror or str(error)).lower()}; make it a small file")
    return ""


def read_element_document(file: str, text: str) -> Document:
    """Read a document by the rules for its file's name; the problems are in their order. It is None if it is empty."""
    document = _read_json(text) if file == PACKAGE_MAP else read_values(text)
    if document.data is not None:
        merges = [path for path in document.positions if _MERGE in path[-1:] and file != PACKAGE_MAP]
        document.problems += [Problem(path, "merges keys, which is not read here; write them out") for path in merges]
        document.problems += [
            Problem(fault.path, fault.text)
            for fault in document_faults(file, document.data)
            if not any(fault.path[: len(path)] == path for path in merges)
        ]
    document.problems.sort(key=lambda problem: problem.position or document.position(problem.path))
    return document


def told(problem: Problem, document: Document) -> str:
    """Return a problem as `LINE:COLUMN: key: what is wrong; what to write instead`."""
    place = problem.position or document.position(problem.path)
    return f"{place.line}:{place.column}: {fault_text(DocumentFault(problem.path, problem.text))}"


def _read_json(text: str) -> Document:
    """Read JSON with its places, which the reader of YAML finds."""
    document = read_values(text)
    try:
        json.loads(text if text.strip() else "null")
    except json.JSONDecodeError as error:
        what = f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}; check the quotes, commas and brackets here"
        document.problems = [Problem((), what, Position(error.lineno, error.colno))]
        document.data = None
    except (ValueError, RecursionError):  # a number of thousands of digits, or so many brackets: told by read_values()
        document.problems = document.problems or [Problem((), "is no JSON that can be read", Position(1, 1))]
        document.data = None
    return document
