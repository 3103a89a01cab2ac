"""Separation by guided reverse diffusion: Algorithm 1, mixture initialisation (Eq. 12) and analytical sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from .diffusion import Prior, posterior_mean, tweedie
from .guidance import MMPS, Guidance, Hybrid, guided_step
from .reconstruction import ReconstructionLoss
from .schedule import NoiseSchedule

Label = int | str | None
NoiseSource = Callable[[str, int, tuple[int, ...]], Tensor]
PEAK = 0.95  # of a mixture normalised to its peak, as the paper's mixtures are


@dataclass(frozen=True)
class SeparationConfig:
    """Algorithm 1, with a field for every choice in which the paper's text and the released code differ.

    Attributes:
        guidance: rule for gamma(t).
        loss: L_recons.
        grad_norm: L2 norm of the gradient for each "source", or "joint" over all sources (difference 5).
        init: start from the noised "mixture" (Eq. 12) or from "noise".
        init_step: t*, counted from 1: the noise level of the initial state is that of index t* - 1 (difference 6).
        start: first step of the loop, "T" (Algorithm 1 and the released code) or "init_step" (difference 7).
        init_noise: one initial noise "shared" by all sources, or "independent" ones (difference 8).
        clamp: limit of x0_hat, None for none (difference 12).
        normalize: "peak" scales the mixture to a peak of 0.95 before and undoes it after; "none" (difference 18).
        project: add the remaining difference to the mixture to all sources in equal parts at the end.
        steps, spacing: respace the schedule to this many steps (`NoiseSchedule.respace`); None keeps all.
        hypotheses: runs with noise of their own whose mean is the result. One run is a sample of the posterior; the mean of
            many comes close to its mean, which has the least squared error.
    """

    guidance: Guidance = field(default_factory=Hybrid)
    loss: ReconstructionLoss = field(default_factory=ReconstructionLoss)
    grad_norm: Literal["source", "joint"] = "source"
    init: Literal["mixture", "noise"] = "mixture"
    init_step: int = 150
    start: Literal["T", "init_step"] = "T"
    init_noise: Literal["shared", "independent"] = "shared"
    clamp: float | None = 1.0
    normalize: Literal["none", "peak"] = "none"
    project: bool = False
    steps: int | None = None
    spacing: Literal["log_snr", "time"] = "log_snr"
    hypotheses: int = 1

    @classmethod
    def authors(cls, guidance: Guidance | None = None) -> SeparationConfig:
        """What the released code does."""
        return cls(guidance=guidance or Hybrid())

    @classmethod
    def paper(cls, guidance: Guidance | None = None) -> SeparationConfig:
        """What the text says: squared losses, groups averaged, sigma not scaled (`DSG.paper()` does the same), no clamp."""
        return cls(guidance=guidance or Hybrid.paper(), loss=ReconstructionLoss.paper(), clamp=None)

    @classmethod
    def recommended(cls, guidance: Guidance | None = None) -> SeparationConfig:
        """What this project's measurements favour: fewer steps, even in log-SNR, and a matching step size."""
        return cls(
            guidance=guidance or Hybrid(s_floor=0.004, sigma_scale=0.2), normalize="peak", project=True, steps=33, start="init_step"
        )

    def replace(self, **changes) -> SeparationConfig:
        return replace(self, **changes)

    def __post_init__(self):
        _one_of("grad_norm", self.grad_norm, ("source", "joint"))
        _one_of("init", self.init, ("mixture", "noise"))
        _one_of("start", self.start, ("T", "init_step"))
        _one_of("init_noise", self.init_noise, ("shared", "independent"))
        _one_of("normalize", self.normalize, ("none", "peak"))
        if self.hypotheses < 1:
            raise ValueError(f"hypotheses is {self.hypotheses}; it must be at least 1")


@dataclass(frozen=True)
class AnalyticalConfig:
    """Analytical sampling (Iashchenko et al. 2023), no gradients.

    Attributes:
        coefficient: share of the remaining difference that each pass adds to every source; None shifts each by 1 / K of
            the difference, an exact projection onto the mixture for any K (difference 20).
        passes: fixed-point passes in each step, with a coefficient.
        corrector: Langevin step with the same noise prediction where 0 < t < corrector_below.
        corrector_below: index of the training chain.
        corrector_snr: its signal-to-noise ratio; the released 1e-5 makes the corrector a no-op.
        clamp, normalize: as in `SeparationConfig`; the released code normalises by the peak here, and only here.
    """

    coefficient: float | None = 0.5
    passes: int = 2
    corrector: bool = True
    corrector_below: int = 150
    corrector_snr: float = 1e-5
    clamp: float | None = 1.0
    normalize: Literal["none", "peak"] = "peak"

    @classmethod
    def authors(cls) -> AnalyticalConfig:
        """The released code's constants, tuned for two sources."""
        return cls()

    @classmethod
    def recommended(cls) -> AnalyticalConfig:
        """An exact projection for any number of sources, without the corrector."""
        return cls(coefficient=None, corrector=False)

    def replace(self, **changes) -> AnalyticalConfig:
        return replace(self, **changes)

    def __post_init__(self):
        _one_of("normalize", self.normalize, ("none", "peak"))


@dataclass(frozen=True)
class StepRecord:
    """One step of a run, as `on_step` receives it; shapes without the leading B for a single mixture.

    Attributes:
        step: 0 for the first update of the run.
        t: what the schedule told the prior.
        x_t: state before the step, [B, K, N].
        x0_hat: Tweedie estimates, [B, K, N].
        loss: L_recons, [B].
        g_prior: posterior mean - x_t, [B, K, N].
        g_cond: - d L_recons / d x_t, [B, K, N].
        gamma: [B, K].
        x_prev: state after the step, [B, K, N].
    """

    step: int
    t: int
    x_t: Tensor
    x0_hat: Tensor
    loss: Tensor
    g_prior: Tensor
    g_cond: Tensor
    gamma: Tensor
    x_prev: Tensor


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


def separate(
    mixture: Tensor,
    prior: Prior | Sequence[Prior],
    labels: Sequence[Label] | Sequence[Sequence[Label]],
    schedule: NoiseSchedule | None = None,
    config: SeparationConfig | None = None,
    noise: int | Sequence[int] | NoiseSource = 0,
    on_step: Callable[[StepRecord], None] | None = None,
    sample_rate: int | None = None,
    progress: bool = False,
) -> Separation:
    """Separate a mixture, or a batch of mixtures, by Algorithm 1.

    Args:
        mixture: [N] or [B, N], floating point, finite.
        prior: one prior for all sources, or a list of K, one for each; rows that share a prior go through it in one call.
        labels: K entries, or [B][K]: an integer, a class name that the prior knows, or None for its unconditional class.
        schedule: by default the one that the first prior was trained on.
        config: by default `SeparationConfig.recommended()`.
        noise: a seed; for a batch, one seed for each mixture, or one seed s that stands for s, s + 1, ...; or a callable
            noise(kind, i, shape), i counting the calls of a kind from 0: "init" ([N] shared, [K, N] independent) and
            "step" ([K, N]), with a leading B for batches. Hypotheses draw one after the other.
        on_step: called with a `StepRecord` after each update; needs hypotheses = 1.
        sample_rate: of the mixture, in Hz; checked against the priors' where both are known.
        progress: show a progress bar.

    Raises:
        TypeError: integer samples.
        ValueError: samples, labels, priors, schedule or rates that do not fit; the message says which.
    """
    config = config or SeparationConfig.recommended()
    if on_step is not None and config.hypotheses > 1:
        raise ValueError(f"on_step records one run, and hypotheses is {config.hypotheses}")
    task = _Task(mixture, prior, labels, schedule, noise, sample_rate, config.hypotheses)
    y, scale = _normalised(task.mixture, config.normalize)
    s = task.schedule
    if config.steps is not None:
        last = s.position(config.init_step) if config.start == "init_step" else None
        s = s.respace(config.steps, config.spacing, last)
    t_star = s.position(config.init_step)

    # Algorithm 1, line 2, and Eq. 12: every source starts from the noised mixture.
    e = task.noise("init", shared=config.init_noise == "shared")
    if config.init == "mixture":
        alpha_bar = s.at(s.alpha_bar, t_star, y)
        x_t = (alpha_bar.sqrt() * y[:, None] + (1 - alpha_bar).sqrt() * e).expand(task.shape)
    else:
        x_t = e.expand(task.shape)

    start = t_star if config.start == "init_step" else len(s) - 1
    for step, t in enumerate(_steps(start, progress)):
        # Lines 4-9: Tweedie estimate and prior step, for all sources at once.
        x_t = x_t.detach().requires_grad_()
        with torch.enable_grad():
            x0_hat = tweedie(x_t, task.eps(x_t, s.index[t]), t, s, config.clamp)
            # Lines 10-11: compare the sum of the estimates with the mixture.
            loss = config.loss(y, x0_hat.sum(1))
            if isinstance(config.guidance, MMPS):
                gradient = -config.guidance.shift(y, x_t, x0_hat, t, s)
            else:
                # Line 14: one backward pass; mixtures do not share anything, so the sum over the batch changes no gradient.
                (gradient,) = torch.autograd.grad(loss.sum(), x_t)
        with torch.no_grad():
            mean = posterior_mean(x_t, x0_hat, t, s)
            z = s.at(s.sigma, t, x_t) * task.noise("step") if t else torch.zeros_like(mean)
            # Line 15: the guided update.
            norm = _gradient_norm(gradient, config.grad_norm)
            x_prev, gamma = guided_step(config.guidance, mean, z, gradient, norm, t, s)
            if on_step is not None:
                x, x0 = x_t.detach(), x0_hat.detach()
                on_step(task.record(step, int(s.index[t]), x, x0, loss.detach(), mean - x, -gradient, gamma, x_prev))
        x_t = x_prev

    sources = x_t
    if config.project:
        sources = sources + (y - sources.sum(1))[:, None] / task.K
    return Separation(task.unbatch(sources / scale[:, None]), config.hypotheses * (start + 1), s)


def separate_analytical(
    mixture: Tensor,
    prior: Prior | Sequence[Prior],
    labels: Sequence[Label] | Sequence[Sequence[Label]],
    schedule: NoiseSchedule | None = None,
    config: AnalyticalConfig | None = None,
    noise: int | Sequence[int] | NoiseSource = 0,
    sample_rate: int | None = None,
    progress: bool = False,
) -> Separation:
    """Separate by analytical sampling: reverse steps, each followed by a shift of the sources towards the mixture.

    Arguments and errors are those of `separate`; the kinds of noise are "init" ([K, N], independent), "step" and
    "corrector" ([K, N]).
    """
    config = config or AnalyticalConfig.authors()
    task = _Task(mixture, prior, labels, schedule, noise, sample_rate)
    y, scale = _normalised(task.mixture, config.normalize)
    s = task.schedule
    calls = 0

    with torch.no_grad():
        x = task.noise("init").expand(task.shape)
        for t in _steps(len(s) - 1, progress):
            x0_hat = tweedie(x, task.eps(x, s.index[t]), t, s, config.clamp)
            z = task.noise("step") if t else torch.zeros_like(x)
            sample = posterior_mean(x, x0_hat, t, s) + s.at(s.sigma, t, x) * z
            calls += 1

            if config.coefficient is None:
                x = sample + (y - sample.sum(1))[:, None] / task.K
            else:
                # The first pass compares the old state: exact for K = 2 and 0.5, not a projection for K = 3.
                total = torch.zeros_like(y)
                for _ in range(config.passes):
                    total = total + y - x.sum(1)
                    x = sample + config.coefficient * total[:, None]

            if config.corrector and 0 < s.index[t] < config.corrector_below:
                x = _corrector(x, y, task, t, s, config.corrector_snr)
                calls += 1
    return Separation(task.unbatch(x / scale[:, None]), calls, s)


def _corrector(x: Tensor, y: Tensor, task: _Task, t: int, s: NoiseSchedule, snr: float) -> Tensor:
    """Langevin step of the released code, whose score has the sign of the noise prediction (a true score is -eps / ...)."""
    score = task.eps(x, s.index[t]) / (1 - s.at(s.alpha_bar, t, x)).sqrt()
    z = task.noise("corrector")
    size = torch.linalg.vector_norm
    step = 2 * (1 - s.at(s.beta, t, x)) * (snr * size(z, dim=-1, keepdim=True) / size(score, dim=-1, keepdim=True)) ** 2
    return x + step * (score + (y - x.sum(1))[:, None]) + (2 * step).sqrt() * z


class _Task:
    """A checked separation task: mixtures [B, N], one prior and one label for each source, the noise of the run.

    With H hypotheses each mixture stands in H successive rows, B = H times the number of mixtures.
    """

    def __init__(self, mixture, prior, labels, schedule, noise, sample_rate, hypotheses=1):
        mixtures = _checked(mixture)
        self.single, self.hypotheses = mixture.ndim == 1, hypotheses
        self.labels = [row for row in _label_rows(labels, len(mixtures)) for _ in range(hypotheses)]
        self.mixture = mixtures.repeat_interleave(hypotheses, 0)
        B, self.K, N = len(self.mixture), len(self.labels[0]), self.mixture.shape[-1]
        self.shape = (B, self.K, N)
        priors = list(prior) if isinstance(prior, Sequence) else [prior] * self.K
        if len(priors) != self.K:
            raise ValueError(f"{len(priors)} priors for K = {self.K} labels; give one prior, or one for each source")
        self.schedule = _fitting_schedule(priors, schedule)
        _check_rates(priors, sample_rate)
        # Sources that share a prior form one group; each group's rows go through it in one call.
        distinct = {id(p): p for p in priors}.values()
        self.groups = [(p, [k for k in range(self.K) if priors[k] is p]) for p in distinct]
        self.group_labels = [self._group_labels(p, ks) for p, ks in self.groups]
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

    def unbatch(self, x: Tensor) -> Tensor:
        """The mean over hypotheses, without the leading B for a single mixture."""
        x = x.unflatten(0, (-1, self.hypotheses)).mean(1) if self.hypotheses > 1 else x
        return x[0] if self.single else x

    def record(self, step: int, t: int, *tensors: Tensor) -> StepRecord:
        return StepRecord(step, t, *(self.unbatch(a) for a in tensors))


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
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}, more signals than samples; is it transposed stereo?")
    if not torch.isfinite(mixture).all():
        raise ValueError("mixture has NaN or infinite samples")
    return mixture.detach().reshape(-1, mixture.shape[-1])


def _label_rows(labels, batch: int) -> list[list[Label]]:
    """[B][K] labels from K labels or [B][K]."""
    labels = list(labels)
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
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        raise ValueError(f"label of source {k} is {label!r}; accepted are an integer, a class name or None")
    if names is None:
        if isinstance(label, str):
            raise ValueError(f"label of source {k} is {label!r}, but this prior has no class names")
        return label
    if label is None:
        return prior.unconditional
    if isinstance(label, str):
        if label not in names:
            raise ValueError(f"label of source {k} is {label!r}; this prior knows {', '.join(names) or 'no classes (it is unconditional)'}")
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
        fits = own.T_train == schedule.T_train and torch.allclose(own.alpha_bar[schedule.index], schedule.alpha_bar, atol=1e-6)
        if not fits:
            raise ValueError(f"this schedule ({schedule.T_train} steps) is not the one that a prior was trained on ({own.T_train} steps)")
    return schedule


def _check_rates(priors: list[Prior], sample_rate: int | None) -> None:
    rates = {rate for p in priors if (rate := getattr(p, "sample_rate", None)) is not None}
    if len(rates) > 1:
        raise ValueError(f"the priors have different sample rates: {sorted(rates)} Hz")
    if sample_rate is not None and rates and sample_rate not in rates:
        raise ValueError(f"the mixture is at {sample_rate} Hz, the prior at {rates.pop()} Hz; resample the mixture")


def _noise_source(noise, batch: int, single: bool) -> NoiseSource:
    if callable(noise):
        return noise
    seeds = [noise + b for b in range(batch)] if isinstance(noise, int) else [int(seed) for seed in noise]
    if len(seeds) != batch:
        raise ValueError(f"{len(seeds)} seeds for {batch} mixtures")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(kind: str, i: int, shape: tuple[int, ...]) -> Tensor:
        rows = [torch.randn(shape if single else shape[1:], generator=g) for g in generators]
        return rows[0] if single else torch.stack(rows)

    return draw


def _normalised(y: Tensor, normalize: str) -> tuple[Tensor, Tensor]:
    """Mixtures at the working level, and the factor [B, 1] that brought them there; silence stays as it is."""
    peak = y.abs().amax(-1, keepdim=True)
    scale = torch.where(peak > 0, PEAK / peak, 1) if normalize == "peak" else torch.ones_like(peak)
    return y * scale, scale


def _gradient_norm(gradient: Tensor, over: str) -> Tensor:
    """[B, K, N] -> [B, K]."""
    if over == "source":
        return torch.linalg.vector_norm(gradient, dim=-1)
    return torch.linalg.vector_norm(gradient, dim=(1, 2))[:, None].expand(gradient.shape[:2])


def _steps(start: int, progress: bool):
    steps = reversed(range(start + 1))
    if not progress:
        return steps
    from tqdm.auto import tqdm

    return tqdm(steps, total=start + 1, unit="step")


def _one_of(name: str, value, accepted: tuple) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(repr, accepted))}")
