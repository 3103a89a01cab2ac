"""How good a separation is: scores, ceilings, intervals, resumable runs and tables (the paper's Tables 2-4)."""

from .masks import oracle_mask
from .methods import Method, fingerprint, oracle, sampling, unprocessed
from .metrics import Pesq, best_permutation, failure, pesq_score, si_sdr
from .run import Run, Scoring, evaluate, noise_seed
from .statistics import Interval, bootstrap_mean, paired_difference
from .tables import as_text, beside_paper, by_class, by_heard, compare, load_results, paper_table, per_mixture, summary

__all__ = [
    "Interval", "Method", "Pesq", "Run", "Scoring", "as_text", "beside_paper", "best_permutation", "bootstrap_mean",
    "by_class", "by_heard", "compare", "evaluate", "failure", "fingerprint", "load_results", "noise_seed", "oracle", "oracle_mask",
    "paired_difference", "paper_table", "per_mixture", "pesq_score", "sampling", "si_sdr", "summary", "unprocessed",
]  # fmt: skip
