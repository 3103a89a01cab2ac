"""Separation by guided reverse diffusion: Algorithm 1 and mixture initialisation (Eq. 12).

`algorithm_1` is the paper's page in code, to be read; `separate` is the same loop with everything that one may vary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from . import _lazy
from ._checks import one_of
from .diffusion import Prior, forward_noise, posterior_step, reverse_weights, tweedie
from .guidance import Estimates, GradientRule, Guidance, Hybrid, Wiener
from .reconstruction import Loss, ReconstructionLoss
from .schedule import NoiseSchedule
from .task import Label, NoiseSource, RunState, Separation, SeparationTask, checked_config, countdown, normalised

__getattr__ = _lazy.renamed(
    __name__, {name: f"analytical.{name}" for name in ("AnalyticalConfig", "separate_analytical")}
)


@dataclass(frozen=True)
class SeparationConfig:
    """Algorithm 1, with a field for every choice in which the paper's text and the released code differ.

    Attributes:
        guidance: a rule; any object that has what `Guidance` names.
        loss: L_recons; any callable that does what `Loss` says.
        grad_norm: L2 norm of the gradient for each "source", or "joint" over all sources (difference 5).
        init: start from the noised "mixture" (Eq. 12) or from "noise".
        init_step: t*, counted from 1: the noise level of the initial state is that of index t* - 1 (difference 6).
        start: first step of the loop, "T" (Algorithm 1 and the released code) or "init_step" (difference 7).
        init_noise: one initial noise "shared" by all sources, or "independent" ones (difference 8).
        clamp: limit of x0_hat, None for none (difference 12).
        normalize: "peak" scales the mixture to a peak of 0.95 before and undoes it after; "none" (difference 18).
        project: add the remaining difference to the mixture to all sources in equal parts at the end.
        steps, spacing: respace the schedule to this many steps (`NoiseSchedule.respace`); None keeps all.
        renoise: None for the posterior step (Algorithm 1, lines 8-9); else the fraction of a step's noise that is fresh
            (`reverse_weights`).
        hypotheses: runs with noise of their own whose mean is the result. One run is a sample of the posterior; the
            mean of many comes close to its mean, which has the least squared error.
    """

    guidance: Guidance = field(default_factory=Hybrid)
    loss: Loss = field(default_factory=ReconstructionLoss)
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
    renoise: float | None = None
    hypotheses: int = 1

    @classmethod
    def authors(cls, guidance: Guidance | type[Guidance] = Hybrid) -> SeparationConfig:
        """What the released code does, with the hybrid rule, another class of rules, or a rule as it is given."""
        return cls(guidance=_preset(guidance, "authors"))

    @classmethod
    def paper(cls, guidance: Guidance | type[Guidance] = Hybrid) -> SeparationConfig:
        """What the text says: squared losses, groups averaged, sigma not scaled, no clamp.

        Args:
            guidance: a class of rules, which is given the text's constants: `paper(DSG)`; or a rule with constants of
                your own.

        Raises:
            ValueError: a rule holds the released code's constant where the text has another, as DSG() does. To combine
                the two on purpose: `paper().replace(guidance=DSG())`.
        """
        rule = _preset(guidance, "paper")
        if hasattr(rule, "paper") and hasattr(rule, "authors"):
            text, code = vars(type(rule).paper()), vars(type(rule).authors())
            for name, value in vars(rule).items():
                if value == code[name] != text[name]:
                    raise ValueError(
                        f"guidance is {rule}, and {name} = {value} is the released code's, where the text has "
                        f"{text[name]}; give the class {type(rule).__name__}, or use replace(guidance=...)"
                    )
        return cls(guidance=rule, loss=ReconstructionLoss.paper(), clamp=None)

    @classmethod
    def short(cls, guidance: Guidance | None = None) -> SeparationConfig:
        """Algorithm 1 in 33 steps, even in log-SNR, with a step size to match: gradients that a CPU can afford."""
        rule = guidance or Hybrid(s_floor=0.004, sigma_scale=0.2)
        return cls(guidance=rule, normalize="peak", project=True, steps=33, start="init_step")

    @classmethod
    def recommended(cls, alike: bool = False) -> SeparationConfig:
        """What this project's measurements favour: no gradients, few steps with fresh noise, the mean of four runs.

        Args:
            alike: for sources of one prior and one label, such as two voices. Only noise tells them apart, so that each
                has its own, and more of it; and six runs are averaged (section 14.8).
        """
        config = cls(
            guidance=Wiener(), normalize="peak", init_step=100, start="init_step", steps=10, renoise=1.0, hypotheses=4
        )
        return config.replace(init_step=175, init_noise="independent", hypotheses=6) if alike else config

    def replace(self, **changes) -> SeparationConfig:
        return replace(self, **changes)

    def chain(self, schedule: NoiseSchedule) -> tuple[NoiseSchedule, int]:
        """The schedule that a run takes, and the index of its first step."""
        if self.steps is not None:
            last = schedule.index_of(self.init_step) if self.start == "init_step" else None
            schedule = schedule.respace(self.steps, self.spacing, last)
        return schedule, schedule.index_of(self.init_step) if self.start == "init_step" else len(schedule) - 1

    def run_length(self, schedule: NoiseSchedule) -> int:
        """Steps of one run."""
        return self.chain(schedule)[1] + 1

    def calls(self, schedule: NoiseSchedule) -> int:
        """Network calls for each source, as `Separation.calls` will count them."""
        return self.hypotheses * self.run_length(schedule)

    def __post_init__(self):
        if isinstance(self.guidance, type) or not isinstance(self.guidance, Guidance):
            raise TypeError(f"guidance is {self.guidance!r}; a rule has needs_gradient, direction and step")
        one_of("grad_norm", self.grad_norm, ("source", "joint"))
        one_of("init", self.init, ("mixture", "noise"))
        one_of("start", self.start, ("T", "init_step"))
        one_of("init_noise", self.init_noise, ("shared", "independent"))
        one_of("normalize", self.normalize, ("none", "peak"))
        if self.renoise is not None and not 0 <= self.renoise <= 1:
            raise ValueError(f"renoise is {self.renoise}; it must be None, or 0 to 1")
        if self.hypotheses < 1:
            raise ValueError(f"hypotheses is {self.hypotheses}; it must be at least 1")


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
        g_cond: the rule's direction, [B, K, N]; for gradient rules - d L_recons / d x_t.
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


# Chapter 5 prints this function, so its lines are as wide as a page.
def algorithm_1(
    mixture: Tensor,
    priors: Sequence[Prior],
    labels: Sequence[int | None],
    schedule: NoiseSchedule,
    rule: GradientRule,
    loss: Loss,
    generator: torch.Generator | None = None,
    t_star: int = 150,
) -> Tensor:
    """Algorithm 1, line by line: what `separate` does for `SeparationConfig.paper()`.

    Args:
        mixture: y, [N].
        priors, labels: for each of the K sources its model, and what the model is
            told, an integer or None.
        schedule: T steps, all of which are taken.
        rule: has gamma(t); the paper's is `Hybrid.paper()`.
        loss: L_recons; the paper's is `ReconstructionLoss.paper()`.
        generator: source of all noise, on the CPU; a seed gives the same noise as
            `separate(..., noise=seed)`.
        t_star: t*, counted from 1.

    Returns:
        The sources, [K, N].
    """
    y, s, K, N = mixture, schedule, len(priors), len(mixture)
    c = [None if c is None else torch.tensor([c], device=y.device) for c in labels]
    # Lines 1-2, Eq. 12: all start from the mixture with the noise of step t*.
    epsilon = torch.randn(N, generator=generator).to(y)
    x_t = forward_noise(y, s.index_of(t_star), epsilon, s).repeat(K, 1)
    # Line 3: from the most noise to the least.
    for t in reversed(range(len(s))):
        x_t.requires_grad_()
        # Lines 4-6, Eq. 5: what each prior takes its source to be; it returns the
        # noise, a multiple of the score.
        told = s.timesteps[t : t + 1].to(y.device)
        noises = [prior(x_t[k : k + 1], told, c[k]) for k, prior in enumerate(priors)]
        eps = torch.cat(noises)
        x0_hat = tweedie(x_t, eps, t, s)
        # Lines 7-9: the step of the priors alone; the last one adds no noise.
        z = torch.randn(K, N, generator=generator).to(y) if t else torch.zeros_like(x_t)
        x_prior = posterior_step(x_t, x0_hat, t, s, z)
        # Lines 10-11: the estimates must add up to the mixture.
        y_hat = x0_hat.sum(0)
        L_recons = loss(y[None], y_hat[None]).sum()
        # Lines 12-14: the gradient through the priors, in one pass, and its strength.
        (gradient,) = torch.autograd.grad(L_recons, x_t)
        gamma = rule.gamma(s, t, torch.linalg.vector_norm(gradient, dim=-1), N)
        # Lines 15-17: the guided step.
        x_t = (x_prior - gamma[:, None] * gradient).detach()
    # Line 18.
    return x_t


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
    state: RunState | None = None,
) -> Separation:
    """Separate a mixture, or a batch of mixtures, by Algorithm 1 with any of its variations.

    Args:
        mixture: [N] or [B, N], finite, of any floating point; computed, and returned, in that of the priors' weights.
        prior: one prior for all sources, or a list of K, one for each; rows that share a prior go through it in one
            call. Any callable that does what `Prior` says.
        labels: K entries, or [B][K]: an integer, a class name that the prior knows, or None for its unconditional
            class.
        schedule: by default the one that the first prior was trained on.
        config: by default `SeparationConfig.recommended()`.
        noise: a seed; for a batch, one seed for each mixture, or one seed s that stands for s, s + 1, ...; or a
            callable noise(kind, i, shape), i counting the calls of a kind from 0: "init" ([N] shared, [K, N]
            independent) and "step" ([K, N]), with a leading B for batches. Hypotheses draw one after the other.
        on_step: called with a `StepRecord` after each update; needs hypotheses = 1.
        sample_rate: of the mixture, in Hz; checked against the priors' where both are known.
        progress: show a progress bar.
        state: file from which a run goes on that was stopped; its arguments must be those of the run that wrote it.

    Raises:
        TypeError: integer samples; noise of another kind; a prior or a configuration that is none, such as the name of
            one.
        ValueError: samples, labels, priors, schedule or rates that do not fit, or a rule or a loss that gives another
            shape than it should; the message says which.
        FloatingPointError: the result has NaN or infinite samples; with `state`, at the first step that has them, whose
            state is not kept.
    """
    config = checked_config(config or SeparationConfig.recommended(), SeparationConfig)
    if on_step is not None and config.hypotheses > 1:
        raise ValueError(f"on_step records one run, and hypotheses is {config.hypotheses}")
    task = SeparationTask(mixture, prior, labels, schedule, noise, sample_rate, config.hypotheses)
    y, scale = normalised(task.mixture, config.normalize)
    s, start = config.chain(task.schedule)
    x_t = _initial_state(y, task, s, config)
    done, x_t = state.load(x_t) if state else (0, x_t)
    for _ in range(min(done, start)):
        task.noise("step")  # which the steps that are done had drawn
    rule = config.guidance

    for step, t in enumerate(countdown(start - done, progress), done):
        # Lines 4-6: Tweedie's estimates, for all sources at once.
        x_t = x_t.detach().requires_grad_(rule.needs_gradient)
        with torch.set_grad_enabled(rule.needs_gradient):
            x0_hat = tweedie(x_t, task.eps(x_t, s.timesteps[t]), t, s, config.clamp)
            # Lines 10-14: where their sum misses the mixture, and where that sends the states.
            from_x0, from_xt, sigma = reverse_weights(t, s, config.renoise)
            estimates = Estimates(y, x_t, x0_hat, t, s, from_x0, config.loss)
            direction = rule.direction(estimates).detach()
            if direction.shape != x_t.shape:
                raise ValueError(f"a rule's direction has shape {list(direction.shape)}, the states {list(x_t.shape)}")
        with torch.no_grad():
            # Lines 7-8: the prior's own step, its mean and its noise; the last one has none.
            mean = from_x0 * x0_hat + from_xt * x_t
            noise = sigma * task.noise("step") if t else torch.zeros_like(x_t)
            # Line 15: the guided step.
            x_prev, gamma = rule.step(mean, noise, direction, _norm(direction, config.grad_norm), t, s)
            if on_step is not None:
                record = x_t, x0_hat, estimates.loss, mean - x_t, direction, gamma, x_prev
                on_step(StepRecord(step, int(s.timesteps[t]), *(task.unbatch(value.detach()) for value in record)))
        x_t = x_prev
        if state is not None:
            state.save(step + 1, task.finite(x_t, f"after step {step}, t = {int(s.timesteps[t])}"))

    if config.project:
        x_t = x_t + (y - x_t.sum(1))[:, None] / task.K
    return task.result(x_t, scale, config.hypotheses * (start + 1), s)


def _initial_state(y: Tensor, task: SeparationTask, s: NoiseSchedule, config: SeparationConfig) -> Tensor:
    """Algorithm 1, line 2, and Eq. 12: every source starts from the noised mixture; or from noise alone. [B, K, N]."""
    e = task.noise("init", shared=config.init_noise == "shared")
    x_t = forward_noise(y[:, None], s.index_of(config.init_step), e, s) if config.init == "mixture" else e
    return x_t.expand(task.shape)


def _norm(direction: Tensor, over: str) -> Tensor:
    """L2 norm of each source, or of all sources of a mixture together: [B, K, N] -> [B, K]."""
    if over == "source":
        return torch.linalg.vector_norm(direction, dim=-1)
    return torch.linalg.vector_norm(direction, dim=(1, 2))[:, None].expand(direction.shape[:2])


def _preset(guidance: Guidance | type[Guidance], preset: str) -> Guidance:
    """A class of rules with the constants of a preset, by default its only ones; a rule stays as it is."""
    return getattr(guidance, preset, guidance)() if isinstance(guidance, type) else guidance
