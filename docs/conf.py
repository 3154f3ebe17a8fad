"""How Sphinx makes HTML of these pages: `make docs`."""

import re
from pathlib import Path

_VERSION = Path(__file__).parents[1].joinpath("vmsvc", "__init__.py").read_text(encoding="utf-8")

project = "vmsvc"
author = "the vmsvc developers"
release = re.search(r'__version__ = "([^"]+)"', _VERSION).group(1)
html_theme = "furo"
html_title = f"vmsvc {release}"
html_copy_source = False
html_show_copyright = False
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]
# GitHub draws fenced blocks of Mermaid as well, so the pages use no other form.
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
