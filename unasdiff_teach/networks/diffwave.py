"""DiffWave: a stack of gated dilated convolutions over the waveform itself, the backbone that Table 3 compares with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .foreign import load_renamed, undiff_name, undiff_sizes


@dataclass(frozen=True)
class DiffWaveConfig:
    """Everything that fixes a DiffWave (Kong et al. 2021). The defaults are the "Large DiffWave" of Table 3.

    Attributes:
        layers: residual layers.
        channels: width C of the residual stream.
        dilation_cycle: layer i has the dilation 2^(i mod dilation_cycle).
        kernel: taps of the dilated convolutions; odd, so that the length stays.
        embedding: width of the embedding of the noise level.
        features: random frequencies in it; each gives a cosine and a sine.
        reduction: the squeeze-excitation on the skip path narrows C to C / reduction.
        patch: samples folded into channels at the input and back at the output; 1 is the original. P divides the cost
            by P.
        classes: number of labels; one more row of the table is the unconditional class. 0, as for the large network:
            none.
    """

    layers: int = 48
    channels: int = 256
    dilation_cycle: int = 12
    kernel: int = 3
    embedding: int = 512
    features: int = 64
    reduction: int = 16
    patch: int = 1
    classes: int = 0

    @classmethod
    def large(cls) -> DiffWaveConfig:
        """UnDiff's variant (Iashchenko et al. 2023): 32,307,201 parameters, the "33 M" of Table 3."""
        return cls()

    @classmethod
    def pocket(cls, classes: int = 0) -> DiffWaveConfig:
        """About 2 M parameters for 8 kHz: patches of 32 samples (4 ms) make it affordable on one CPU core.

        Two cycles of seven dilations let each sample see 1 s on either side.
        """
        return cls(layers=14, channels=128, dilation_cycle=7, embedding=128, features=32, patch=32, classes=classes)

    def replace(self, **changes) -> DiffWaveConfig:
        return replace(self, **changes)

    def __post_init__(self):
        for name in ("layers", "channels", "dilation_cycle", "kernel", "embedding", "features", "reduction", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.classes < 0:
            raise ValueError(f"classes is {self.classes}; it must be at least 0")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        if self.channels % self.reduction:
            raise ValueError(f"channels = {self.channels} must be a multiple of reduction = {self.reduction}")


class DiffWave(nn.Module):
    """eps = net(x [B, N], beta [B], label [B] or None): the noise in x. Any N; `beta` is beta_t, in (0, 1)."""

    def __init__(self, config: DiffWaveConfig = DiffWaveConfig()):
        super().__init__()
        self.config = c = config
        self.enter = nn.Conv1d(c.patch, c.channels, 1)
        self.embed = NoiseLevel(c.features, c.embedding)
        self.embed_label = nn.Embedding(c.classes + 1, c.embedding) if c.classes else None
        self.layers = nn.ModuleList(ResidualLayer(c, 2 ** (i % c.dilation_cycle)) for i in range(c.layers))
        self.merge = nn.Conv1d(c.channels, c.channels, 1)
        self.leave = nn.Conv1d(c.channels, c.patch, 1)
        self._initialise()

    def forward(self, x: Tensor, beta: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict the noise of x.

        Args:
            x: [B, N] waveforms.
            beta: [B], beta_t of the chain.
            label: [B] integers 0..classes, or None for the unconditional class; without classes it has no effect.
        """
        B, N = x.shape
        P = self.config.patch
        h = F.pad(x, (0, -N % P)).unflatten(1, (-1, P)).transpose(1, 2)  # [B, P, N/P]
        h = F.relu(self.enter(h))  #                                       [B, C, N/P]
        level = self.embed(beta)
        if self.embed_label is not None:
            level = level + self.embed_label(
                torch.full((B,), self.config.classes, device=x.device) if label is None else label
            )
        skips = 0
        for layer in self.layers:
            h, skip = layer(h, level)
            skips = skips + skip
        h = F.relu(self.merge(skips / math.sqrt(len(self.layers))))
        return self.leave(h).transpose(1, 2).flatten(1)[:, :N]

    def _initialise(self) -> None:
        """Variances that stay from layer to layer (He et al. 2015), and zero for the last: training starts from a
        prediction of 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.leave.weight)

    @classmethod
    def from_undiff_state_dict(cls, state_dict: dict[str, Tensor], dilation_cycle: int = 12) -> DiffWave:
        """Build the network that a state dict of UnDiff's DiffWave describes, and load it.

        Args:
            state_dict: the sizes are read off its shapes.
            dilation_cycle: see `DiffWaveConfig`; no shape tells it.

        Raises:
            ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
        """
        net = cls(DiffWaveConfig(dilation_cycle=dilation_cycle, **undiff_sizes(state_dict)))
        load_renamed(net, state_dict, undiff_name)
        return net


class NoiseLevel(nn.Module):
    """Embedding of log10(beta) by random Fourier features (Tancik et al. 2020) and two layers. [B] -> [B, width]."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(1, features))  # drawn once, and stored with the weights
        self.enter = nn.Linear(2 * features, width)
        self.leave = nn.Linear(width, width)

    def forward(self, beta: Tensor) -> Tensor:
        angle = 2 * math.pi * beta.log10()[:, None] * self.frequencies
        return F.silu(self.leave(F.silu(self.enter(torch.cat([angle.cos(), angle.sin()], -1)))))


class ResidualLayer(nn.Module):
    """One gated dilated convolution: h [B, C, T], level [B, embedding] -> next h and the skip output, both [B, C,
    T].
    """

    def __init__(self, config: DiffWaveConfig, dilation: int):
        super().__init__()
        C = config.channels
        self.embed = nn.Linear(config.embedding, C)
        self.dilated = nn.Conv1d(C, 2 * C, config.kernel, dilation=dilation, padding=config.kernel // 2 * dilation)
        self.out = nn.Conv1d(C, 2 * C, 1)
        self.squeeze = nn.Linear(C, C // config.reduction, bias=False)
        self.excite = nn.Linear(C // config.reduction, C, bias=False)

    def forward(self, h: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = self.dilated(h + self.embed(level)[..., None]).chunk(2, 1)
        residual, skip = self.out(gate.sigmoid() * value.tanh()).chunk(2, 1)
        excitation = self.excite(F.relu(self.squeeze(skip.mean(-1)))).sigmoid()
        return (h + residual) / math.sqrt(2), skip * excitation[..., None]
