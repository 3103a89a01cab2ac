"""Conv-TasNet (Luo and Mesgarani 2019), a supervised separator of Table 2; the network itself is torchaudio's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from .._checks import one_of


@dataclass(frozen=True)
class ConvTasNetConfig:
    """Everything that fixes a Conv-TasNet; the letters are those of Luo and Mesgarani's Table I.

    Attributes:
        sources: K, the number of signals that come out.
        filters: N, filters of the learned encoder and decoder.
        window: L, their length in samples; the hop is half of it.
        bottleneck: B and Sc, channels of the residual and the skip paths.
        hidden: H, channels inside a convolutional block.
        kernel: P, taps of its depthwise convolution, odd.
        layers, stacks: X blocks with dilations 1, 2, ..., 2^(X-1), R times over.
        mask: activation of the masks.
    """

    sources: int = 2
    filters: int = 512
    window: int = 16
    bottleneck: int = 128
    hidden: int = 512
    kernel: int = 3
    layers: int = 8
    stacks: int = 3
    mask: Literal["sigmoid", "relu"] = "sigmoid"

    @classmethod
    def paper(cls, sources: int = 2) -> ConvTasNetConfig:
        """The best configuration of Luo and Mesgarani (non-causal, global layer norm), about 5 M parameters.

        The paper that this book teaches gives no sizes for its Conv-TasNet: this is a choice made here.
        """
        return cls(sources=sources)

    @classmethod
    def pocket(cls, sources: int = 2) -> ConvTasNetConfig:
        """About 1.1 M parameters for 8 kHz; windows of 8 ms instead of 2 let it learn in a quarter of an hour on one
        CPU core.
        """
        return cls(sources=sources, filters=256, window=64, bottleneck=96, hidden=192, layers=6)

    def replace(self, **changes) -> ConvTasNetConfig:
        return replace(self, **changes)

    def __post_init__(self):
        if self.window % 2:
            raise ValueError(f"window is {self.window}; it must be even, since the hop is half of it")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        one_of("mask", self.mask, ("sigmoid", "relu"))


class ConvTasNet(nn.Module):
    """sources [B, K, N] = net(mixture [B, N]), for any N."""

    def __init__(self, config: ConvTasNetConfig = ConvTasNetConfig()):
        from torchaudio.models import ConvTasNet as Core  # takes long to import, and few need it

        super().__init__()
        self.config = c = config
        self.core = Core(c.sources, c.window, c.filters, c.kernel, c.bottleneck, c.hidden, c.layers, c.stacks, c.mask)
        # The decoder inverts the encoder at first, so that training starts from the mixture and not from noise.
        nn.init.orthogonal_(self.core.encoder.weight)
        self.core.decoder.weight.data.copy_(self.core.encoder.weight)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate waveforms, [B, N] -> [B, K, N]."""
        return self.core(mixture[:, None])
