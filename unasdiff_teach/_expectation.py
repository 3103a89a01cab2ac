"""What may be expected of a recording before it is separated: what was measured for its kind, and what no source can
hold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .priors.shipped import FAMILIES
from .task import PEAK

BLOCK = 2**16
# Mean SI-SDR in dB of `recommended`, by family of shipped priors and kinds of sources, on the test mixtures of the
# experiments "table-2" and "recorded-test". A test compares them with these tables.
MEASURED = {
    "pocket": {
        ("sound", "speech"): {"speech": 8.9, "sound": 8.9},
        ("sound", "sound", "speech"): {"speech": 4.1, "sound": 2.4},
        ("sound", "sound"): {"sound": 7.8},
        ("sound", "sound", "sound"): {"sound": 3.7},
        ("speech", "speech"): {"speech": 0.2},
    },
    "recorded": {
        ("sound", "speech"): {"speech": 5.4, "sound": 5.8},
        ("sound", "sound", "speech"): {"speech": 1.3, "sound": 0.8},
        ("sound", "sound"): {"sound": 4.7},
        ("sound", "sound", "sound"): {"sound": 0.6},
        ("speech", "speech"): {"speech": 0.2},
    },
}
# How much higher a class's mean SI-SDR is than that of the mixture itself, in dB, over the mixtures of all tasks of
# "recorded-test" that hold it.
CLASS_GAINS = {
    "Acoustic_guitar": 4.8, "Baby_cry": 3.7, "Bark": 6.5, "Bass_drum": 8.1, "Cello": 4.2, "Chainsaw": 2.7,
    "Clock_tick": 3.1, "Double_bass": 2.6, "Electric_piano": 8.4, "Fire_crackling": 4.3, "Flute": 8.3,
    "Helicopter": 3.9, "Hi-hat": 0.4, "Person_sneeze": 1.0, "Rain": 3.8, "Rooster": 4.5, "Saxophone": 2.1,
    "Sea_waves": 4.2, "Trumpet": 1.7, "Violin_or_fiddle": 7.0,
}  # fmt: skip
MIXTURES = {"pocket": "the book's test mixtures", "recorded": "test mixtures of real recordings"}
UNPROCESSED = {2: 0.0, 3: -3.1}  # of the mixture itself, by number of sources
FAR_DB = 40.0  # of gain to the level that the priors know
FEW = 20  # recordings of a class, fewer of which teach a prior little


def expected(preset: str, sources: list[tuple[str, object]]) -> list[str]:
    """What has been measured for mixtures of these kinds, in a line, where all priors are of one shipped family; and
    for their classes of recorded sounds, in another. Else nothing.

    Args:
        sources: (where its prior comes from, its label).
    """
    named = [where.partition("-") for where, _ in sources]
    families = {family for family, _, _ in named}
    if preset != "recommended" or not families <= set(MEASURED) or {kind for *_, kind in named} - {"speech", "sound"}:
        return []
    said = [measured([kind for *_, kind in named], families.pop() if len(families) == 1 else None)]
    gains = {
        label: CLASS_GAINS[label] for where, label in sources if where == "recorded-sound" and label in CLASS_GAINS
    }
    if gains:
        words = ", ".join(f"{label} {gain:.1f} dB" for label, gain in gains.items())
        mean = sum(CLASS_GAINS.values()) / len(CLASS_GAINS)
        said.append(f"expect: gain of a class over the mixture in all its test mixtures: {words} (mean {mean:.1f} dB)")
    return said


def measured(kinds: list[str], family: str | None) -> str:
    """What a family of shipped priors reaches on mixtures of these kinds, each "speech" or "sound", in a sentence.

    Args:
        family: of `MEASURED`; None for priors of both.
    """
    found = MEASURED[family].get(tuple(sorted(kinds))) if family else None
    if found is None:
        return (
            f"expect: no mixtures of these kinds have been measured{'' if family else ' with priors of both families'}"
        )
    words = " and ".join(f"{db:.1f} dB for {kind}" for kind, db in found.items())
    failed = max(found.values()) < UNPROCESSED[len(kinds)] + 1
    useless = "; they are not separated, as the book explains" if failed else ""
    return (
        f"expect: on {MIXTURES[family]} of these kinds a mean SI-SDR of {words} (the mixture itself: "
        f"{UNPROCESSED[len(kinds)]:.0f} dB), single ones several dB better or worse{useless}"
    )


def few_recordings(sources: list[tuple[str, object]]) -> list[str]:
    """A warning for each source of a class that its shipped prior has met in few recordings.

    Args:
        sources: (where its prior comes from, its label).
    """
    from .data.pocket_corpus import CORPORA, manifest_rows

    said = []
    for where, label in sources:
        corpus = next((corpus for corpus in CORPORA if where == f"{FAMILIES[corpus]}-sound"), None)
        if corpus and label:
            count = sum(
                row["label"] == label and row["split"] == "train"
                for row in manifest_rows(CORPORA[corpus] / "manifest.csv")
            )
            if count < FEW:
                said.append(f"the prior knows {label} from {count} recordings alone; expect less of it than of others")
    return said


def far_from_full_scale(audio: Tensor) -> list[str]:
    """A warning for a recording [C, N] that is raised or lowered by more than `FAR_DB`, an offset left out."""
    mean, (low, high) = audio.mean(-1), audio.aminmax(dim=-1)
    peak = 20 * math.log10(float(torch.maximum(high - mean, mean - low).max()))
    gain = 20 * math.log10(PEAK) - peak
    if gain > FAR_DB:
        return [
            f"the peak lies {-peak:.0f} dB below full scale: what the file has rounded off is raised by {gain:.0f} dB"
        ]
    if gain < -FAR_DB:
        return [f"the peak lies {peak:.0f} dB above full scale: were integers stored that nobody has divided?"]
    return []


def power_above(audio: Tensor, rate: int, limit: float) -> float:
    """Fraction of the power of [C, N] that lies above `limit` Hz, an offset left out. Works block by block."""
    total = above = 0.0
    for block in audio.split(BLOCK, -1):
        power = torch.fft.rfft(block * torch.hann_window(block.shape[-1])).abs().square().double().sum(0)
        frequency = torch.arange(len(power)) * rate / block.shape[-1]
        power = power * (frequency > 2 * rate / block.shape[-1])  # an offset and its leakage
        total += float(power.sum())
        above += float(power[frequency > limit].sum())
    return above / total if total else 0.0
