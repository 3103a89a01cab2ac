"""A trained network as a prior: scaling of time, preconditioning, class guidance, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .._checks import one_of
from .._lazy import renamed_arguments
from ..networks import DiffWave, DiffWaveConfig, TriplePathConfig, TriplePathUNet
from ..networks.files import read_model, write_model
from ..schedule import NoiseSchedule

Target = Literal["eps", "preconditioned"]
Condition = Literal["time", "beta"]


class NeuralPrior(nn.Module):
    """eps = prior(x_t [M, N], t [M], label [M] or None): a noise prediction network behind the `Prior` interface.

    Attributes:
        net: network, called as net(x [M, N], condition [M], label [M]).
        schedule: chain that it was trained on; a schedule with another T_train does not fit.
        sample_rate: Hz.
        labels: class names, the position is the label; empty for an unconditional prior.
        target: "eps", the network predicts the noise (the paper); "preconditioned", it predicts the unit-variance
            target of Karras et al. 2022 (Table 1, EDM) for signals of RMS `sigma_data`.
        time_scale: the network sees trunc(t time_scale / T_train) (difference 21: the released code has 1000).
        cfg_scale: strength of classifier-free guidance, u + cfg_scale (c - u); None is off, as published (difference
            14).
        card: how the prior was made.
        condition: what tells the network the noise level: the scaled "time", or "beta", the training chain's beta_t
            (UnDiff).

    Raises:
        ValueError: an option that is unknown, or labels that a network of this package has no rows for.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: NoiseSchedule,
        sample_rate: int,
        labels: Sequence[str] = (),
        target: Target = "eps",
        sigma_data: float = 0.1,
        time_scale: float = 1000.0,
        cfg_scale: float | None = None,
        card: dict | None = None,
        condition: Condition = "time",
    ):
        super().__init__()
        one_of("condition", condition, ("time", "beta"))
        one_of("target", target, ("eps", "preconditioned"))
        self.net, self.schedule, self.sample_rate = net, schedule, sample_rate
        self.labels, self.target, self.sigma_data = tuple(labels), target, sigma_data
        self.time_scale, self.cfg_scale, self.card = time_scale, cfg_scale, card or {}
        self.condition = condition
        if isinstance(config := getattr(net, "config", None), TriplePathConfig | DiffWaveConfig):
            _check_labels(self.labels, config)

    @property
    def unconditional(self) -> int:
        """The label of the network's unconditional class: the last row of its table; 0 for an unconditional prior."""
        return len(self.labels)

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            label = torch.full((len(x_t),), self.unconditional, device=x_t.device)
        if self.cfg_scale is None or not self.labels:
            return self._predict(x_t, t, label)
        guided = self._predict(x_t, t, label)
        free = self._predict(x_t, t, torch.full_like(label, self.unconditional))
        return free + self.cfg_scale * (guided - free)

    def for_inference(self, dtype: torch.dtype = torch.float32) -> NeuralPrior:
        """Prepare the weights for many calls in this precision, where the network can: see
        `TriplePathUNet.for_inference`.
        """
        if isinstance(self.net, TriplePathUNet):
            self.net.for_inference(dtype)
        return self

    def _predict(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        if self.condition == "beta":
            level = self.schedule.beta.to(torch.float32).to(t.device)[t]  # cast first: MPS has no float64
        else:
            # In float32 on purpose, then truncated: this is the released code's rounding.
            level = (t.to(torch.float32) * (self.time_scale / self.schedule.T_train)).trunc()
        if self.target == "eps":
            return self.net(x_t, level, label)
        scale = preconditioning(self.schedule, t, x_t, self.sigma_data)
        x0_hat = scale.c_skip * x_t + scale.c_out * self.net(scale.c_in * x_t, level, label)
        return (x_t - scale.signal * x0_hat) / scale.noise


def _check_labels(labels: tuple[str, ...], network: TriplePathConfig | DiffWaveConfig) -> None:
    """Raises ValueError unless a network's table has a row for each label, and the next one for none."""
    # A triple-path table without labels may keep a row for one class, as the paper's has.
    spare = not labels and isinstance(network, TriplePathConfig)
    if not len(labels) <= network.classes <= len(labels) + spare:
        name, knows = type(network).__name__.removesuffix("Config"), network.classes or "no"
        raise ValueError(f"labels has {len(labels)} entries ({', '.join(labels)}); this {name} knows {knows} classes")


@renamed_arguments(enter="c_in", skip="c_skip", out="c_out")
@dataclass(frozen=True)
class Preconditioning:
    """Factors of x0_hat = c_skip x_t + c_out F(c_in x_t), with x_t = signal x_0 + noise eps; each [M, 1]."""

    signal: Tensor
    noise: Tensor
    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


def preconditioning(schedule: NoiseSchedule, t: Tensor, x_t: Tensor, sigma_data: float) -> Preconditioning:
    """The factors of Karras et al. 2022 in the variance-preserving chain, for the training chain's index t [M]."""
    alpha_bar = schedule.alpha_bar
    variance = alpha_bar * sigma_data**2 + 1 - alpha_bar
    factors = [
        alpha_bar.sqrt(),
        (1 - alpha_bar).sqrt(),
        variance.rsqrt(),
        alpha_bar.sqrt() * sigma_data**2 / variance,
        sigma_data * ((1 - alpha_bar) / variance).sqrt(),
    ]
    table = torch.stack(factors).to(x_t.dtype).to(x_t.device)  # cast first: MPS has no float64
    return Preconditioning(*table[:, t, None])


@dataclass(frozen=True)
class PriorConfig:
    """What rebuilds a `NeuralPrior` around its weights; stored in the checkpoint's header.

    The type of `network` says which network it is; a DiffWave is told beta_t instead of the time.
    """

    sample_rate: int
    labels: tuple[str, ...] = ()
    target: Target = "eps"
    sigma_data: float = 0.1
    time_scale: float = 1000.0
    cfg_scale: float | None = None
    T: int = 200
    beta_min: float = 1e-4
    beta_max: float = 2e-2
    network: TriplePathConfig | DiffWaveConfig = field(default_factory=TriplePathConfig)

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        _check_labels(self.labels, self.network)

    def build(self, card: dict | None = None) -> NeuralPrior:
        """A prior with freshly initialised weights."""
        schedule = NoiseSchedule.linear(self.T, self.beta_min, self.beta_max)
        network, condition = (
            (DiffWave, "beta") if isinstance(self.network, DiffWaveConfig) else (TriplePathUNet, "time")
        )
        args = (self.target, self.sigma_data, self.time_scale, self.cfg_scale)
        return NeuralPrior(
            network(self.network), schedule, self.sample_rate, self.labels, *args, card=card, condition=condition
        )


def save(
    path: str | Path, state_dict: dict[str, Tensor], config: PriorConfig, card: dict, dtype: torch.dtype = torch.float16
) -> None:
    """Write a prior as one safetensors file, its configuration and card in the header; atomic.

    Args:
        dtype: of the parameters, by default float16; what is no parameter stays in float32.
    """
    write_model(path, "prior", state_dict, config, card, dtype)


def read(path: str | Path) -> NeuralPrior:
    """Read a prior that `save` wrote; runs no code of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or its weights do not fit its configuration.
    """
    return read_model(path, "prior", PriorConfig, (TriplePathConfig, DiffWaveConfig))
