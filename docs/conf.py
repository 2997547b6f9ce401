"""How Sphinx builds this documentation; `make docs` calls it, and warnings are errors."""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "taskito"
author = "The taskito authors"
version = release = distribution_version("taskito")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["demo"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "taskito"
html_copy_source = False
html_show_sourcelink = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True


def setup(app: Sphinx) -> None:
    """Show the state diagram as text: pages are built without anything from the network."""
    app.add_lexer("mermaid", TextLexer)
