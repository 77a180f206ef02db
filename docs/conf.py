"""Sphinx: the gallery that `make site` builds. Notebooks keep their committed outputs; nothing is executed."""

import re
import sys
from pathlib import Path

import latex2mathml.converter
from docutils.nodes import SkipNode

sys.path.insert(0, str(Path(__file__).parent / "docs"))
import pages

project = "icl-synth"
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.apidoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
html_theme = "furo"
html_title = "icl-synth"
html_static_path = ["docs/static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"  # browsers typeset it themselves: no script, no network
html_scaled_image_link = False
root_doc = "index"
exclude_patterns = ["figures/**.md"]
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # a page has no kernel: nothing is fetched for widgets that would be dead
nb_mime_priority_overrides = [("*", "application/vnd.jupyter.widget-view+json", None)]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"ignore-module-all": True}  # what a package hands out is described where it is defined
apidoc_modules = [
    {"path": f"../../{package}", "destination": f"api/{package}", "separate_modules": True, "max_depth": 2}
    for package in ("icl_synth", "compression", "decoding", "figures")
]
suppress_warnings = ["mystnb.unknown_mime_type", "myst.xref_missing"]


def plain(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code` and lists of `name: meaning`, not reStructuredText."""
    text = re.sub(r"([*_|\\])", r"\\\1", "\n".join(lines))
    text = re.sub(r"`([^`]+)`", lambda found: "``" + found[1].replace("\\", "") + "``", text)
    text = re.sub(r"(?<=[^\n])\n +(?=\S)", " ", text)  # what is indented goes on with the line above
    text = re.sub(r"^ +", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(\w+: )", r"\n- \1", text, flags=re.MULTILINE)
    lines[:] = re.sub(r"^(- .*)\n(?=[^-\n])", r"\1\n\n", text, flags=re.MULTILINE).split("\n")


def inline_formula(self, node):
    self.body.append(latex2mathml.converter.convert(node.astext()))
    raise SkipNode


def displayed_formula(self, node):
    formula = latex2mathml.converter.convert(node.astext(), display="block")
    self.body.append(f'<div class="formula">{formula}</div>')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    app.connect("autodoc-process-docstring", plain)
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
