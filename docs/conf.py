"""The settings of the site. It is built without a network; then open build/site/index.html.

uv run sphinx-build -W --keep-going docs build/site
"""

import re
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

DOCS = Path(__file__).parent
BENCHMARKS = DOCS.parent / "benchmarks/README.md"

project = "BiCo, as a benchmark"
author = "the authors of this repository"
copyright = "Apache-2.0"

extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links such as page.md#a-heading work here as they do where the repository is browsed
nitpicky = True

html_theme = "furo"
html_title = project
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_math_renderer = "mathml"


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Pages are written for where the repository is browsed; here is what differs on the site.

    benchmarks/README.md, which is outside of this folder, is the page "speed". Days of the log are below its index. An
    anchor in a heading is a target of MyST.
    """
    text = BENCHMARKS.read_text(encoding="utf-8").replace("../docs/", "") if page == "speed" else source[0]
    if page == "log" and (DOCS / "log").is_dir():
        text += "\n```{toctree}\n:hidden:\n:glob:\n:reversed:\n\nlog/*\n```\n"
    text = re.sub(r"\((\.\./)+benchmarks/README\.md", "(/speed.md", text)
    source[0] = re.sub(r'^(#+ )<a id="([^"]+)"></a>', r"(\2)=\n\1", text, flags=re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Formulas as MathML, which browsers draw themselves: no script, no fonts, no network."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("source-read", read)
