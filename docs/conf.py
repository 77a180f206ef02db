"""Sphinx: the gallery that `make site` builds. Notebooks keep their committed outputs; nothing is executed."""

import re

project = "icl-synth"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.apidoc"]
html_theme = "furo"
html_title = "icl-synth"
root_doc = "index"
exclude_patterns = ["figures/**.md"]
nb_execution_mode = "off"
myst_heading_anchors = 4
autodoc_typehints = "none"
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


def setup(app):
    app.connect("autodoc-process-docstring", plain)
