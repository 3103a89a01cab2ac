"""Rules for the guidance strength gamma(t): DPS, DSG, the paper's hybrid, CQTDiff's (Table 1, Eq. 10, 11), and one beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .schedule import NoiseSchedule


def smooth_max(a: Tensor | float, b: Tensor | float, sharpness: float) -> Tensor:
    """SmoothMax_c(a, b) = log(exp(c a) + exp(c b)) / c, computed without overflow (Eq. 10); c is `sharpness` > 0."""
    if sharpness <= 0:
        raise ValueError(f"sharpness is {sharpness}; it must be positive")
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return torch.logaddexp(sharpness * a, sharpness * b) / sharpness


@dataclass(frozen=True)
class DPS:
    """Constant gamma (Chung et al. 2023). The paper does not give the constant; 1.5 is the released code's (difference 11)."""

    scale: float = 1.5

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """gamma(t) itself, [T]."""
        return torch.full_like(schedule.alpha_bar, self.scale)

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        return torch.full_like(norm, self.scale)


@dataclass(frozen=True)
class DSG:
    """gamma proportional to sigma(t) (Yang et al. 2024), a step of length sigma_scale sigma(t) sqrt(N).

    Attributes:
        sigma_scale: factor on sigma(t); 0.09 in the released code, 1 in the text (difference 1).
        variant: "authors" adds the step to the noisy sample; "original" turns the noise of the step itself towards the
            gradient and keeps its length, sigma(t) sqrt(N) (difference 9).
        mix: share of the gradient's direction in the original variant, 0 to 1.
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
        if self.variant not in ("authors", "original"):
            raise ValueError(f"variant is {self.variant!r}; accepted are 'authors' and 'original'")

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """sigma_scale sigma(t), the curve of Fig. 3, [T]."""
        return self.sigma_scale * schedule.sigma

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        radius = float(self.strength(schedule)[t]) * math.sqrt(N)
        direction = radius / (norm + 1e-8)
        return radius * direction / (direction * norm + 1e-8)


@dataclass(frozen=True)
class Hybrid:
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
class CQT:
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
class MMPS:
    """Moment matching posterior sampling (Rozet et al. 2024), beyond the paper: no step size, but the exact one.

    Given x_t, a source has mean x0_hat and, by Tweedie's second-order formula, covariance (1 - alpha_bar) / sqrt(alpha_bar)
    times the Jacobian of x0_hat. Were it Gaussian, the mixture would move its mean by `shift`; that takes products with
    the Jacobian alone. The shift enters the posterior mean as x0_hat does.

    Attributes:
        iterations: of conjugate gradients, one backward pass each. One is the step of DPS for the time loss with an exact
            line search.
        noise: standard deviation of the mixture's noise n (Eq. 3), which also bounds the step.
    """

    iterations: int = 1
    noise: float = 0.01

    def __post_init__(self):
        if self.iterations < 1 or self.noise <= 0:
            raise ValueError(f"iterations is {self.iterations} and noise {self.noise}; need at least 1, and more than 0")

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """Weight of the shift in x_{t-1}, that of x0_hat in the posterior mean, [T]."""
        return schedule.posterior_x0

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """The strength for each source, [...], whatever the norm: the shift has the right length."""
        return torch.full_like(norm, float(self.strength(schedule)[t]))

    def shift(self, mixture: Tensor, x_t: Tensor, x0_hat: Tensor, t: int, schedule: NoiseSchedule) -> Tensor:
        """E[x_0 | x_t, mixture] - E[x_0 | x_t] of each source, [B, K, N].

        Args:
            mixture: [B, N].
            x_t, x0_hat: [B, K, N]; x0_hat with its graph from x_t.
        """
        alpha_bar = schedule.at(schedule.alpha_bar, t, mixture)
        residual = mixture - x0_hat.detach().sum(1)
        shift, direction, power = torch.zeros_like(x0_hat), residual, _power(residual)
        for i in range(self.iterations):
            (product,) = torch.autograd.grad(
                x0_hat, x_t, direction[:, None].expand_as(x0_hat), retain_graph=i + 1 < self.iterations
            )
            spread = (1 - alpha_bar) / alpha_bar.sqrt() * product  # each source's covariance times the direction
            image = spread.sum(1) + self.noise**2 * direction
            curvature = (direction * image).sum(-1, keepdim=True)
            # A network's Jacobian is not quite a covariance: no step where it says that variance is negative.
            step = torch.where(curvature > 0, power / curvature.clamp(min=1e-12), 0)
            shift = shift + step[:, None] * spread
            residual = residual - step * image
            power, previous = _power(residual), power
            direction = residual + power / previous.clamp(min=1e-12) * direction
        return shift


def _power(signal: Tensor) -> Tensor:
    return signal.square().sum(-1, keepdim=True)


Guidance = DPS | DSG | Hybrid | CQT | MMPS


def guided_step(
    rule: Guidance, mean: Tensor, noise: Tensor, gradient: Tensor, norm: Tensor, t: int, schedule: NoiseSchedule
) -> tuple[Tensor, Tensor]:
    """x_{t-1} from the posterior mean, the step's noise (sigma_t times standard normal) and the loss gradient.

    Args:
        mean, noise, gradient: [B, K, N].
        norm: L2 norm of the gradient, [B, K]; for each source, or for all sources together.

    Returns:
        x_{t-1} [B, K, N] = mean + noise - gamma gradient (Algorithm 1, line 15), and gamma [B, K].
    """
    gamma = rule.gamma(schedule, t, norm, mean.shape[-1])
    if isinstance(rule, DSG) and rule.variant == "original":
        radius = float(schedule.sigma[t]) * math.sqrt(mean.shape[-1])
        descent = -radius * gradient / (norm[..., None] + 1e-8)
        turned = noise + rule.mix * (descent - noise)
        length = torch.linalg.vector_norm(turned, dim=-1, keepdim=True)
        return mean + radius * turned / (length + 1e-8), rule.mix * radius / (norm + 1e-8)
    return mean + noise - gamma[..., None] * gradient, gamma
