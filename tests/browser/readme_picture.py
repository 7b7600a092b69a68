"""The picture of the README: the top of a build's page in Chromium. The file also has the words that are to be seen.

python -m tests.browser.readme_picture      takes it anew
"""

from __future__ import annotations

import base64
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.browser.conftest import Site, chromium, opened, telling_site
from tests.project.source_tree import ROOT

PICTURE = ROOT / "docs" / "images" / "dashboard.png"
ADDRESS = "/builds/nginx-0123456789ab"
WINDOW: Any = {"width": 1280, "height": 832}

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORD = b"Description\0"

WORDS = """() => {
  const words = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walk.currentNode);
    const box = range.getBoundingClientRect();
    const seen = walk.currentNode.parentElement.checkVisibility() && box.width > 1 && box.top >= 0;
    if (seen && box.bottom <= innerHeight) words.push(walk.currentNode.data.trim());
  }
  return words.filter(Boolean).join("\\n");
}"""

DIFFERENCE = """async pictures => {
  const [one, other] = await Promise.all(pictures.map(async address => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas"), width = 80, height = 52;
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    return {size: [image.width, image.height], data: context.getImageData(0, 0, width, height).data};
  }));
  if (String(one.size) !== String(other.size)) return 1;
  let differ = 0;
  for (let at = 0; at < one.data.length; at += 4)
    differ += [0, 1, 2].some(colour => Math.abs(one.data[at + colour] - other.data[at + colour]) > 32);
  return differ / (one.data.length / 4);
}"""


def take(browser: Browser, site: Site) -> bytes:
    """Return the page as a PNG file that has its words as a Description."""
    with opened(browser, site, color_scheme="light", viewport=WINDOW) as shown:
        shown.go(site.address + ADDRESS)
        return with_words(shown.page.screenshot(), shown.page.evaluate(WORDS))


def difference(page: Page, one: bytes, other: bytes) -> float:
    """Return the share of the area, from 0 to 1, in which two pictures differ when each is seen from afar.

    Fonts and their edges are not the same on all machines, so 80 by 52 fields are compared, by their mean colours.
    """
    addresses = ["data:image/png;base64," + base64.b64encode(each).decode() for each in (one, other)]
    return float(page.evaluate(DIFFERENCE, addresses))


def with_words(png: bytes, words: str) -> bytes:
    """Put a Description into a PNG file, before its end."""
    end = len(png) - 12  # the chunk IEND
    return png[:end] + _chunk(b"iTXt", KEYWORD + b"\0\0\0\0" + words.encode()) + png[end:]


def words_of(png: bytes) -> str:
    """Return the Description of a PNG file, or an empty text."""
    found = (body for kind, body in _chunks(png) if kind == b"iTXt" and body.startswith(KEYWORD))
    return next(found, b"").removeprefix(KEYWORD)[4:].decode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    assert png.startswith(SIGNATURE)
    at = len(SIGNATURE)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + length]
        at += 12 + length


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder, telling_site(Path(folder)) as site, chromium() as browser:
        PICTURE.write_bytes(take(browser, site))


if __name__ == "__main__":
    main()
