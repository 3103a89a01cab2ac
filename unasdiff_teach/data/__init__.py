"""Audio in and out, the pocket corpus, and mixtures."""

from .audio import read, write
from .mixing import MixtureRules, mixtures, real_mixtures, synthesise
from .pocket_corpus import CORPORA, SAMPLE_RATE, pocket, pocket_hash

POCKET_RATE = SAMPLE_RATE

__all__ = [
    "CORPORA",
    "POCKET_RATE",
    "SAMPLE_RATE",
    "MixtureRules",
    "mixtures",
    "pocket",
    "pocket_hash",
    "read",
    "real_mixtures",
    "synthesise",
    "write",
]
