"""How many floating point operations a network takes, counted on its shapes alone: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import Literal

import torch
from torch.overrides import TorchFunctionMode

from .._checks import one_of
from ..cost import CostCounter
from .conv_tasnet import ConvTasNet, ConvTasNetConfig
from .diffwave import DiffWave, DiffWaveConfig
from .tf_locoformer import TFLoCoformer, TFLoCoformerConfig
from .triple_path import TriplePathConfig, TriplePathUNet

NETWORKS = {
    TriplePathConfig: TriplePathUNet, DiffWaveConfig: DiffWave, ConvTasNetConfig: ConvTasNet,
    TFLoCoformerConfig: TFLoCoformer,
}  # fmt: skip
Work = Literal["forward", "guided", "training"]
ONE_AT_A_TIME = RLock()  # torch.device also notes its device for the whole process, where its compiler looks


@cache
def parameters(config: TriplePathConfig | DiffWaveConfig | ConvTasNetConfig | TFLoCoformerConfig) -> int:
    """Number of parameters of a network."""
    with shapes_alone():
        return sum(p.numel() for p in NETWORKS[type(config)](config).parameters())


@cache
def flops(
    config: TriplePathConfig | DiffWaveConfig | ConvTasNetConfig | TFLoCoformerConfig, samples: int, work: Work
) -> int:
    """FLOP for one signal: those of its matrix products and convolutions, two for each multiplication and addition.

    Args:
        config: of any network of the package.
        samples: N of the signal.
        work: "forward"; "guided", forward and gradient to the input, as each source and step of Algorithm 1 takes;
            "training", forward and gradient to the parameters. The paper's network takes 455, 972 and 1366 GFLOP for 4
            s.

    Raises:
        ValueError: another `work`.
    """
    one_of("work", work, ("forward", "guided", "training"))
    with shapes_alone():
        net = NETWORKS[type(config)](config).requires_grad_(work == "training")
        x = torch.empty(1, samples, requires_grad=work == "guided")
        is_prior = isinstance(config, TriplePathConfig | DiffWaveConfig)
        arguments = (x, torch.empty(1), torch.zeros(1, dtype=torch.long)) if is_prior else (x,)
        with CostCounter() as counter:
            out = net(*arguments)
            forward = counter.total.flop
            if work != "forward":
                out.sum().backward()
    # Each of the two gradients takes what the forward pass takes; of a grouped convolution's, the counter makes more.
    return min(counter.total.flop, 3 * forward)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Tensors and networks made inside have shapes but no data, and networks run on them; for this thread alone."""
    with ONE_AT_A_TIME, torch.device("meta"), _InverseSTFTOfShapes():
        yield


class _InverseSTFTOfShapes(TorchFunctionMode):
    """The inverse STFT looks at its data, of which there is none; here it only gives its shape. It has no products."""

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        return _signal_like(*args, **kwargs) if func is torch.istft else func(*args, **(kwargs or {}))


def _signal_like(spectrum: torch.Tensor, *_, length: int, **__) -> torch.Tensor:
    """A signal [..., length] that depends on the spectrum [..., F, T]."""
    return torch.view_as_real(spectrum).sum((-3, -2, -1))[..., None].expand(*spectrum.shape[:-2], length)
