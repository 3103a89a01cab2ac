"""The paper's network: a U-Net over complex STFT spectra with attention along three paths (Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .attention import HEAD_MULTIPLE, Attention, fused_attention, rotate
from .compiling import compiled
from .foreign import authors_sizes, load_authors
from .layers import (
    Conv2d,
    FeedForward,
    Linear,
    SwiGLU,
    TimeEmbedding,
    at_least_float32,
    fold_patches,
    modulate,
    norm,
    swiglu,
    unfold_patches,
)

__all__ = [
    "Attention", "AxialPath", "GlobalPath", "SwiGLU", "TimeEmbedding", "TriplePathConfig", "TriplePathUNet",
    "fused_attention", "rotate", "unfold_patches",
]  # fmt: skip


@dataclass(frozen=True)
class TriplePathConfig:
    """Everything that fixes a triple-path U-Net. The defaults are the paper's 37 M network.

    Attributes:
        n_fft, hop: window (periodic square-root Hann) and hop of the network's STFT, in samples; n_fft = 2 hop, and
            hop + 1 bins must be a multiple of 4 patch[0] sub_bands.
        channels: width of the first level; the levels below are twice and four times as wide.
        embedding: width of the time and class embeddings.
        heads: attention heads in every path.
        depths: blocks in encoder 1, encoder 2, latent, decoder 2, decoder 1.
        sub_bands: interleaved sub-bands of the global path (frequency modulo sub_bands).
        squeezed: channels to which the global path squeezes a sub-band.
        classes: number of labels; one more row of the table is the unconditional class.
        patch: (frequency, time) bins folded into channels before the first level; (1, 1) is the paper.
        normalized_stft: divide the spectrum by sqrt(n_fft), so that unit-variance noise has spectra of order one.
        frequency_embedding: add a learned vector for each frequency at the start of each level. The paper's network
            tells absolute frequency by the padding of its convolutions and by the global path alone, which takes long
            to learn.
        gains: show the stem the log-magnitude of each bin as well, and let the head also predict a real gain for each
            bin of the input, as a Wiener filter has one. Every path of the paper's network begins with a norm over
            channels, which takes a bin's magnitude away, and its head has to make it up again; that too takes long to
            learn.
        label_std: initial standard deviation of the label table. The released 0.02 is drowned by the time embedding,
            whose standard deviation is about 1, for thousands of steps.
        zero_init: true AdaLN-Zero (Peebles and Xie 2023). False is the released code's effective initialisation, which
            overwrites the zeros by Xavier-uniform values (difference 13 of "paper versus code").
        paths: which of "global", "frame" and "frequency" are present, for ablation.
        attention: False puts the identity in the place of every attention, for ablation: the modulation and the SwiGLU
            layers of the paths stay.
    """

    n_fft: int = 510
    hop: int = 255
    channels: int = 72
    embedding: int = 128
    heads: int = 4
    depths: tuple[int, int, int, int, int] = (2, 4, 8, 4, 2)
    sub_bands: int = 4
    squeezed: int = 16
    classes: int = 1
    patch: tuple[int, int] = (1, 1)
    normalized_stft: bool = False
    frequency_embedding: bool = False
    gains: bool = False
    label_std: float = 0.02
    zero_init: bool = True
    paths: tuple[str, ...] = ("global", "frame", "frequency")
    attention: bool = True

    @classmethod
    def paper(cls, classes: int = 1) -> TriplePathConfig:
        """The configuration of the paper: 37,212,016 parameters with one class, 37,243,376 with fifty."""
        return cls(classes=classes)

    @classmethod
    def pocket(cls, classes: int = 1) -> TriplePathConfig:
        """About 2 M parameters for 8 kHz: patches of 4 bins by 2 frames make it affordable on two CPU cores."""
        return cls(
            n_fft=254, hop=127, channels=32, embedding=64, depths=(1, 1, 2, 1, 1), sub_bands=2, classes=classes,
            patch=(4, 2), normalized_stft=True, frequency_embedding=True, gains=True, label_std=1.0,
        )  # fmt: skip

    def replace(self, **changes) -> TriplePathConfig:
        return replace(self, **changes)

    @property
    def bins(self) -> int:
        """Frequency positions of the first level."""
        return (self.n_fft // 2 + 1) // self.patch[0]

    def __post_init__(self):
        for name in ("depths", "patch", "paths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        bins, multiple = self.n_fft // 2 + 1, 4 * self.patch[0] * self.sub_bands
        if bins % multiple:
            raise ValueError(
                f"n_fft = {self.n_fft} has {bins} bins; they must be a multiple of 4 x patch x sub_bands = {multiple}"
            )
        if self.channels % (2 * self.heads):
            raise ValueError(f"channels = {self.channels} must be a multiple of 2 x heads = {2 * self.heads}")
        if not set(self.paths) <= {"global", "frame", "frequency"}:
            raise ValueError(f"paths is {self.paths}; known are 'global', 'frame' and 'frequency'")


class TriplePathUNet(nn.Module):
    """eps = net(x [B, N], time [B], label [B]): the noise in x, predicted as a complex spectrum.

    `time` is the authors' scaled time trunc(t 1000 / T), and `label` 0..classes - 1, or `classes` for the
    unconditional class. N must exceed n_fft / 2 samples.

    Under autocast everything between the two transforms is in its lower precision; the transforms, and the sums within
    norms and products, stay in float32.
    """

    def __init__(self, config: TriplePathConfig = TriplePathConfig()):
        super().__init__()
        self.config = c = config
        width = (c.channels, 2 * c.channels, 4 * c.channels)
        bins = c.patch[0] * c.patch[1]  # in a patch; each has a real and an imaginary part
        self.stem = Conv2d((3 if c.gains else 2) * bins, width[0], 3, padding=1, bias=False)
        self.encoder1 = Level(c, width[0], c.depths[0], c.bins)
        self.down1 = Conv2d(width[0], width[0] // 2, 3, padding=1, bias=False)
        self.encoder2 = Level(c, width[1], c.depths[1], c.bins // 2)
        self.down2 = Conv2d(width[1], width[1] // 2, 3, padding=1, bias=False)
        self.latent = Level(c, width[2], c.depths[2], c.bins // 4, latent=True)
        self.up2 = Conv2d(width[2], 2 * width[2], 3, padding=1, bias=False)
        self.merge2 = Linear(2 * width[1], width[1])
        self.decoder2 = Level(c, width[1], c.depths[3], c.bins // 2)
        self.up1 = Conv2d(width[1], 2 * width[1], 3, padding=1, bias=False)
        self.merge1 = Linear(2 * width[0], width[0])
        self.decoder1 = Level(c, width[0], c.depths[4], c.bins)
        self.head = Head(c, (3 if c.gains else 2) * bins)
        self.register_buffer("window", torch.hann_window(c.n_fft).sqrt(), persistent=False)
        self._initialise()

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict the noise of x.

        Args:
            x: [B, N] waveforms.
            time: [B], 0..1000.
            label: [B] integers, or None for the unconditional class.
        """
        if x.shape[-1] <= self.config.n_fft // 2:
            raise ValueError(
                f"a signal of {x.shape[-1]} samples is too short: the STFT needs more than {self.config.n_fft // 2}"
            )
        if label is None:
            label = torch.full((len(x),), self.config.classes, device=x.device)
        return self._waveform(self.core(self._spectrum(x), time, label), x.shape[-1])

    def for_inference(self, dtype: torch.dtype = torch.float32) -> TriplePathUNet:
        """Keep the weights a second time, prepared for many calls: cast to `dtype`, and on a GPU with wide enough
        heads.

        They serve where the parameters need no gradient and the calls ask for that type: under autocast to it, or
        without autocast for that of the parameters. The state dict stays as it is. Call this again after weights have
        changed or moved.
        """
        multiple = HEAD_MULTIPLE if self.window.is_cuda else 1
        for module in self.modules():
            if isinstance(module, Linear | Conv2d):
                module.prepare(module.weight, module.bias, dtype)
        for module in self.modules():
            if isinstance(module, Attention):
                module.prepare(dtype, multiple)
        return self

    def checkpoint_activations(self) -> TriplePathUNet:
        """Keep only the input of each block for the backward pass and compute the rest again: least memory, a third
        more time.
        """
        for level in self.modules():
            if isinstance(level, Level):
                level.checkpointing = True
        return self

    def compile_core(self, backend: str = "inductor") -> TriplePathUNet:
        """Compile `core` at its next call, which then takes minutes; a signal of another length compiles again, and a
        batch of one.

        What is compiled is kept in ~/.cache/unasdiff-teach/inductor for other processes, unless
        TORCHINDUCTOR_CACHE_DIR says where.

        Raises:
            RuntimeError: a compiler is missing; the message says which.
        """
        self.core = compiled(self.core, self.window.device, backend)
        return self

    def core(self, h: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """The real-valued part between the two transforms (what `torch.compile` can take). [B, folded, F, T] ->
        same.
        """
        spectrum = h
        if self.config.gains:
            h = torch.cat([h, _log_magnitude(h)], 1)
        h = skip1 = self.encoder1(_last(self.stem(h)), time, label)  #          [B, F, T, C]
        h = F.pixel_unshuffle(self.down1(_first(h)), 2)
        h = skip2 = self.encoder2(_last(h), time, label)  #                     [B, F/2, T/2, 2C]
        h = F.pixel_unshuffle(self.down2(_first(h)), 2)
        h = self.latent(_last(h), time, label)  #                               [B, F/4, T/4, 4C]
        h = _last(F.pixel_shuffle(self.up2(_first(h)), 2))
        h = self.decoder2(self.merge2(torch.cat([h, skip2], -1)), time, label)  # [B, F/2, T/2, 2C]
        h = _last(F.pixel_shuffle(self.up1(_first(h)), 2))
        h = self.decoder1(self.merge1(torch.cat([h, skip1], -1)), time, label)  # [B, F, T, C]
        h = self.head(h, time)
        if self.config.gains:
            h, gain = h.split((spectrum.shape[1], spectrum.shape[1] // 2), 1)
            h = torch.addcmul(h, spectrum, gain.repeat(1, 2, 1, 1))
        return h

    def _spectrum(self, x: Tensor) -> Tensor:
        """Waveforms [B, N] -> real and imaginary parts, patches folded into channels, [B, 2 pf pt, F, T]."""
        c = self.config
        frames = x.shape[-1] // c.hop + 1
        x = F.pad(x, (0, -frames % (4 * c.patch[1]) * c.hop))
        z = torch.stft(x, c.n_fft, c.hop, window=self.window, normalized=c.normalized_stft, return_complex=True)
        h = fold_patches(torch.view_as_real(z).permute(0, 3, 1, 2), c.patch)
        return h.contiguous(memory_format=torch.channels_last)

    def _waveform(self, h: Tensor, length: int) -> Tensor:
        """The inverse of `_spectrum`, cut to `length` samples."""
        c = self.config
        h = unfold_patches(at_least_float32(h), c.patch)
        z = torch.view_as_complex(h.permute(0, 2, 3, 1).contiguous())
        padded = (z.shape[-1] - 1) * c.hop
        x = torch.istft(z, c.n_fft, c.hop, window=self.window, normalized=c.normalized_stft, length=max(padded, length))
        return x[..., :length]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.label_std)
        if self.config.zero_init:
            for module in self.modules():
                if isinstance(module, Level | Head):
                    nn.init.zeros_(module.modulation.weight)

    @classmethod
    def from_authors_state_dict(
        cls, state_dict: dict[str, Tensor], heads: int = 4, n_fft: int = 510, hop: int = 255
    ) -> TriplePathUNet:
        """Build the network that a state dict of the released code describes, and load it.

        Widths, depths and label count are read off the shapes; what no shape tells is given by the arguments.

        Raises:
            ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
        """
        net = cls(TriplePathConfig(n_fft=n_fft, hop=hop, heads=heads, **authors_sizes(state_dict)))
        load_authors(net, state_dict)
        return net


class Level(nn.Module):
    """Blocks at one resolution with one embedding of time and class; all their modulations come from one product."""

    def __init__(self, config: TriplePathConfig, dim: int, depth: int, bins: int, latent: bool = False):
        super().__init__()
        self.embed_frequency = nn.Parameter(torch.randn(bins, 1, dim)) if config.frequency_embedding else None
        self.embed_time = TimeEmbedding(config.embedding)
        self.embed_label = nn.Embedding(config.classes + 1, config.embedding)
        self.blocks = nn.ModuleList(Block(config, dim, bins if latent else 0) for _ in range(depth))
        self.sizes = [size for block in self.blocks for size in block.modulation_sizes]
        self.modulation = Linear(config.embedding, sum(self.sizes))
        self.checkpointing = False

    def forward(self, h: Tensor, time: Tensor, label: Tensor) -> Tensor:
        h = h if self.embed_frequency is None else h + self.embed_frequency.to(h.dtype)
        condition = F.silu(self.embed_time(time) + self.embed_label(label))
        modulation = iter(self.modulation(condition)[:, None, None].split(self.sizes, -1))  # each [B, 1, 1, size]
        for block in self.blocks:
            own = [next(modulation) for _ in block.modulation_sizes]
            if self.checkpointing and torch.is_grad_enabled():
                h = checkpoint(block, h, own, use_reentrant=False, preserve_rng_state=False)
            else:
                h = block(h, own)
        return h


class Block(nn.Module):
    """[Global-temporal, in the latent level only,] then intra-frame, then intra-frequency attention."""

    def __init__(self, config: TriplePathConfig, dim: int, global_bins: int):
        super().__init__()
        use = config.paths
        self.globally = GlobalPath(config, dim, global_bins) if global_bins and "global" in use else None
        self.frame = AxialPath(dim, config.heads, "frequency", config.attention) if "frame" in use else None
        self.frequency = AxialPath(dim, config.heads, "time", config.attention) if "frequency" in use else None
        self.paths = [path for path in (self.globally, self.frame, self.frequency) if path is not None]
        self.modulation_sizes = [size for path in self.paths for size in path.modulation_sizes]

    def forward(self, h: Tensor, modulation: list[Tensor]) -> Tensor:
        modulation = iter(modulation)
        for path in self.paths:
            h = path(h, *(next(modulation) for _ in path.modulation_sizes))
        return h


class AxialPath(nn.Module):
    """Fig. 4(b): attention along one axis, frequency (intra-frame) or time (intra-frequency), then a SwiGLU layer."""

    def __init__(self, dim: int, heads: int, along: str, attention: bool = True):
        super().__init__()
        self.swap = along == "frequency"
        self.pre = Linear(dim, 2 * dim)
        self.attention = Attention(dim, heads) if attention else nn.Identity()
        self.ffn = FeedForward(dim)
        self.modulation_sizes = [6 * dim]

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
        h = swiglu(self.pre(norm(x)))  #                      [B, F, T, C]
        h = modulate(norm(h), scale1, shift1)
        h = h.transpose(1, 2) if self.swap else h  #            [B, other axis, attended axis, C]
        h = self.attention(h.flatten(0, 1).contiguous()).unflatten(0, h.shape[:2])
        h = h.transpose(1, 2) if self.swap else h
        x = torch.addcmul(x, gate1, h)
        return torch.addcmul(x, gate2, self.ffn(modulate(norm(x), scale2, shift2)))


class GlobalPath(nn.Module):
    """Fig. 4(c): attention along time over all frequencies at once, squeezed into interleaved sub-bands."""

    def __init__(self, config: TriplePathConfig, dim: int, bins: int):
        super().__init__()
        self.sub_bands, self.squeezed = config.sub_bands, config.squeezed
        feature = config.squeezed * bins // config.sub_bands
        self.squeeze = Linear(dim * config.sub_bands, 2 * config.squeezed)
        self.attention = Attention(feature, config.heads) if config.attention else nn.Identity()
        self.recover = Conv2d(config.squeezed, dim * config.sub_bands, (3, 1), padding=(1, 0))
        self.ffn = FeedForward(dim)
        self.modulation_sizes = [3 * feature, 3 * dim]

    def forward(self, x: Tensor, modulation: Tensor, modulation_ffn: Tensor) -> Tensor:
        B, n_bins, T, C = x.shape
        S, Q = self.sub_bands, self.squeezed
        shift, scale, gate = modulation[:, 0].chunk(3, -1)  #   [B, 1, feature]
        h = norm(x).unflatten(1, (n_bins // S, S)).permute(0, 1, 3, 4, 2).flatten(3)  # channel c S + (f mod S)
        h = swiglu(self.squeeze(h))  #                         [B, F/S, T, Q]
        h = h.permute(0, 2, 3, 1).flatten(2)  #                 [B, T, Q F/S]
        h = gate * self.attention(modulate(norm(h), scale, shift))
        # The norm after the gate takes most of the gate's size away again; kept, as trained weights rely on it.
        h = norm(h).unflatten(2, (Q, n_bins // S)).permute(0, 2, 3, 1)  # [B, Q, F/S, T]
        h = self.recover(h).unflatten(1, (C, S)).permute(0, 3, 2, 4, 1)  # [B, F/S, S, T, C]
        x = x + h.flatten(1, 2)
        shift, scale, gate = modulation_ffn.chunk(3, -1)
        return torch.addcmul(x, gate, self.ffn(modulate(norm(x), scale, shift)))


class Head(nn.Module):
    """The last convolutions, modulated by time alone, [B, F, T, C] -> [B, folded, F, T]."""

    def __init__(self, config: TriplePathConfig, folded: int):
        super().__init__()
        self.embed_time = TimeEmbedding(config.embedding)
        self.modulation = Linear(config.embedding, 2 * config.channels)
        self.smooth = Conv2d(config.channels, config.channels, 3, padding=1)
        self.out = Conv2d(config.channels, folded, 3, padding=1, bias=False)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.modulation(F.silu(self.embed_time(time)))[:, None, None].chunk(2, -1)
        h = modulate(norm(_last(self.smooth(_first(h)))), scale, shift)
        return self.out(_first(h))


def _log_magnitude(h: Tensor) -> Tensor:
    """log10 |z| of real parts and imaginary parts [B, 2 n, F, T] -> [B, n, F, T], about -2 to 2."""
    real, imaginary = h.chunk(2, 1)
    return 0.5 * (real.square() + imaginary.square() + 1e-4).log10()


def _last(h: Tensor) -> Tensor:
    return h.permute(0, 2, 3, 1)


def _first(h: Tensor) -> Tensor:
    return h.permute(0, 3, 1, 2)
