"""Configuration of Sphinx. Build the manual by ``sphinx-build -W docs docs/_build``."""

import zlib
from pathlib import Path

import adaptopt

project = "adaptopt"
author = "The adaptopt developers"
version = release = adaptopt.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # mathematics needs no network
]
exclude_patterns = ["_build", "gallery", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["adaptopt.css"]
default_role = "py:obj"

autodoc_typehints = "none"  # numpydoc's Parameters sections say more
autodoc_member_order = "bysource"
autosummary_generate = True
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "adaptopt"
html_show_copyright = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "adaptopt"},
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "performance": [], "development": []}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,  # a script that fails stops the build
    "show_memory": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "reference_url": {"adaptopt": None},
    "min_reported_time": 3,
    "plot_gallery": True,
}

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!adaptopt).*")]  # names of other packages


def inventories() -> dict[str, tuple[str, str]]:
    """Write the inventories of other manuals, of the names that ours links to.

    The whole ones lie on the network, which no build needs.
    """
    here = Path(__file__).parent
    folder = here / "_build" / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for block in (here / "external.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        (project, address), *names = [line.split() for line in block.splitlines()]
        lines = [f"{name} {kind} 1 {place} -\n" for name, kind, place in names]
        head = "# Sphinx inventory version 2\n# Project: {}\n# Version: 0\n# zlib follows\n"
        target = folder / f"{project}.inv"
        target.write_bytes(head.format(project).encode() + zlib.compress("".join(lines).encode()))
        mapping[project] = (address, str(target))
    return mapping


intersphinx_mapping = inventories()
