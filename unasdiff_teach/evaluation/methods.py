"""Ways to separate, in the form that `evaluate` takes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..diffusion import Prior
from ..dirac import DiracConfig, separate_dirac
from ..schedule import NoiseSchedule
from ..separation import AnalyticalConfig, SeparationConfig, separate, separate_analytical
from ..separators import Separator
from .metrics import best_permutation
from .masks import oracle_mask

if TYPE_CHECKING:
    from ..data.mixing import Mixture


@dataclass(frozen=True)
class Method:
    """A way to separate, under the name that the tables show.

    Attributes:
        name: "hybrid", "dps" and so on; `paper_table` lists the names of the paper's methods.
        separate: (mixtures, noise_seeds) -> (estimates [B, K, N], network evaluations for each source). The B mixtures
            agree in kinds, K, N and sample rate; noise_seeds [B] are integers in 0..2^32 - 1. A mixture's estimates must
            not depend on the others in its batch.
        preset: of the configuration: "authors", "paper", "short", "recommended", or "".
        settings: everything else that changes the numbers, in words; a run refuses to mix results of two settings.
    """

    name: str
    separate: Callable[[list[Mixture], list[int]], tuple[Tensor, int]]
    preset: str = ""
    settings: str = ""


def sampling(
    name: str,
    priors: Mapping[str, Prior],
    config: SeparationConfig | AnalyticalConfig | DiracConfig,
    preset: str = "",
    schedule: NoiseSchedule | None = None,
    device: str | torch.device = "cpu",
    precision: torch.dtype = torch.float32,
) -> Method:
    """Diffusion sampling as a method: `separate`, `separate_analytical` or `separate_dirac`, as the type of `config` says.

    Args:
        name, preset: see `Method`.
        priors: for each kind of source, "speech" and "sound", its prior, on `device`. Its labels are those of the mixture.
        config, schedule: see `separate`.
        device: where to separate.
        precision: of the networks' products; with `torch.bfloat16` norms, transforms and states stay in float32.
    """
    @_autocast(device, precision)
    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        sampler = {SeparationConfig: separate, AnalyticalConfig: separate_analytical, DiracConfig: separate_dirac}[type(config)]
        result = sampler(
            torch.stack([m.mixture for m in mixtures]).to(device),
            [priors[kind] for kind in mixtures[0].kinds],
            [list(m.labels) for m in mixtures],
            schedule,
            config,
            noise=seeds,
            sample_rate=mixtures[0].sample_rate,
        )
        return result.sources, result.calls

    settings = [str(config), *(f"{kind} prior {_fingerprint(prior)}" for kind, prior in sorted(priors.items()))]
    if schedule is not None:
        settings.append(f"{len(schedule)} steps {_checksum(schedule.alpha_bar):08x}")
    if precision != torch.float32:
        settings.append(f"products in {str(precision).removeprefix('torch.')}")
    return Method(name, run, preset, ", ".join(settings))


def supervised(name: str, separator: Separator, device: str | torch.device = "cpu") -> Method:
    """A trained separator as a method, for mixtures of its kinds in its order.

    Permutation-invariant training leaves open which output is which source of one kind; they are put in the order that
    scores best, as for all supervised systems.

    Args:
        name: see `Method`.
        separator: on `device`.
    """

    @torch.no_grad()
    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        first = mixtures[0]
        if first.kinds != separator.kinds or first.sample_rate != separator.sample_rate:
            raise ValueError(
                f"{first.id!r} has {first.kinds} at {first.sample_rate} Hz; {name!r} separates {separator.kinds} "
                f"at {separator.sample_rate} Hz"
            )
        estimates = separator(torch.stack([m.mixture for m in mixtures]).to(device))
        index, _ = best_permutation(estimates, torch.stack([m.sources for m in mixtures]).to(device), "kind", separator.kinds)
        return estimates.take_along_dim(index[..., None], 1), 1

    return Method(name, run, settings=f"separator {_fingerprint(separator)}, best order within a kind")


def unprocessed() -> Method:
    """The mixture itself as the estimate of each source: the first row of the paper's Table 2."""
    return Method("unprocessed", lambda mixtures, seeds: (torch.stack([m.mixture.expand_as(m.sources) for m in mixtures]), 0))


def oracle(kind: str = "ratio", n_fft: int = 512, hop: int = 128) -> Method:
    """An oracle mask as a method, named "oracle ratio" and so on; see `oracle_mask`."""

    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        sources = torch.stack([m.sources for m in mixtures])
        return oracle_mask(torch.stack([m.mixture for m in mixtures]), sources, kind, n_fft, hop), 0

    return Method(f"oracle {kind}", run, settings=f"n_fft={n_fft}, hop={hop}")


def _autocast(device: str | torch.device, precision: torch.dtype) -> torch.autocast:
    return torch.autocast(torch.device(device).type, precision, enabled=precision != torch.float32)


def _fingerprint(prior: Prior | nn.Module) -> str:
    """What tells two trainings apart: a checksum of a network's weights, or the type of an exact prior."""
    if not isinstance(prior, nn.Module):
        return type(prior).__name__
    checksum = 0
    for weight in prior.state_dict().values():
        checksum = _checksum(weight, checksum)
    return f"{checksum:08x}"


def _checksum(values: Tensor, start: int = 0) -> int:
    return zlib.crc32(values.detach().cpu().flatten().view(torch.uint8).numpy(), start)
