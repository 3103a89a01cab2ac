"""The rows without which a table of results cannot be read: the least that a source model knows, and what masks that
know the sources reach. None needs a network.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.mixing import SPEECH_SOUND, mixtures
from ..data.pocket_corpus import pocket, pocket_hash
from .lists import middle
from .masks import spectrum, waveform
from .methods import Method, oracle
from .run import COLUMNS, Scoring, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from ..data.mixing import Mixture

CLIPS = 10
BESIDE = ("one spectrum", "oracle phase-sensitive")


def one_spectrum(mixture: Mixture, corpus: str = "rendered") -> Tensor:
    """Separate by the average power spectra of the kinds of source, one curve P_k(f) each: the fixed Wiener filter
    P_k / sum P_j.

    Args:
        mixture: at the corpus's sample rate, of speech and of classes that the corpus has.
        corpus: "rendered" or "recorded"; the spectra are those of ten of its training clips, all at one level.

    Returns:
        [K, N]; two sources of one kind or class get the same share.

    Raises:
        ValueError: the corpus has no such class, or another sample rate.
    """
    rate, known = pocket("speech", "train", corpus)[0].sample_rate, _spectra(corpus)
    names = [label or "speech" for label in mixture.labels]
    if mixture.sample_rate != rate:
        raise ValueError(f"mixture {mixture.id!r} is at {mixture.sample_rate} Hz; the corpus {corpus!r} has {rate} Hz")
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"the corpus {corpus!r} has no {', '.join(map(repr, unknown))}")
    power = torch.stack([known[name] for name in names])
    return waveform(power / power.sum(0) * spectrum(mixture.mixture), len(mixture.mixture))


@cache
def _spectra(corpus: str) -> dict[str, Tensor]:
    """For speech and each class of sound its average power spectrum, [bins, 1]."""
    speech, sounds = pocket("speech", "train", corpus), pocket("sound", "train", corpus)
    # Of many voices: a voice's clips are neighbours.
    clips = {"speech": speech[:: max(1, len(speech) // CLIPS)][:CLIPS]}
    clips |= {label: [clip for clip in sounds if clip.label == label][:CLIPS] for label in sounds.labels}
    found = {}
    for name, of_kind in clips.items():
        levelled = [clip.audio / clip.audio.square().mean().sqrt() for clip in of_kind]
        power = torch.cat([spectrum(audio).abs().square() for audio in levelled], -1)
        found[name] = power.mean(-1, keepdim=True)
    return found


def floor_and_mask(
    task: str = SPEECH_SOUND, count: int | None = None, split: str = "test", corpus: str = "rendered",
    seconds: float | None = None, seeds: Sequence[int] = (0,),
) -> pd.DataFrame:  # fmt: skip
    """Rows of `BESIDE` for a task's fixed list, to stand beside stored results: "one spectrum", the floor, and
    "oracle phase-sensitive", the mask that reaches most.

    Args:
        task, split, count, corpus: see `data.mixtures`.
        seconds: cut the mixtures to this length around their middle, as for Table 3; tasks are then called
            "2 speech, 1 s".
        seeds: of the results that the rows shall stand beside, as `experiments.SEEDS` for Table 4. Neither filter nor
            mask draws anything: the rows are scored once and the same for every seed.

    Returns:
        Columns as in `run.COLUMNS`, scored as by default; a row for each source of each mixture, method and seed.

    Raises:
        ValueError: as `data.mixtures`; the mixtures do not last so long; or no seeds.
    """
    import pandas as pd

    if not seeds:
        raise ValueError("seeds must name at least one, got none")
    filters = Method(
        "one spectrum",
        lambda group, seeds: (torch.stack([one_spectrum(mixture, corpus) for mixture in group]), 0),
        settings=f"{CLIPS} clips of each kind, corpus {pocket_hash(corpus)[:8]}",
    )
    chosen = mixtures(task, split, count, corpus)
    if seconds is not None:
        chosen = [middle(mixture, seconds) for mixture in chosen]
    items = [item for method in (filters, oracle("phase-sensitive")) for item in score(method, chosen, 0, Scoring())]
    rows = pd.DataFrame([row for item in items for row in item], columns=list(COLUMNS)).astype(COLUMNS)
    return pd.concat([rows.assign(seed=seed) for seed in seeds], ignore_index=True).astype(COLUMNS)
