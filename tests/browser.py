"""Pages in headless Chromium, as large as a phone or a screen, light or dark."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")

BEFORE = """
<script>
  const time = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime")
  let sought = 0
  Object.defineProperty(HTMLMediaElement.prototype, "currentTime", {
    get: time.get, set(moment) { sought++; time.set.call(this, moment) } })
</script>
"""
AFTER = """
<script>
  const all = (selector) => [...document.querySelectorAll(selector)].filter((node) => node.getClientRects().length)
  const start = (node) => node.outerHTML.slice(0, 80)
  const box = (node) => node.getBoundingClientRect()
  const touched = "button:not(.media), select, label:has([type=radio]), label:has([type=checkbox]), [type=range]"
  setTimeout(() => {
    const found = {
      width: innerWidth,
      overflowing: all("body *").filter((node) => box(node).right > innerWidth + 0.5).map(start),
      small: all(touched).filter((node) => Math.min(box(node).width, box(node).height) < 44).map(start),
      unlabelled: all("img, video").filter((node) => !(node.alt || node.ariaLabel)).length,
      labels: all("img, video").map((node) => node.alt || node.ariaLabel),
      sought,
      played: all("video").every((clip) => clip.ended || clip.currentTime > 0),
      background: getComputedStyle(document.body).backgroundColor,
    }
    const clip = document.querySelector(".media")
    clip.click()
    found.enlarged = box(clip.firstChild).width
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }))
    found.shrunk = box(clip.firstChild).width
    parent.postMessage(JSON.stringify(found), "*")
  }, 2500)
</script>
"""


# A window cannot be as narrow as a phone.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe width="{width}" height="844" src="{name}"></iframe>
<script>onmessage = ({{ data }}) => {{ document.body.dataset.found = data }}</script>"""


def run(page: Path, folder: Path, *options: str) -> str:
    """The page's DOM after some seconds. `folder` is the browser's own."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={folder}", *options, "--dump-dom", f"file://{page}"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=100)
    return done.stdout.decode()


def measured(page: Path, folder: Path, *, width: int, dark: bool = False) -> dict:
    """What is seen on a page of this width in pixels: see AFTER."""
    watched, frame = (page.with_name(f"{name}-{page.name}") for name in ("watched", "frame"))
    watched.write_text(page.read_text().replace("<title>", f"{BEFORE}<title>").replace("</html>", f"{AFTER}</html>"))
    frame.write_text(FRAME.format(width=width, name=watched.name))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    dom = run(frame, folder, "--window-size=1400,900", "--hide-scrollbars", scheme)
    watched.unlink()
    frame.unlink()
    return json.loads(unescape(re.search(r'data-found="([^"]*)"', dom)[1]))
