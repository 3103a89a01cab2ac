"""What a training shows in TensorBoard, a package that is imported only here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

RANGE_DB = 80  # of the spectrograms, below the loudest point of each


class Board:
    """Event files in a folder; `tensorboard --logdir FOLDER` shows them.

    Raises:
        ImportError: the package `tensorboard` is missing.
    """

    def __init__(self, folder: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "a board needs the package tensorboard: pip install tensorboard, or train without one"
            ) from error
        self.folder, self._make = folder, SummaryWriter

    def open(self, step: int) -> None:
        """Begin to write, where the training goes on; what an earlier call wrote for later steps is hidden."""
        self.writer = self._make(str(self.folder), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def signals(self, step: int, signals: Tensor, sample_rate: int) -> None:
        """Generated audio [M, N] and a spectrogram of each."""
        for i, signal in enumerate(signals):
            self.writer.add_audio(f"generated/{i}", signal[None].clamp(-1, 1), step, sample_rate)
            self.writer.add_image(f"generated/{i}", spectrogram(signal), step)
        self.writer.flush()


def spectrogram(signal: Tensor) -> Tensor:
    """Magnitudes of a signal [N] as a grey image [1, F, T] in 0..1, low frequencies at the bottom, `RANGE_DB` from
    black to white.
    """
    z = torch.stft(signal, 512, 128, window=torch.hann_window(512), pad_mode="constant", return_complex=True)
    level = 20 * z.abs().clamp(min=1e-8).log10()
    return ((level - level.max()) / RANGE_DB + 1).clamp(min=0).flip(0)[None]
