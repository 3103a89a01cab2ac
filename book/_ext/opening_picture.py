"""A Sphinx extension: a chapter opens with its result as one picture.

The cell with the tag `result` draws it, where it is derived; its figure stands once more, smaller, below the chapter's
first paragraph, and leads to that place.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

TAG = "tag_result"  # the class that MyST-NB gives to such a cell


def setup(app: Sphinx) -> dict:
    app.add_post_transform(OpeningPicture)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class OpeningPicture(SphinxPostTransform):
    default_priority = 800  # after MyST-NB has chosen which form of an output is shown
    formats = ("html",)

    def run(self, **kwargs) -> None:
        cells = [cell for cell in self.document.findall(nodes.container) if TAG in cell["classes"]]
        for cell in cells:
            figure = next(cell.findall(nodes.figure))
            place = self.env.toc_fignumbers[self.env.docname]["figure"][figure["ids"][0]]
            number = "Fig. " + ".".join(map(str, place))
            first = next(self.document.findall(nodes.section)).next_node(nodes.paragraph)
            first.parent.insert(first.parent.index(first) + 1, opening(figure, number))


def opening(figure: nodes.figure, number: str) -> nodes.container:
    """The figure's image and its number, both leading to the figure."""
    image = next(figure.findall(nodes.image)).deepcopy()
    for side in ("width", "height"):  # the style sheet says how wide it is here
        image.attributes.pop(side, None)
    link = nodes.reference("", "", image, refid=figure["ids"][0], internal=True)
    words = nodes.inline("", f"Where this chapter leads: {number}.")
    text = nodes.paragraph("", "", nodes.reference("", "", words, refid=figure["ids"][0], internal=True))
    return nodes.container("", nodes.paragraph("", "", link), text, classes=["opening-picture"])
