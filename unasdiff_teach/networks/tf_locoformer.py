"""TF-LoCoformer (Saijo et al. 2024), a supervised separator of Table 2: complex spectrum in, K complex spectra out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import fused_attention, turn_pairs
from .foreign import describe, espnet_sizes, load_espnet, read_espnet_checkpoint
from .layers import fold_patches, unfold_patches


@dataclass(frozen=True)
class TFLoCoformerConfig:
    """Everything that fixes a TF-LoCoformer. The defaults are its medium size; the paper does not say which size it
    took.

    Attributes:
        sources: K, the number of spectra that come out.
        blocks, channels: depth and width D.
        hidden: width inside the convolutional feed-forward layers.
        kernel: their taps.
        heads, attention: heads and total width of the attention.
        groups: channel groups of the norms.
        n_fft, hop: Hann window and hop of the STFT, in samples. Published recipes: 256 and 128 at 16 kHz, 128 and 64
            at 8 kHz.
        patch: (frames, bins) folded into channels before the first block; (1, 1) is the published network.
    """

    sources: int = 2
    blocks: int = 6
    channels: int = 128
    hidden: int = 384
    kernel: int = 4
    heads: int = 4
    attention: int = 128
    groups: int = 4
    n_fft: int = 256
    hop: int = 128
    patch: tuple[int, int] = (1, 1)

    @classmethod
    def medium(cls, sources: int = 2) -> TFLoCoformerConfig:
        """14,975,652 numbers for two sources, with the two rotary tables."""
        return cls(sources=sources)

    @classmethod
    def small(cls, sources: int = 2) -> TFLoCoformerConfig:
        """5,026,940 numbers for two sources, with the two rotary tables."""
        return cls(sources=sources, blocks=4, channels=96, attention=96, hidden=128, kernel=8)

    @classmethod
    def pocket(cls, sources: int = 2) -> TFLoCoformerConfig:
        """About 0.7 M parameters for 8 kHz; patches of 2 frames by 4 bins let it learn in a quarter of an hour on one
        CPU core.
        """
        return cls(sources=sources, blocks=2, channels=64, attention=64, hidden=96, n_fft=254, hop=127, patch=(2, 4))

    def replace(self, **changes) -> TFLoCoformerConfig:
        return replace(self, **changes)

    def __post_init__(self):
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.channels % self.groups:
            raise ValueError(f"channels = {self.channels} must be a multiple of groups = {self.groups}")
        if self.attention % (2 * self.heads):
            raise ValueError(f"attention = {self.attention} must be a multiple of 2 x heads = {2 * self.heads}")
        if not 0 < self.hop <= self.n_fft // 2:
            raise ValueError(f"hop is {self.hop}; accepted are 1..{self.n_fft // 2}, half of n_fft")


class TFLoCoformer(nn.Module):
    """sources [B, K, N] = net(mixture [B, N]), for N above n_fft / 2.

    Attributes:
        card: what a loaded checkpoint is; empty for a new network.
    """

    def __init__(self, config: TFLoCoformerConfig = TFLoCoformerConfig()):
        super().__init__()
        self.config = c = config
        self.card: dict = {}
        bins = c.patch[0] * c.patch[1]
        self.stem = nn.Conv2d(2 * bins, c.channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, c.channels, eps=1e-5)
        self.rotary_frequency, self.rotary_frame = (
            nn.Parameter(_rotary_rates(c), requires_grad=False) for _ in range(2)
        )
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.blocks))
        self.head = nn.ConvTranspose2d(c.channels, 2 * c.sources * bins, 3, padding=1)
        if 2 * bins <= c.channels:
            self._start_at_mixture(2 * bins)

    @torch.no_grad()
    def _start_at_mixture(self, width: int) -> None:
        """Carry the mixture through the first `width` channels to every output, so that training does not start from
        noise.
        """
        mixture = torch.eye(width)
        self.stem.weight[:width] = 0
        self.stem.weight[:width, :, 1, 1] = mixture
        self.head.weight *= 0.1  # what is left tells the outputs apart
        self.head.weight[:width, :, 1, 1] += mixture.repeat(1, self.config.sources)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate waveforms, [B, N] -> [B, K, N].

        The mixture goes in with unit variance, as in the published recipes, and the sources come out at its own level.
        """
        c, N = self.config, mixture.shape[-1]
        if N <= c.n_fft // 2:
            raise ValueError(f"a mixture of {N} samples is too short: the STFT needs more than {c.n_fft // 2}")
        level = mixture.std(-1, keepdim=True).clamp_min(1e-8)
        window = torch.hann_window(c.n_fft, dtype=mixture.dtype, device=mixture.device)
        padded = F.pad(mixture / level, (0, -N % c.hop))  # every sample lies under two windows
        X = torch.stft(padded, c.n_fft, c.hop, window=window, return_complex=True)
        S = self.separate_spectrum(X.mT).mT.flatten(0, 1)
        sources = torch.istft(S, c.n_fft, c.hop, window=window, length=padded.shape[-1])
        return sources.unflatten(0, (-1, c.sources))[..., :N] * level[..., None]

    def separate_spectrum(self, X: Tensor) -> Tensor:
        """Separate complex spectra, [B, frames, bins] -> [B, K, frames, bins]."""
        h = self.norm(self.stem(self._fold(torch.view_as_real(X).permute(0, 3, 1, 2))))
        h = h.permute(0, 2, 3, 1)  #                                      [B, T, F, D]
        turns = [_turn(self.rotary_frequency, h.shape[2]), _turn(self.rotary_frame, h.shape[1])]
        for block in self.blocks:
            h = block(h, *turns)
        h = unfold_patches(self.head(h.permute(0, 3, 1, 2)), self.config.patch)  # [B, 2 K, >= frames, >= bins]
        h = h[..., : X.shape[1], : X.shape[2]].unflatten(1, (-1, 2))  #   [B, K, real and imaginary, frames, bins]
        return torch.view_as_complex(h.permute(0, 1, 3, 4, 2).contiguous())

    def _fold(self, h: Tensor) -> Tensor:
        """Patches into channels, [B, C, frames, bins] -> [B, C pt pf, T, F]; zeros fill the last patch."""
        pt, pf = self.config.patch
        return fold_patches(F.pad(h, (0, -h.shape[3] % pf, 0, -h.shape[2] % pt)), self.config.patch)

    @classmethod
    def from_espnet_state_dict(
        cls, state_dict: dict[str, Tensor], heads: int = 4, groups: int = 4, n_fft: int = 256, hop: int = 128
    ) -> TFLoCoformer:
        """Build the network that a state dict of the published ESPnet code describes, and load it.

        Sizes are read off the shapes; what no shape tells is given by the arguments.

        Raises:
            ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
        """
        given = {"heads": heads, "groups": groups, "n_fft": n_fft, "hop": hop}
        net = cls(TFLoCoformerConfig(**given, **espnet_sizes(state_dict)))
        load_espnet(net, state_dict)
        return net

    @classmethod
    def from_espnet_checkpoint(cls, path: str | Path) -> TFLoCoformer:
        """Load a published ESPnet checkpoint; runs none of its code.

        Heads, groups and STFT stand in the `config.yaml` that ESPnet keeps beside it; without that file they are
        `from_espnet_state_dict`'s defaults, and `card` says so.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such a file, or its weights do not fit; the message names the difference.
        """
        path = Path(path)
        state, stated, rate = read_espnet_checkpoint(path)
        net = cls.from_espnet_state_dict(state, **stated).eval().requires_grad_(False)
        net.card = describe(path, net) | {
            "network": "TF-LoCoformer (Saijo et al. 2024), an ESPnet checkpoint",
            "sources": net.config.sources,
            "sample_rate": rate,
            "read from config.yaml": stated,
        }
        return net


class Block(nn.Module):
    """Along frequency in each frame, then along time in each bin, [B, T, F, D] -> same."""

    def __init__(self, config: TFLoCoformerConfig):
        super().__init__()
        self.frequency, self.frame = AxialPath(config), AxialPath(config)

    def forward(self, h: Tensor, turn_frequency: Tensor, turn_frame: Tensor) -> Tensor:
        h = self.frequency(h.flatten(0, 1), turn_frequency).view_as(h)
        h = h.transpose(1, 2)  #                                          [B, F, T, D]
        return self.frame(h.flatten(0, 1), turn_frame).view_as(h).transpose(1, 2)


class AxialPath(nn.Module):
    """Feed-forward, attention, feed-forward along sequences [M, R, D] -> same; full residuals, no factor of one
    half.
    """

    def __init__(self, config: TFLoCoformerConfig):
        super().__init__()
        self.norm_before, self.before = Norm(config), FeedForward(config)
        self.norm_attention, self.attention = Norm(config), Attention(config)
        self.norm_after, self.after = Norm(config), FeedForward(config)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        x = x + self.before(self.norm_before(x))
        x = x + self.attention(self.norm_attention(x), turn)
        return x + self.after(self.norm_after(x))


class Norm(nn.Module):
    """Divide each group of channels by its root mean square at each position, [..., D] -> same."""

    def __init__(self, config: TFLoCoformerConfig):
        super().__init__()
        self.groups = config.groups
        self.gamma = nn.Parameter(torch.ones(config.channels))

    def forward(self, x: Tensor) -> Tensor:
        v = x.unflatten(-1, (self.groups, -1))
        rms = torch.linalg.vector_norm(v, dim=-1, keepdim=True) / math.sqrt(v.shape[-1])
        return (v / (rms + 1e-5)).flatten(-2) * self.gamma


class FeedForward(nn.Module):
    """SwiGLU between a convolution and a transposed one, which model what is near; [M, R, D] -> same."""

    def __init__(self, config: TFLoCoformerConfig):
        super().__init__()
        reach = config.kernel - 1  # zeros at both ends going in, as many positions cut off both ends coming out
        self.enter = nn.Conv1d(config.channels, 2 * config.hidden, config.kernel, padding=reach)
        self.leave = nn.ConvTranspose1d(config.hidden, config.channels, config.kernel, padding=reach)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x.mT).chunk(2, 1)
        return self.leave(value * F.silu(gate)).mT


class Attention(nn.Module):
    """Self-attention [M, R, D] -> same, with rotary positions."""

    def __init__(self, config: TFLoCoformerConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.channels, 3 * config.attention, bias=False)
        self.out = nn.Linear(config.attention, config.channels, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [M, heads, R, d]
        return self.out(fused_attention(turn_pairs(q, turn), turn_pairs(k, turn), v).transpose(1, 2).flatten(2))


def _rotary_rates(config: TFLoCoformerConfig) -> Tensor:
    """Radians for each position, 10000^(-2i/d), of the adjacent pairs i of a head's d channels."""
    d = config.attention // config.heads
    return 10000.0 ** (-torch.arange(0, d, 2) / d)


def _turn(rates: Tensor, length: int) -> Tensor:
    """exp(i position rate), [R, d / 2]."""
    angle = torch.arange(length, device=rates.device)[:, None] * rates
    return torch.polar(torch.ones_like(angle), angle)
