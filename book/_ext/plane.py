"""A Sphinx extension: the directive `{plane}` shows what `show.plane_of_sources` draws, where a page has no cells.

Its content is what stands between the function's parentheses.
"""

from __future__ import annotations

import ast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from unasdiff_teach.show import plane_of_sources


def setup(app: Sphinx) -> dict:
    app.add_directive("plane", PlaneDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class PlaneDirective(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        call = ast.parse(f"plane_of_sources({' '.join(self.content)})", mode="eval").body
        controls = map(ast.literal_eval, call.args)
        values = {setting.arg: ast.literal_eval(setting.value) for setting in call.keywords}
        return [nodes.raw("", plane_of_sources(*controls, **values)._repr_html_(), format="html")]
