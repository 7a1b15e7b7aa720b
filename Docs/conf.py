"""How Sphinx builds the pages of this folder: `make docs`. Nothing is downloaded."""

import re

from PPIRLogic.version import __version__

project, author, release = "PPIRExtension", "PPIRExtension contributors", __version__
project_copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc"]
master_doc = "index"
html_theme, html_title = "furo", f"{project} {release}"
html_theme_options = {"source_edit_link": ""}
html_show_sourcelink = False
myst_enable_extensions = ["tasklist"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True


def setup(app):
    """SECURITY.md stays at the root of the repository; in the site it is a page like the others."""

    def read(app, name, source):
        source[0] = re.sub(r"\]\((\.\./)+SECURITY\.md\)", "](/privacy/security.md)", source[0])

    app.connect("source-read", read)
