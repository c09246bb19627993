"""Pages in headless Chromium, as large as a phone or a screen, light or dark."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")

COUNT_SEEKS = """
  const time = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime")
  window.sought = 0
  Object.defineProperty(HTMLMediaElement.prototype, "currentTime", {
    get: time.get, set(moment) { window.sought++; time.set.call(this, moment) } })
"""
SHOWN = "(selector) => [...document.querySelectorAll(selector)].filter((node) => node.getClientRects().length)"
PLAYED = f"({SHOWN})('video').every((clip) => clip.ended || clip.currentTime > 0)"
MEASURE = f"""() => {{
  const all = {SHOWN}
  const start = (node) => node.outerHTML.slice(0, 80)
  const box = (node) => node.getBoundingClientRect()
  const touched = "button:not(.media), select, label:has([type=radio]), label:has([type=checkbox]), [type=range]"
  return {{
    width: innerWidth,
    overflowing: all("body *").filter((node) => box(node).right > innerWidth + 0.5).map(start),
    small: all(touched).filter((node) => Math.min(box(node).width, box(node).height) < 44).map(start),
    unlabelled: all("img, video").filter((node) => !(node.alt || node.ariaLabel)).length,
    labels: all("img, video").map((node) => node.alt || node.ariaLabel),
    sought: window.sought,
    background: getComputedStyle(document.body).backgroundColor,
  }}
}}"""


@contextmanager
def opened(page: Path, view: str = "", *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """The page in a window of this width in pixels. `view` is what follows its address, such as #case=."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM) as browser:
        shown = browser.new_page(viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light")
        shown.add_init_script(COUNT_SEEKS)
        shown.goto(page.as_uri() + view)
        yield shown


def contrast(shown: Page) -> float:
    """Standard deviation of what is seen, in grey levels; 0 if the page is blank."""
    return float(np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("RGB")).std())


def measured(page: Path, *, width: int, dark: bool = False, plays: bool = True) -> dict[str, Any]:
    """What is seen (see MEASURE) once all clips of a page that `plays` them do, and its first clip's width enlarged
    and shrunk."""
    with opened(page, width=width, dark=dark) as shown:
        if plays:
            shown.wait_for_function(PLAYED)
        found = shown.evaluate(MEASURE)
        first = shown.locator(".media").first
        for key, act in ("enlarged", first.click), ("shrunk", lambda: shown.keyboard.press("Escape")):
            act()
            found[key] = first.locator("> *").evaluate("(clip) => clip.getBoundingClientRect().width")
    return found
