"""What may be expected of a recording before it is separated: what was measured for its kind, and what no source can hold."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**16
# Mean SI-SDR in dB of `recommended` with the shipped priors on the pocket benchmark's test mixtures; a test compares them with its table.
MEASURED = {
    ("sound", "speech"): {"speech": 8.5, "sound": 8.1},
    ("sound", "sound", "speech"): {"speech": 3.9, "sound": 2.3},
    ("sound", "sound"): {"sound": 8.1},
    ("sound", "sound", "sound"): {"sound": 2.5},
    ("speech", "speech"): {"speech": -0.1},
}
SHIPPED = ("pocket-speech", "pocket-sound")
UNPROCESSED = {2: 0.0, 3: -3.1}  # of the mixture itself, by number of sources


def expected(preset: str, priors: list[str]) -> list[str]:
    """What has been measured for mixtures of these kinds, in a line, where all priors are shipped ones; else nothing."""
    if preset != "recommended" or set(priors) - set(SHIPPED):
        return []
    return [measured([name.removeprefix("pocket-") for name in priors])]


def measured(kinds: list[str]) -> str:
    """What the shipped priors reach on mixtures of these kinds, each "speech" or "sound", in a sentence."""
    found = MEASURED.get(tuple(sorted(kinds)))
    if found is None:
        return "expect: no mixtures of these kinds have been measured"
    words = " and ".join(f"{db:.1f} dB for {kind}" for kind, db in found.items())
    failed = max(found.values()) < UNPROCESSED[len(kinds)] + 1
    useless = "; they are not separated, as the book explains" if failed else ""
    return (
        f"expect: on the book's test mixtures of these kinds a mean SI-SDR of {words} (the mixture itself: "
        f"{UNPROCESSED[len(kinds)]:.0f} dB), single ones several dB better or worse{useless}"
    )


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
