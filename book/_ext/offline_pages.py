"""A Sphinx extension: what the built pages need to be read, and their tools to work, from file:// with the network
off.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    # MathJax from the Python package sphinx-mathjax-offline, which copies it into the pages.
    app.setup_extension("sphinx-mathjax-offline")
    # Its SVG output needs no font files: some browsers refuse those on file:// pages.
    app.config.mathjax_path = "mathjax/tex-svg.js"
    # Jupyter Book sets this option of sphinx_comments, which is left out, and -W minds.
    app.add_config_value("comments_config", {}, "html")
    # The tools in the pages: listening player, scrubber, explorer, plane. Pages without one are left as they are.
    app.add_css_file("tools.css")
    for script in ("tools.js", "explorer.js", "plane.js", "predict.js"):
        app.add_js_file(script, loading_method="defer")
    app.connect("html-page-context", _point_to_static)
    app.connect("build-finished", _keep_only_svg_mathjax, priority=900)  # after the copy
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _point_to_static(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Sounds and pictures beside a notebook are named as JupyterLab finds them; the pages' `_static` lies at the
    root.
    """
    if "body" in context:
        context["body"] = context["body"].replace(
            'src="_static/', f'src="{context["pathto"]("_static", resource=True)}/'
        )


def _keep_only_svg_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Delete the bundles that no page loads; `input/tex/extensions` is fetched on demand."""
    mathjax = Path(app.outdir) / "_static" / "mathjax"
    if error or not mathjax.is_dir():
        return
    for entry in mathjax.iterdir():
        if entry.name in ("tex-svg.js", "input", "a11y"):
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
