"""Chapters 12 (training) and 13 (evaluation), run by papermill into a folder at one of three scales:
`unasdiff-teach reproduce`.

papermill runs a notebook from its first cell and cannot go on in the middle. So what the notebooks train and evaluate
lies in folders that resume, and a notebook that has finished is not run again.
"""

from .costs import Plan, Rates, cost, plans, rates
from .notebooks import NOTEBOOKS, book_folder, known_parameters
from .plan import SCALES, parse, prepare
from .run import Reproduction, environment

__all__ = [
    "NOTEBOOKS", "SCALES", "Plan", "Rates", "Reproduction", "book_folder", "cost", "environment", "known_parameters",
    "parse", "plans", "prepare", "rates",
]  # fmt: skip
