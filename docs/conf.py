"""Configuration of Sphinx. Build the manual by ``sphinx-build -W docs docs/_build``."""

import adaptopt

project = "adaptopt"
author = "The adaptopt developers"
version = release = adaptopt.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
default_role = "py:obj"

autodoc_typehints = "none"  # numpydoc's Parameters sections say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "alabaster"
html_theme_options = {"description": "Adaptive optimizers, each compiled from one formula"}
html_show_copyright = False

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!adaptopt).*")]  # names of other packages
