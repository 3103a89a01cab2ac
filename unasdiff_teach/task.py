"""What every sampler shares: a checked task with its noise, mixtures at their working level, and the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor, nn

from ._files import replacing
from .diffusion import Prior
from .schedule import NoiseSchedule

Label = int | str | None
NoiseSource = Callable[[str, int, tuple[int, ...]], Tensor]
PEAK = 0.95  # of a mixture normalised to its peak, as the paper's mixtures are


@dataclass(frozen=True)
class Separation:
    """What a separation returns.

    Attributes:
        sources: [K, N] for a mixture [N]; [B, K, N] for [B, N].
        calls: network evaluations for each source, forwards of one signal.
        schedule: the steps that were taken.
    """

    sources: Tensor
    calls: int
    schedule: NoiseSchedule


@dataclass
class RunState:
    """A file in which a long run keeps its state, for the same run to go on from after a stop.

    The noise is drawn again, and therefore not kept. Whoever names the file sees to it that it belongs to one set of
    arguments.

    Attributes:
        path: of the file; it is the caller's to delete.
        every: seconds between two writings, at least.
    """

    path: Path
    every: float = 30.0
    _written: float = field(default_factory=time.monotonic, repr=False)

    @property
    def steps(self) -> int:
        """Steps that are done; 0 without a file, or with one that is damaged."""
        return self._read()[0]

    def load(self, x_t: Tensor) -> tuple[int, Tensor]:
        """Steps that are done and the state after them; 0 and `x_t`, the initial state, where there is nothing to go
        on from.
        """
        done, stored = self._read()
        return (done, stored.to(x_t)) if stored is not None and stored.shape == x_t.shape else (0, x_t)

    def save(self, steps: int, x_t: Tensor) -> None:
        """Write, if it is time; atomic."""
        from safetensors.torch import save_file

        if time.monotonic() - self._written < self.every:
            return
        with replacing(self.path) as partial:
            save_file({"x_t": x_t.detach().cpu().contiguous()}, partial, {"steps": str(steps)})
        self._written = time.monotonic()

    def _read(self) -> tuple[int, Tensor | None]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                steps, x_t = int(file.metadata()["steps"]), file.get_tensor("x_t")
        except (FileNotFoundError, SafetensorError, TypeError, KeyError, ValueError):  # or another's file
            return 0, None
        return (steps, x_t) if x_t.isfinite().all() else (0, None)  # earlier versions kept what was not finite


class SeparationTask:
    """A checked separation task: mixtures [B, N], one prior and one label for each source, the noise of the run.

    With H hypotheses each mixture stands in H successive rows, B = H times the number of mixtures. As a chain, the
    prior is given all sources of a mixture as one signal.
    """

    def __init__(
        self,
        mixture: Tensor,
        prior: Prior | Sequence[Prior],
        labels: Sequence[Label] | Sequence[Sequence[Label]],
        schedule: NoiseSchedule | None,
        noise: int | Sequence[int] | NoiseSource,
        sample_rate: int | None,
        hypotheses: int = 1,
        chain: bool = False,
    ):
        mixtures = _checked(mixture)
        listed = isinstance(prior, Sequence | nn.ModuleList) and not isinstance(prior, str)
        mixtures = mixtures.to(_working_dtype(mixtures, checked_priors(list(prior) if listed else [prior])))
        self.single, self.hypotheses = mixture.ndim == 1, hypotheses
        self.labels = [row for row in _label_rows(labels, len(mixtures)) for _ in range(hypotheses)]
        self.mixture = mixtures.repeat_interleave(hypotheses, 0)
        B, self.K, N = len(self.mixture), len(self.labels[0]), self.mixture.shape[-1]
        self.shape = (B, self.K, N)
        priors = list(prior) if listed else [prior] * self.K
        if len(priors) != self.K:
            raise ValueError(f"{len(priors)} priors for K = {self.K} labels; give one prior, or one for each source")
        self.schedule = _fitting_schedule(priors, schedule)
        _check_rates(priors, sample_rate)
        # Sources that share a prior form one group; each group's rows go through it in one call.
        distinct = {id(p): p for p in priors}.values()
        self.groups = [(p, [k for k in range(self.K) if priors[k] is p]) for p in distinct]
        self.group_labels = [self._group_labels(p, ks) for p, ks in self.groups]
        self.chain = chain
        if chain and (len(self.groups) > 1 or any(len(set(row)) > 1 for row in self.labels)):
            raise ValueError(
                f"labels are {self.labels[0]}, of {len(self.groups)} priors; a chain of sources has one of each"
            )
        self._noise = _noise_source(noise, len(mixtures), self.single)
        self._counts = {}

    def _group_labels(self, prior: Prior, ks: list[int]) -> Tensor | None:
        rows = [_resolve(prior, row[k], k) for row in self.labels for k in ks]
        if all(label is None for label in rows):
            return None
        if None in rows:
            raise ValueError("this prior has no unconditional class: give a label for each source, or for none")
        return torch.tensor(rows, device=self.mixture.device)

    def eps(self, x_t: Tensor, index: Tensor) -> Tensor:
        """Noise predictions [B, K, N], one call for each prior."""
        if self.chain:
            ((prior, _),), (label,) = self.groups, self.group_labels
            label = label if label is None else label[:: self.K]
            return prior(x_t.flatten(1), index.to(x_t.device).expand(len(x_t)), label).view_as(x_t)
        parts = {}
        for (prior, ks), label in zip(self.groups, self.group_labels, strict=True):
            rows = x_t[:, ks].flatten(0, 1)
            eps = prior(rows, index.to(rows.device).expand(len(rows)), label).unflatten(0, (-1, len(ks)))
            parts |= {k: eps[:, i] for i, k in enumerate(ks)}
        return torch.stack([parts[k] for k in range(self.K)], 1)

    def noise(self, kind: str, shared: bool = False) -> Tensor:
        """[B, K, N], or [B, 1, N] if shared; the next of its kind."""
        B, K, N = self.shape
        shape = (N,) if shared else (K, N)
        rows = []
        for _ in range(self.hypotheses):
            i = self._counts[kind] = self._counts.get(kind, -1) + 1
            z = self._noise(kind, i, shape if self.single else (B // self.hypotheses, *shape))
            rows.append(z.to(self.mixture).reshape(-1, 1 if shared else K, N))
        return torch.stack(rows, 1).flatten(0, 1)

    def finite(self, x: Tensor, where: str) -> Tensor:
        """`x`, [B, K, N], as it is.

        Raises:
            FloatingPointError: it has NaN or infinite samples; names the mixtures and `where` in the run.
        """
        if not x.isfinite().all():
            rows = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            mixtures = ", ".join(dict.fromkeys(str(row // self.hypotheses) for row in rows))
            raise FloatingPointError(
                f"the sources{'' if self.single else f' of mixture {mixtures}'} have NaN or infinite samples {where}:"
                " look at the prior's predictions, the loss, and the strength of the rule"
            )
        return x

    def result(self, x: Tensor, scale: Tensor, calls: int, schedule: NoiseSchedule) -> Separation:
        """What a sampler returns for its last state, which must be `finite`: at the level of the mixtures."""
        return Separation(self.unbatch(self.finite(x, "at the end") / scale[:, None]), calls, schedule)

    def unbatch(self, x: Tensor) -> Tensor:
        """The mean over hypotheses, without the leading B for a single mixture."""
        if self.hypotheses > 1:
            found = x.unflatten(0, (-1, self.hypotheses))
            rows = self.labels[:: self.hypotheses]
            x = torch.stack([self._ordered(runs, row) for runs, row in zip(found, rows, strict=True)]).mean(1)
        return x[0] if self.single else x

    def _ordered(self, runs: Tensor, labels: list) -> Tensor:
        """The hypotheses of one mixture, [H, K, N], each in the order that agrees best with the sum of those before it.

        Sources of one prior and one label have no order of their own: the posterior stays the same with any two
        exchanged, so that its plain mean has them all equal.
        """
        orders = self._orders(labels)
        if len(orders) == 1:
            return runs
        found = [runs[0]]
        total = runs[0]
        for run in runs[1:]:
            agreement = total @ run.mT  # [K, K]
            found.append(run[max(orders, key=lambda order: agreement[range(self.K), order].sum().item())])
            total = total + found[-1]
        return torch.stack(found)

    def _orders(self, labels: list) -> list[list[int]]:
        """`exchanges` of sources of one prior and one label."""
        owner = {k: i for i, (_, ks) in enumerate(self.groups) for k in ks}
        return list(map(list, exchanges([(owner[k], labels[k]) for k in range(self.K)])))


def exchanges(kinds: Sequence[Hashable]) -> list[tuple[int, ...]]:
    """The permutations of sources that exchange none but those of one kind; the identity first."""
    return [p for p in permutations(range(len(kinds))) if all(kinds[i] == kinds[k] for k, i in enumerate(p))]


def _checked(mixture: Tensor) -> Tensor:
    if not isinstance(mixture, Tensor):
        raise TypeError(f"mixture is a {type(mixture).__name__}; it must be a torch tensor [N] or [B, N]")
    if not mixture.is_floating_point():
        raise TypeError(f"mixture has {mixture.dtype} samples; convert them to floating point in [-1, 1]")
    if mixture.ndim not in (1, 2):
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; it must be [N] or [B, N], one channel")
    if not mixture.numel():
        raise ValueError("mixture is empty")
    if mixture.ndim == 2 and mixture.shape[0] > mixture.shape[1]:
        raise ValueError(
            f"mixture has shape {tuple(mixture.shape)}, more signals than samples; is it transposed stereo?"
        )
    if not torch.isfinite(mixture).all():
        raise ValueError("mixture has NaN or infinite samples")
    return mixture.detach().reshape(-1, mixture.shape[-1])


def checked_priors(priors: list[Prior]) -> list[Prior]:
    """Raises TypeError for a prior that is none, such as the name of one."""
    for k, prior in enumerate(priors):
        if not callable(prior):
            name = isinstance(prior, str)
            hint = f"; unasdiff_teach.priors.load({prior!r}) is one" if name else ""
            shown = repr(prior) if name else f"a {type(prior).__name__}"
            raise TypeError(f"prior {k} is {shown}; it must be a prior{hint}")
    return priors


def _working_dtype(mixtures: Tensor, priors: list[Prior]) -> torch.dtype:
    """That of the networks' weights; without networks the mixtures' own, of 32 bits at least."""
    for prior in priors:
        if parameters := getattr(prior, "parameters", None):
            for weight in parameters():
                return weight.dtype
    return torch.promote_types(mixtures.dtype, torch.float32)


def _label_rows(labels: Sequence[Label] | Sequence[Sequence[Label]], batch: int) -> list[list[Label]]:
    """[B][K] labels from K labels or [B][K]; arrays as well as lists."""
    labels = [row.tolist() if hasattr(row, "tolist") else row for row in labels]
    if not labels:
        raise ValueError("labels is empty; give one entry for each source")
    nested = [isinstance(row, list | tuple) for row in labels]
    if not any(nested):
        return [labels] * batch
    if not all(nested) or len(labels) != batch:
        raise ValueError(f"labels has {len(labels)} rows for {batch} mixtures; give K labels, or K for each mixture")
    if len({len(row) for row in labels}) != 1:
        raise ValueError("labels has rows of different lengths; K must be the same for each mixture of a batch")
    return [list(row) for row in labels]


def _resolve(prior: Prior, label: Label, k: int) -> int | None:
    """The integer that a prior takes for a label; priors without metadata take integers as they are."""
    names = getattr(prior, "labels", None)
    if isinstance(label, bool) or not isinstance(label, Integral | str | None):
        raise ValueError(f"label of source {k} is {label!r}; accepted are an integer, a class name or None")
    if names is None:
        if isinstance(label, str):
            raise ValueError(f"label of source {k} is {label!r}, but this prior has no class names")
        return label
    if label is None:
        return prior.unconditional
    if isinstance(label, str):
        if label not in names:
            raise ValueError(
                f"label of source {k} is {label!r}; this prior knows"
                f" {', '.join(names) or 'no classes (it is unconditional)'}"
            )
        return names.index(label)
    if not 0 <= label < max(len(names), 1):
        raise ValueError(f"label of source {k} is {label}; this prior accepts 0..{max(len(names), 1) - 1} or None")
    return label


def _fitting_schedule(priors: list[Prior], schedule: NoiseSchedule | None) -> NoiseSchedule:
    trained = [s for p in priors if (s := getattr(p, "schedule", None)) is not None]
    if schedule is None:
        if not trained:
            raise ValueError("schedule is missing, and the priors do not say which one they were trained on")
        schedule = trained[0]
    for own in trained:
        fits = own.T_train == schedule.T_train and torch.allclose(
            own.alpha_bar[schedule.timesteps], schedule.alpha_bar, atol=1e-6
        )
        if not fits:
            raise ValueError(
                f"this schedule ({schedule.T_train} steps) is not the one that a prior was trained on ({own.T_train}"
                " steps)"
            )
    return schedule


def _check_rates(priors: list[Prior], sample_rate: int | None) -> None:
    rates = {rate for p in priors if (rate := getattr(p, "sample_rate", None)) is not None}
    if len(rates) > 1:
        raise ValueError(f"the priors have different sample rates: {sorted(rates)} Hz")
    if sample_rate is not None and rates and sample_rate not in rates:
        raise ValueError(f"the mixture is at {sample_rate} Hz, the prior at {rates.pop()} Hz; resample the mixture")


def _noise_source(noise: int | Sequence[int] | NoiseSource, batch: int, single: bool) -> NoiseSource:
    if callable(noise):
        return noise
    noise = noise.tolist() if hasattr(noise, "tolist") else noise
    seeds = [noise + b for b in range(batch)] if isinstance(noise, Integral) else noise
    if not isinstance(seeds, Sequence) or not all(isinstance(seed, Integral) for seed in seeds):
        raise TypeError(
            f"noise is {noise!r}; accepted are an integer seed, one for each mixture, or a callable(kind, i, shape)"
        )
    if len(seeds) != batch:
        raise ValueError(f"{len(seeds)} seeds for {batch} mixtures")
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def draw(kind: str, i: int, shape: tuple[int, ...]) -> Tensor:
        rows = [torch.randn(shape if single else shape[1:], generator=g) for g in generators]
        return rows[0] if single else torch.stack(rows)

    return draw


def normalised(y: Tensor, normalize: str) -> tuple[Tensor, Tensor]:
    """Mixtures at the working level, and the factor [B, 1] that brought them there; silence stays as it is."""
    peak = y.abs().amax(-1, keepdim=True)
    scale = torch.where(peak > 0, PEAK / peak, 1) if normalize == "peak" else torch.ones_like(peak)
    return y * scale, scale


def countdown(start: int, progress: bool) -> Iterable[int]:
    """start, start - 1, ..., 0, with a progress bar on request."""
    steps = reversed(range(start + 1))
    if not progress:
        return steps
    from tqdm.auto import tqdm

    return tqdm(steps, total=start + 1, unit="step")


def checked_config(config: object, kind: type) -> object:
    """Raises TypeError for a configuration of another type, such as the name of a preset."""
    if not isinstance(config, kind):
        hint = f"; {kind.__name__}.{config}() is one" if isinstance(config, str) and hasattr(kind, config) else ""
        raise TypeError(f"config is {config!r}; it must be of type {kind.__name__}{hint}")
    return config
