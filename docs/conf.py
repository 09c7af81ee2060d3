"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "superorm"
author = "The superorm developers"
release = version = installed_version("superorm-mongodb")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "superorm"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
