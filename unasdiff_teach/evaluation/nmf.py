"""Non-negative matrix factorisation, the classical source model: a dictionary of spectra for each kind of sound
(scikit-learn).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import data
from ..data.pocket_corpus import SAMPLE_RATE
from .masks import SILENT_BIN, spectrum, waveform
from .methods import Method

if TYPE_CHECKING:
    import numpy as np

    from ..data.mixing import Mixture

ITERATIONS = 200
EPS = 1e-8  # added to magnitudes: the divergence of Kullback and Leibler asks for positive ones


class Dictionaries:
    """Spectra learned from clean recordings, by name: "speech", or the class of a sound.

    Args:
        recordings: for each name, signals [length] to learn from.
        components: spectra of one dictionary.
        sample_rate: of the recordings, in Hz; the spectra mean nothing at another one.
    """

    def __init__(
        self, recordings: Mapping[str, list[Tensor]], components: Mapping[str, int], sample_rate: int = SAMPLE_RATE
    ):
        from sklearn.decomposition import NMF

        self.sample_rate = sample_rate
        self.spectra: dict[str, np.ndarray] = {}
        for name, signals in recordings.items():
            frames = torch.cat([spectrum(signal).abs() for signal in signals], 1).T.numpy() + EPS
            model = NMF(
                components[name],
                init="random",
                solver="mu",
                beta_loss="kullback-leibler",
                max_iter=ITERATIONS,
                tol=0,
                random_state=0,
            )
            model.fit(frames)
            self.spectra[name] = model.components_

    def separate(self, mixture: Tensor, names: list[str]) -> Tensor:
        """Explain the mixture [N] by the dictionaries of its sources; each then gets its share of every bin, [K, N].

        Raises:
            ValueError: two sources share a dictionary, so that nothing tells them apart; or one has none.
        """
        import numpy as np
        from sklearn.decomposition import non_negative_factorization

        if len(set(names)) < len(names):
            raise ValueError(f"sources are {', '.join(names)}; one dictionary cannot tell two sources apart")
        if unknown := [name for name in names if name not in self.spectra]:
            raise ValueError(f"there is no dictionary of {unknown[0]!r}; there are {', '.join(self.spectra)}")
        whole = spectrum(mixture)
        stacked = np.concatenate([self.spectra[name] for name in names])
        weights, _, _ = non_negative_factorization(
            whole.abs().T.numpy() + EPS, H=stacked, n_components=len(stacked), update_H=False, solver="mu",
            beta_loss="kullback-leibler", max_iter=ITERATIONS, tol=0,
        )  # fmt: skip
        ends = np.cumsum([len(self.spectra[name]) for name in names])
        parts = [
            torch.from_numpy((weights[:, b - len(self.spectra[n]) : b] @ self.spectra[n]).T)
            for n, b in zip(names, ends, strict=True)
        ]
        power = torch.stack(parts).float().square() + SILENT_BIN
        return waveform(power / power.sum(0) * whole, mixture.shape[-1])


def check_fit(mixture: Mixture, corpus: str = "rendered") -> None:
    """Raises ValueError if dictionaries learned from a corpus of the package cannot separate a mixture."""
    if mixture.sample_rate != SAMPLE_RATE:
        raise ValueError(
            f"the dictionaries of 'nmf' are learned at {SAMPLE_RATE} Hz; {mixture.id!r} is at {mixture.sample_rate} Hz"
        )
    classes = data.pocket("sound", "train", corpus=corpus).labels
    if unknown := [label for label in mixture.labels if label is not None and label not in classes]:
        raise ValueError(f"{mixture.id!r} holds {unknown[0]!r}; 'nmf' has dictionaries of {', '.join(classes)}")


def nmf(learn: Callable[[], Dictionaries], settings: str = "") -> Method:
    """NMF as a method named "nmf". It cannot take a mixture of two speakers: they would share one dictionary.

    Args:
        learn: gives the dictionaries; called when the first mixture comes.
        settings: see `Method`.
    """
    learned = cache(learn)

    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        names = [[label or kind for kind, label in zip(m.kinds, m.labels, strict=True)] for m in mixtures]
        dictionaries = learned()
        if (rate := mixtures[0].sample_rate) != dictionaries.sample_rate:
            raise ValueError(
                f"{mixtures[0].id!r} is at {rate} Hz; the dictionaries are at {dictionaries.sample_rate} Hz"
            )
        return torch.stack([dictionaries.separate(m.mixture, n) for m, n in zip(mixtures, names, strict=True)]), 0

    return Method("nmf", run, settings=settings)
