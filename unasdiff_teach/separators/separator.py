"""A supervised separator: one network that was trained on mixtures of given kinds, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks import ConvTasNet, ConvTasNetConfig, TFLoCoformer, TFLoCoformerConfig
from ..networks.files import read_model, write_model

NETWORKS = {ConvTasNetConfig: ConvTasNet, TFLoCoformerConfig: TFLoCoformer}


class Separator(nn.Module):
    """sources [B, K, N] = separator(mixture [B, N]), or [K, N] for [N]: a supervised expert for one task (Table 2).

    Attributes:
        net: network, sources [B, K, N] = net(mixture [B, N]), of any gain and sign.
        sample_rate: Hz.
        kinds: K kinds of sources ("speech", "sound"), in the order of the outputs. Outputs of one kind are in no order.
        card: how the separator was made.
    """

    def __init__(self, net: nn.Module, sample_rate: int, kinds: tuple[str, ...], card: dict | None = None):
        super().__init__()
        self.net, self.sample_rate, self.kinds, self.card = net, sample_rate, tuple(kinds), card or {}

    def forward(self, mixture: Tensor) -> Tensor:
        if mixture.ndim not in (1, 2):
            raise ValueError(f"mixture has shape {list(mixture.shape)}; accepted are [N] and [B, N]")
        if mixture.ndim == 1:
            return self(mixture[None])[0]
        return fit_gains(self.net(mixture), mixture)


def fit_gains(estimate: Tensor, mixture: Tensor) -> Tensor:
    """Scale each estimate so that together they come closest to the mixture; [B, K, N], [B, N] -> [B, K, N].

    SI-SDR is blind to gain and sign, so a network trained with it has neither right; the sum of the sources is the
    mixture. A least-squares fit, with so slight a pull to zero that estimates which are silent or alike do no harm. In
    float64, since alike estimates amplify rounding, and a batch must equal single runs; on the CPU, since not every
    device has that.
    """
    wide = estimate.to("cpu", torch.float64)
    unit = wide / torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_min(1e-12)
    gram = unit @ unit.mT + 1e-4 * torch.eye(unit.shape[-2], dtype=unit.dtype)  # [B, K, K]
    return (unit * torch.linalg.solve(gram, unit @ mixture.to(unit)[..., None])).to(estimate)


@dataclass(frozen=True)
class SeparatorConfig:
    """What rebuilds a `Separator` around its weights; stored in the file's header.

    The type of `network` says which network it is; its `sources` must be the number of kinds.
    """

    sample_rate: int
    kinds: tuple[str, ...]
    network: ConvTasNetConfig | TFLoCoformerConfig

    def __post_init__(self):
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if type(self.network) not in NETWORKS:
            raise ValueError(f"network is {self.network!r}; accepted are {', '.join(c.__name__ for c in NETWORKS)}")
        if self.network.sources != len(self.kinds):
            raise ValueError(
                f"the network has {self.network.sources} outputs for {len(self.kinds)} kinds, {self.kinds}"
            )

    def build(self, card: dict | None = None) -> Separator:
        """A separator with freshly initialised weights."""
        return Separator(NETWORKS[type(self.network)](self.network), self.sample_rate, self.kinds, card)


def save(
    path: str | Path,
    state_dict: dict[str, Tensor],
    config: SeparatorConfig,
    card: dict,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a separator as one safetensors file, its configuration and card in the header; atomic.

    Args:
        dtype: of the parameters, by default float16; what is no parameter stays in float32.
    """
    write_model(path, "separator", state_dict, config, card, dtype)


def read(path: str | Path) -> Separator:
    """Read a separator that `save` wrote; runs no code of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or its weights do not fit its configuration.
    """
    return read_model(path, "separator", SeparatorConfig, tuple(NETWORKS))
