"""Guidance rules: what a rule is, and DPS, DSG, the paper's hybrid, CQTDiff's (Table 1, Eq. 10, 11), and one beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ._checks import one_of
from .reconstruction import Loss
from .schedule import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a rule sees of one step: the sources as the priors guess them, and what they must explain.

    Attributes:
        mixture: y, [B, N].
        x_t: states before the step, [B, K, N].
        x0_hat: Tweedie's estimates of the sources, [B, K, N]; a function of `x_t` for rules that need gradients.
        t: position in the schedule, 0 is the cleanest.
        schedule: the steps of the run.
        from_x0: weight of `x0_hat` in the mean of the state after the step; a rule that corrects the estimates by d
            moves the state by from_x0 d.
        criterion: L_recons, see `Loss`.
    """

    mixture: Tensor
    x_t: Tensor
    x0_hat: Tensor
    t: int
    schedule: NoiseSchedule
    from_x0: float
    criterion: Loss

    @cached_property
    def loss(self) -> Tensor:
        """L_recons of the sum of the estimates, [B] (Algorithm 1, lines 10 and 11); computed when first asked for."""
        loss = self.criterion(self.mixture, self.x0_hat.sum(1))
        if loss.shape != self.mixture.shape[:1]:
            raise ValueError(f"loss has shape {list(loss.shape)} for {len(self.mixture)} mixtures; [B] is needed")
        return loss


@runtime_checkable
class Guidance(Protocol):
    """What `separate` asks of a guidance rule: any object with these three will do, and nothing is registered.

    A frozen dataclass is a good form, since its printed form tells stored results apart. With `strength(schedule)` [T]
    besides, a rule can be drawn by `show.guidance_curves`. `GradientRule` has all of it but gamma(t).

    Attributes:
        needs_gradient: whether `direction` differentiates `x0_hat` with respect to `x_t`; without it the priors run
            forward only.
    """

    needs_gradient: bool

    def direction(self, estimates: Estimates) -> Tensor:
        """Where the states should move, [B, K, N]; recorded as g_cond (`StepRecord`)."""
        ...

    def step(
        self, mean: Tensor, noise: Tensor, direction: Tensor, norm: Tensor, t: int, schedule: NoiseSchedule
    ) -> tuple[Tensor, Tensor]:
        """The state after the step (Algorithm 1, line 15).

        Args:
            mean, noise: what the prior alone would do, [B, K, N]; the noise is sigma_t times standard normal.
            direction: see above, [B, K, N].
            norm: its L2 norm, [B, K]; of each source, or of all sources together (`SeparationConfig.grad_norm`).
            t, schedule: as in `Estimates`.

        Returns:
            x_{t-1} [B, K, N], and the factor gamma of the direction in it, [B, K].
        """
        ...


class GradientRule:
    """Guidance along the gradient of the loss (Eq. 6); a subclass has its own `gamma`, and `strength` to be drawn."""

    needs_gradient: ClassVar[bool] = True

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """gamma(t) without sqrt(N) / norm, the curve of Fig. 3, [T]."""
        raise NotImplementedError

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        raise NotImplementedError

    def direction(self, estimates: Estimates) -> Tensor:
        """-d L_recons / d x_t, [B, K, N] (Algorithm 1, line 14), by one backward pass for all sources."""
        # A mixture's loss depends on its own states alone, so the sum over the batch changes no gradient.
        (gradient,) = torch.autograd.grad(estimates.loss.sum(), estimates.x_t)
        return -gradient

    def step(
        self, mean: Tensor, noise: Tensor, direction: Tensor, norm: Tensor, t: int, schedule: NoiseSchedule
    ) -> tuple[Tensor, Tensor]:
        """mean + noise + gamma direction (Algorithm 1, line 15), and gamma; see `Guidance.step`."""
        gamma = self.gamma(schedule, t, norm, mean.shape[-1])
        return mean + noise + gamma[..., None] * direction, gamma


def smooth_max(a: Tensor | float, b: Tensor | float, sharpness: float) -> Tensor:
    """SmoothMax_c(a, b) = log(exp(c a) + exp(c b)) / c, computed without overflow (Eq. 10); c is `sharpness` > 0."""
    if sharpness <= 0:
        raise ValueError(f"sharpness is {sharpness}; it must be positive")
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return torch.logaddexp(sharpness * a, sharpness * b) / sharpness


@dataclass(frozen=True)
class DPS(GradientRule):
    """Constant gamma (Chung et al. 2023). The paper gives no constant; 1.5 is the released code's (difference 11)."""

    scale: float = 1.5

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """gamma(t) itself, [T]."""
        return torch.full_like(schedule.alpha_bar, self.scale)

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        return torch.full_like(norm, self.scale)


@dataclass(frozen=True)
class DSG(GradientRule):
    """gamma proportional to sigma(t) (Yang et al. 2024), a step of length sigma_scale sigma(t) sqrt(N).

    Attributes:
        sigma_scale: factor on sigma(t); 0.09 in the released code, 1 in the text (difference 1).
        variant: "authors" adds the step to the noisy sample; "original" turns the noise of the step itself towards the
            gradient and keeps its length, sigma(t) sqrt(N) (difference 9).
        mix: fraction of the gradient's direction in the original variant, 0 to 1.
    """

    sigma_scale: float = 0.09
    variant: Literal["authors", "original"] = "authors"
    mix: float = 0.2

    @classmethod
    def authors(cls) -> DSG:
        """The released code's constants."""
        return cls()

    @classmethod
    def paper(cls) -> DSG:
        """Table 1 as printed: sigma(t) as it is."""
        return cls(sigma_scale=1.0)

    def __post_init__(self):
        one_of("variant", self.variant, ("authors", "original"))

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """sigma_scale sigma(t), the curve of Fig. 3, [T]."""
        return self.sigma_scale * schedule.sigma

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        radius = float(self.strength(schedule)[t]) * math.sqrt(N)
        direction = radius / (norm + 1e-8)
        return radius * direction / (direction * norm + 1e-8)

    def step(
        self, mean: Tensor, noise: Tensor, direction: Tensor, norm: Tensor, t: int, schedule: NoiseSchedule
    ) -> tuple[Tensor, Tensor]:
        """As for all gradient rules; in the original variant, mean + the noise turned towards the direction."""
        if self.variant == "authors":
            return super().step(mean, noise, direction, norm, t, schedule)
        radius = float(schedule.sigma[t]) * math.sqrt(mean.shape[-1])
        descent = radius * direction / (norm[..., None] + 1e-8)
        turned = noise + self.mix * (descent - noise)
        length = torch.linalg.vector_norm(turned, dim=-1, keepdim=True)
        return mean + radius * turned / (length + 1e-8), self.mix * radius / (norm + 1e-8)


@dataclass(frozen=True)
class Hybrid(GradientRule):
    """The paper's rule, Eq. 11: SmoothMax of sigma_scale sigma(t) and a floor, a step of that length times sqrt(N).

    Attributes:
        s_floor: step that is left at low noise.
        sharpness: c of SmoothMax.
        sigma_scale: factor on sigma(t); 0.09 in the released code, 1 in the text (difference 1).
    """

    s_floor: float = 0.002
    sharpness: float = 1000.0
    sigma_scale: float = 0.09

    @classmethod
    def authors(cls) -> Hybrid:
        """The released code's constants."""
        return cls()

    @classmethod
    def paper(cls) -> Hybrid:
        """Eq. 11 as printed: sigma(t) as it is."""
        return cls(sigma_scale=1.0)

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """SmoothMax(sigma_scale sigma(t), s_floor), the curve of Fig. 3, [T]."""
        return smooth_max(self.sigma_scale * schedule.sigma, self.s_floor, self.sharpness)

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        return float(self.strength(schedule)[t]) * math.sqrt(N) / (norm + 1e-8)


@dataclass(frozen=True)
class CQT(GradientRule):
    """The rule of CQTDiff (Moliner et al. 2023) as the released code has it: a step growing as the noise fades."""

    xi: float = 0.001

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """xi / sqrt(1 - alpha_bar_t), [T]."""
        return self.xi / (1 - schedule.alpha_bar).sqrt()

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        noise = float((1 - schedule.alpha_bar[t]).sqrt())
        return self.xi * math.sqrt(N) / (norm * noise + 1e-6)


@dataclass(frozen=True)
class Wiener:
    """Shares in place of gradients, beyond the paper: what the estimates miss of the mixture goes to them bin by bin.

    Were sources Gaussian with power P in a bin, x_t would leave each the variance V = P s / (P + s), s being the
    noise's power, and the exact step gives each source the fraction V / sum V of the remaining difference. The power is
    read off the estimates themselves. The fractions sum to one: x0_hat then sums to the mixture in every step.

    Attributes:
        n_fft: window of the STFT in samples, Hann, a quarter of it apart.
        floor: power that every estimate is granted besides its own, as a fraction of s; it keeps a source that is not
            yet found from losing everything to the others.
    """

    needs_gradient: ClassVar[bool] = False

    n_fft: int = 512
    floor: float = 0.1

    def __post_init__(self):
        if self.n_fft < 16 or self.floor < 0:
            raise ValueError(f"n_fft is {self.n_fft} and floor {self.floor}; need at least 16, and at least 0")

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """One in every step: the shift has the right length, [T]."""
        return torch.ones_like(schedule.alpha_bar)

    def direction(self, estimates: Estimates) -> Tensor:
        """`shift`, as it moves the state, [B, K, N]."""
        return estimates.from_x0 * self.shift(estimates.mixture, estimates.x0_hat, estimates.t, estimates.schedule)

    def step(
        self, mean: Tensor, noise: Tensor, direction: Tensor, norm: Tensor, t: int, schedule: NoiseSchedule
    ) -> tuple[Tensor, Tensor]:
        """mean + noise + direction, whatever its norm: gamma is 1."""
        return mean + noise + direction, torch.ones_like(norm)

    def shift(self, mixture: Tensor, x0_hat: Tensor, t: int, schedule: NoiseSchedule) -> Tensor:
        """What moves the estimates x0_hat [B, K, N] to sum to the mixture [B, N]: [B, K, N]."""
        window = torch.hann_window(self.n_fft, dtype=x0_hat.dtype, device=x0_hat.device)
        settings = {"n_fft": self.n_fft, "hop_length": self.n_fft // 4, "window": window}

        def spectrum(signals: Tensor) -> Tensor:  # [B, K, N] -> [B, K, bins, frames]
            # Zeros beyond the ends suit any length.
            X = torch.stft(signals.flatten(0, 1), **settings, pad_mode="constant", return_complex=True)
            return X.unflatten(0, signals.shape[:2])

        s = schedule.at(schedule.noise_to_signal, t, x0_hat).square() * window.square().sum()
        P = spectrum(x0_hat).abs().square() + self.floor * s
        V = (P * s / (P + s)).clamp(min=1e-20)
        difference = spectrum((mixture - x0_hat.sum(1))[:, None])
        fractions = V / V.sum(1, keepdim=True)
        shift = torch.istft((fractions * difference).flatten(0, 1), **settings, length=x0_hat.shape[-1])
        return shift.unflatten(0, x0_hat.shape[:2])
