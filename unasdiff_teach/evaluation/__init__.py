"""How good a separation is: scores, ceilings, resumable runs, tables (the paper's Tables 2-4) and rules of evidence."""

from ..metrics import Pesq, best_permutation, failure, pesq_score, si_sdr
from .claims import Claim, judge, judged
from .floor import floor_and_mask, one_spectrum
from .masks import oracle_mask
from .methods import Method, fingerprint, oracle, sampling, unprocessed
from .run import Run, Scoring, evaluate, noise_seed
from .statistics import (
    Coverage,
    Interval,
    coverage,
    evidence,
    holm,
    mean_interval,
    mixtures_needed,
    p_value,
    paired_difference,
    power,
    rate_interval,
    resolvable_difference,
    verdict,
)  # fmt: skip
from .tables import (
    as_text,
    beside_paper,
    by_class,
    by_heard,
    compare,
    differences,
    load_results,
    paper_table,
    per_mixture,
    summary,
)  # fmt: skip

__all__ = [
    "Claim", "Coverage", "Interval", "Method", "Pesq", "Run", "Scoring", "as_text", "beside_paper", "best_permutation",
    "by_class", "by_heard", "compare", "coverage", "differences", "evaluate", "evidence", "failure",
    "fingerprint", "floor_and_mask", "holm", "judge", "judged", "load_results", "mean_interval",
    "mixtures_needed", "noise_seed", "one_spectrum", "oracle", "oracle_mask", "p_value",
    "paired_difference", "paper_table", "per_mixture", "pesq_score", "power", "rate_interval", "resolvable_difference",
    "sampling", "si_sdr", "summary", "unprocessed", "verdict",
]  # fmt: skip
