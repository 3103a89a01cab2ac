"""DiffWave as a noise predictor on the waveform: the large backbone of Table 3, conditioned on beta_t."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class DiffWaveConfig:
    """Everything that fixes a DiffWave. The defaults are UnDiff's network (Iashchenko et al. 2023 on Kong et al. 2020).

    Attributes:
        layers, channels: residual layers and their width.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle).
        kernel: taps of the dilated convolutions, odd.
        embedding: width of the noise embedding.
        features: random frequencies of log10(beta_t), each with a cosine and a sine.
        reduction: the squeeze-excitation of the skip path goes through channels / reduction values.
        patch: successive samples folded into channels before the first layer; 1 is the published network.
    """

    layers: int = 48
    channels: int = 256
    dilation_cycle: int = 12
    kernel: int = 3
    embedding: int = 512
    features: int = 64
    reduction: int = 16
    patch: int = 1

    @classmethod
    def large(cls) -> DiffWaveConfig:
        """The network of Table 3: 32,307,201 parameters, for 16 kHz."""
        return cls()

    @classmethod
    def pocket(cls) -> DiffWaveConfig:
        """About 2 M parameters for 8 kHz.

        Each weight of a convolution works at every sample, which two CPU cores cannot pay for: patches of 16 samples make it
        affordable, and a cycle of 7 dilations then spans half a second, as the large network's 12 do at 16 kHz.
        """
        return cls(layers=21, channels=96, dilation_cycle=7, embedding=128, patch=16)

    def replace(self, **changes) -> DiffWaveConfig:
        return replace(self, **changes)

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd, so that every layer keeps the length")
        if self.channels < self.reduction:
            raise ValueError(f"channels = {self.channels} must be at least reduction = {self.reduction}")


class DiffWave(nn.Module):
    """eps = net(x [B, N], beta [B]): the noise in x, predicted from the waveform itself, for any N. It knows no classes."""

    def __init__(self, config: DiffWaveConfig = DiffWaveConfig()):
        super().__init__()
        self.config = c = config
        self.enter = nn.Conv1d(c.patch, c.channels, 1)
        self.embed = NoiseEmbedding(c)
        self.layers = nn.ModuleList(ResidualLayer(c, 2 ** (i % c.dilation_cycle)) for i in range(c.layers))
        self.merge = nn.Conv1d(c.channels, c.channels, 1)
        self.leave = nn.Conv1d(c.channels, c.patch, 1)
        self._initialise()

    def forward(self, x: Tensor, beta: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict the noise of x.

        Args:
            x: [B, N] waveforms.
            beta: [B], the schedule's beta_t, in (0, 1).
            label: not used; a prior hands it to every network.
        """
        patch, N = self.config.patch, x.shape[-1]
        h = F.pad(x, (0, -N % patch)).unflatten(-1, (-1, patch)).mT  # [B, patch, N / patch]
        h = F.relu(self.enter(h))  #                                   [B, C, N / patch]
        embedding, skips = self.embed(beta), 0
        for layer in self.layers:
            h, skip = layer(h, embedding)
            skips = skips + skip
        h = F.relu(self.merge(skips / math.sqrt(len(self.layers))))
        return self.leave(h).mT.flatten(1)[:, :N]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.leave.weight)  # it starts by predicting no noise at all

    @classmethod
    def from_undiff_state_dict(cls, state_dict: dict[str, Tensor], dilation_cycle: int = 12) -> DiffWave:
        """Build the network that a state dict of UnDiff's code describes, and load it.

        Layers and widths are read off the shapes; no shape tells the cycle of dilations.

        Raises:
            ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
        """
        from .foreign import diffwave_from_undiff

        return diffwave_from_undiff(state_dict, dilation_cycle)


class NoiseEmbedding(nn.Module):
    """Random Fourier features of log10(beta) through a two-layer perceptron, [B] -> [B, embedding]."""

    def __init__(self, config: DiffWaveConfig):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(1, config.features))
        self.enter = nn.Linear(2 * config.features, config.embedding)
        self.leave = nn.Linear(config.embedding, config.embedding)

    def forward(self, beta: Tensor) -> Tensor:
        angle = 2 * math.pi * torch.log10(beta.to(self.frequencies.dtype))[:, None] * self.frequencies
        return F.silu(self.leave(F.silu(self.enter(torch.cat([angle.cos(), angle.sin()], -1)))))


class ResidualLayer(nn.Module):
    """One gated dilated convolution, [B, C, L] -> the next state and this layer's share of the output, both [B, C, L]."""

    def __init__(self, config: DiffWaveConfig, dilation: int):
        super().__init__()
        C, narrow = config.channels, config.channels // config.reduction
        self.embed = nn.Linear(config.embedding, C)
        self.dilated = nn.Conv1d(C, 2 * C, config.kernel, padding=dilation * (config.kernel // 2), dilation=dilation)
        self.out = nn.Conv1d(C, 2 * C, 1)
        self.squeeze = nn.Linear(C, narrow, bias=False)
        self.excite = nn.Linear(narrow, C, bias=False)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = self.dilated(x + self.embed(embedding)[..., None]).chunk(2, 1)
        residual, skip = self.out(gate.sigmoid() * value.tanh()).chunk(2, 1)
        weight = self.excite(F.relu(self.squeeze(skip.mean(-1)))).sigmoid()  # [B, C]: squeeze-excitation
        return (x + residual) / math.sqrt(2), skip * weight[..., None]
