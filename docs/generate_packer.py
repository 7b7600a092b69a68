"""Write the tables of docs/packer.md from shared/spec/packer/options.py.

python -m docs.generate_packer
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.spec.packer.options import (
    BUILDERS,
    OTHER_PROVISIONERS,
    POST_PROCESSORS,
    PROVISIONERS,
    OptionPlacement,
)

PAGE = Path(__file__).parent / "packer.md"
BEGINNING, END = "<!-- tables: python -m docs.generate_packer -->", "<!-- end of tables -->"
TITLES = {"taken": "taken over", "left": "no effect, told", "refused": "refused"}


def tables() -> str:
    """Return the tables: what becomes of each option."""
    lines: list[str] = []
    for kind, options in BUILDERS.items():
        lines += [f"### Builder {kind}", "", *_rows(options), ""]
    for kind, options in PROVISIONERS.items():
        lines += [f"### Provisioner {kind}", "", *_rows(options), ""]
    lines += ["### Other provisioners", "", "| provisioner | | |", "| --- | --- | --- |"]
    lines += [f"| `{kind}` | {TITLES[each.verdict]} | {each.text} |" for kind, each in OTHER_PROVISIONERS.items()]
    lines += ["", "### Post-processors", "", "Others have no effect, which is told.", ""]
    lines += ["| post-processor | | |", "| --- | --- | --- |"]
    lines += [f"| `{kind}` | {TITLES[each.verdict]} | {each.text} |" for kind, each in POST_PROCESSORS.items()]
    return "\n".join(lines)


def _rows(options: Mapping[str, OptionPlacement]) -> Iterator[str]:
    """Yield a table of options; those with one text share a row."""
    yield "| options | | |"
    yield "| --- | --- | --- |"
    alike: dict[OptionPlacement, list[str]] = {}
    for name, placement in options.items():
        alike.setdefault(placement, []).append(name)
    for placement, names in alike.items():
        listed = ", ".join(f"`{name}`" for name in names)
        yield f"| {listed} | {TITLES[placement.verdict]} | {placement.text} |"


def with_tables(text: str) -> str:
    """Return the page with its tables as they should be."""
    before, _, rest = text.partition(BEGINNING)
    return f"{before}{BEGINNING}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
