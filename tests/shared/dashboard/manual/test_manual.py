"""The documentation as pages: no markup of its own, links within, and every page of docs/ whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.dashboard.manual.markdown import anchor_of, page_name, rendered, title_of
from tests.shared.dashboard.pages_of import Pages
from tests.world.world import World

DOCS = Path(__file__).resolve().parents[4] / "docs"
PATHS = [path.relative_to(DOCS) for pattern in ("*.md", "how-to/*.md") for path in DOCS.glob(pattern)]
NAMES = sorted(page_name(str(path)) for path in PATHS)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("a <b onclick=x>b</b>", "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>\n"),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>\n"),
        ("[x](data:text/html,1)", "<p>[x](data:text/html,1)</p>\n"),
        ("[x](spec.md#source)", '<p><a href="/docs/spec#source">x</a></p>\n'),
        ("[x](#here)", '<p><a href="#here">x</a></p>\n'),
        ("[x `y`](decisions/0001-record.md)", "<p>x <code>y</code></p>\n"),
        ("[x](../README.md) [y](spec.md)", '<p>x <a href="/docs/spec">y</a></p>\n'),
        (
            "[x](how-to/verify.md) [y](verify.md)",
            '<p><a href="/docs/how-to-verify">x</a> <a href="/docs/how-to-verify">y</a></p>\n',
        ),
        ("[x](../spec.md)", '<p><a href="/docs/spec">x</a></p>\n'),
        ("[x](//evil.example/spec.md)", "<p>x</p>\n"),
        ("[x](https://example.org)", '<p><a href="https://example.org" rel="noreferrer noopener">x</a></p>\n'),
        ("![a picture](x.png)", "<p>a picture</p>\n"),
        ("    code <i>", '<pre tabindex="0"><code>code &lt;i&gt;\n</code></pre>\n'),
    ],
)
def test_markdown(text: str, html: str) -> None:
    assert rendered(text, ["spec", "how-to-verify"]).html == html


def test_a_table_has_classes_and_no_styles() -> None:
    html = rendered("| a | b |\n| --- | ---: |\n| 1 | 2 |\n", []).html
    assert "style" not in html
    assert '<td class="number">2</td>' in html


def test_headings_have_anchors_of_their_own() -> None:
    shown = rendered("# The page\n## What `it` does\n### Again\n## Again\n", [])
    assert shown.title == "The page"
    assert [(heading.level, heading.anchor) for heading in shown.headings] == [
        (2, "what-it-does"),
        (3, "again"),
        (2, "again-1"),
    ]
    assert '<h2 id="what-it-does">' in shown.html
    assert anchor_of("goldsmith builds retry BUILD") == "goldsmith-builds-retry-build"
    assert title_of("x\n# A `b`\n") == "A b"


@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_shown_and_its_links_lead_somewhere(name: str) -> None:
    pages = Pages(World())
    page = pages.html(f"/docs/{name}")
    for target, anchor in re.findall(r'href="/docs/([a-z-]+)(?:#([^"]+))?"', page):
        other = pages.html(f"/docs/{target}")
        assert not anchor or f'id="{anchor}"' in other, f"{name} leads to {target}#{anchor}"
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page, f"{name} leads to #{anchor}"


def test_the_pages_are_listed_and_searched() -> None:
    pages = Pages(World())
    document = pages.json("/docs")
    assert {page["name"] for page in document["pages"]} == set(NAMES)
    assert document["found"] == []
    found = pages.json("/docs?q=deprecate_old")["found"]
    assert "spec" in {line["page"] for line in found}
    assert all("deprecate_old" in line["line"] for line in found)
    assert "No line has “&lt;b&gt;zzz”" in pages.html("/docs?q=<b>zzz")
    assert pages.json("/docs/spec")["text"].startswith("# ")


@pytest.mark.parametrize("name", ["none", "..", "decisions", "%2e%2e%2fREADME"])
def test_nothing_else_is_read(name: str) -> None:
    assert Pages(World()).client.get(f"/docs/{name}").status_code == 404
