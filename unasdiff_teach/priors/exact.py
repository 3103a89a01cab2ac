"""Priors in closed form, for which score, Tweedie mean and posterior are known: the ground truth of book and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..schedule import NoiseSchedule


class _Exact:
    """What the exact priors share: eps and Tweedie mean are two forms of one score."""

    def __init__(self, schedule: NoiseSchedule | None):
        self.schedule = schedule or NoiseSchedule.linear()
        self.labels: tuple[str, ...] = ()
        self.unconditional = 0

    def _alpha_bar(self, t: int | Tensor, x_t: Tensor) -> Tensor:
        return self.schedule.at(self.schedule.alpha_bar, t, x_t)

    def __call__(self, x_t: Tensor, t: int | Tensor, label: Tensor | None = None) -> Tensor:
        """The exact noise prediction E[eps | x_t], [M, N]; `t` is an index of the training chain, or [M] of them."""
        return -(1 - self._alpha_bar(t, x_t)).sqrt() * self.score(x_t, t)

    def tweedie_mean(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """E[x_0 | x_t] by Tweedie's formula (Eq. 5), [M, N]."""
        alpha_bar = self._alpha_bar(t, x_t)
        return (x_t + (1 - alpha_bar) * self.score(x_t, t)) / alpha_bar.sqrt()


class Gaussian(_Exact):
    """x_0 ~ N(mean, covariance).

    Args:
        mean: number or [N].
        std: number or [N], independent samples; or give
        covariance: [N, N], symmetric positive definite.
        schedule: training chain; the paper's by default.
    """

    def __init__(
        self,
        mean: float | Tensor = 0.0,
        std: float | Tensor | None = None,
        covariance: Tensor | None = None,
        schedule: NoiseSchedule | None = None,
    ):
        super().__init__(schedule)
        if (std is None) == (covariance is None):
            raise ValueError("give either std or covariance")
        self.mean = torch.as_tensor(mean)
        if covariance is None:
            std = torch.as_tensor(std)
            if not (std > 0).all():
                raise ValueError("std must be positive")
            # A diagonal covariance needs no rotation: the basis stays None.
            self.variance, self.basis = std.double().square(), None
        else:
            if covariance.ndim != 2 or not torch.allclose(covariance, covariance.mT):
                raise ValueError(f"covariance of shape {tuple(covariance.shape)} must be square and symmetric")
            self.variance, self.basis = torch.linalg.eigh(covariance.double())
            if self.variance[0] <= 0:
                raise ValueError("covariance is not positive definite")

    def filter(self, x: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply gain(variance) along the principal axes of the covariance, [M, N] -> [M, N]."""
        if self.basis is None:
            return gain(self.variance).to(x) * x
        basis = self.basis.to(x)
        return ((x @ basis) * gain(self.variance).to(x)) @ basis.mT

    def score(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Gradient of log p_t at x_t, with x_t ~ N(sqrt(ab) mean, ab covariance + (1 - ab) I), [M, N]."""
        alpha_bar = self._alpha_bar(t, x_t)
        deviation = x_t - alpha_bar.sqrt() * self.mean.to(x_t)
        return -self.filter(deviation, lambda v: 1 / (alpha_bar * v.to(x_t) + 1 - alpha_bar))

    def covariance(self, N: int) -> Tensor:
        """The covariance matrix, [N, N] float64."""
        if self.basis is None:
            return torch.diag(self.variance.expand(N))
        return self.basis @ torch.diag(self.variance) @ self.basis.mT

    def sample(self, shape: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
        """Draw M signals, [M, N] float32."""
        return self.mean + self.filter(torch.randn(shape, generator=generator), torch.sqrt)


class StationaryGaussian(_Exact):
    """A zero-mean circular stationary Gaussian signal with a given spectrum: the Wiener filter's world.

    Args:
        power_spectrum: [N // 2 + 1], power of each rFFT bin for orthonormal transforms, > 0; all ones is white noise of
            unit variance.
        N: length of the signals, 2 (bins - 1) by default.
    """

    def __init__(self, power_spectrum: Tensor, N: int | None = None, schedule: NoiseSchedule | None = None):
        super().__init__(schedule)
        self.power = torch.as_tensor(power_spectrum).double()
        self.N = 2 * (len(self.power) - 1) if N is None else N
        if self.power.ndim != 1 or self.N // 2 + 1 != len(self.power):
            raise ValueError(
                f"power_spectrum has shape {tuple(self.power.shape)}; N = {self.N} needs [{self.N // 2 + 1}]"
            )
        if not (self.power > 0).all():
            raise ValueError("power_spectrum must be positive")

    def filter(self, x: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """Multiply the spectrum by gain(power), [..., N] -> [..., N]."""
        if x.shape[-1] != self.N:
            raise ValueError(f"a signal of {x.shape[-1]} samples; this prior is for {self.N}")
        return torch.fft.irfft(torch.fft.rfft(x) * gain(self.power).to(x), n=self.N)

    def score(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Gradient of log p_t at x_t, [M, N]."""
        alpha_bar = self._alpha_bar(t, x_t)
        return -self.filter(x_t, lambda power: 1 / (alpha_bar * power.to(x_t) + 1 - alpha_bar))

    def covariance(self, N: int) -> Tensor:
        """The circulant covariance matrix, [N, N] float64."""
        return self.filter(torch.eye(N, dtype=torch.float64), lambda power: power)

    def sample(self, shape: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
        """Draw M signals, [M, N] float32."""
        return self.filter(torch.randn(shape, generator=generator), torch.sqrt)


class GaussianMixture(_Exact):
    """x_0 from one of J Gaussians with independent samples.

    Args:
        weights: [J], positive; normalised to sum 1.
        means: [J, N].
        stds: [J] or [J, N], positive.
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor, schedule: NoiseSchedule | None = None):
        super().__init__(schedule)
        self.weights, self.means, stds = (torch.as_tensor(a, dtype=torch.float64) for a in (weights, means, stds))
        if self.means.ndim != 2 or len(self.weights) != len(self.means):
            raise ValueError(
                f"{tuple(self.weights.shape)} weights and means {tuple(self.means.shape)}; need [J] and [J, N]"
            )
        if not (self.weights > 0).all() or not (stds > 0).all():
            raise ValueError("weights and stds must be positive")
        self.weights = self.weights / self.weights.sum()
        self.variances = (stds[:, None] if stds.ndim == 1 else stds).square().expand_as(self.means)

    def _components(self, x_t: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """log(weight density) [M, J] and score [M, J, N] of each component at noise level t."""
        alpha_bar = self._alpha_bar(t, x_t[:, None])
        variance = alpha_bar * self.variances.to(x_t) + 1 - alpha_bar
        deviation = x_t[:, None] - alpha_bar.sqrt() * self.means.to(x_t)
        log_density = -0.5 * (deviation.square() / variance + (2 * torch.pi * variance).log()).sum(-1)
        return self.weights.log().to(x_t) + log_density, -deviation / variance

    def log_prob(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """log p_t(x_t), [M]."""
        return self._components(x_t, t)[0].logsumexp(-1)

    def score(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Gradient of log p_t at x_t, [M, N]: the components' scores, weighted by their responsibilities."""
        log_density, score = self._components(x_t, t)
        return (log_density.softmax(-1)[..., None] * score).sum(1)

    def sample(self, shape: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
        """Draw M signals, [M, N] float32."""
        component = torch.multinomial(self.weights, shape[0], replacement=True, generator=generator)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (self.means[component] + self.variances[component].sqrt() * noise).float()


def gaussian_posterior(
    mixture: Tensor, priors: Sequence[Gaussian | StationaryGaussian], mixture_noise: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The exact posterior of Gaussian sources given their sum (Eq. 3): its mean is the Wiener filter.

    Args:
        mixture: [N].
        priors: K independent Gaussian sources.
        mixture_noise: standard deviation of the noise n in Eq. 3.

    Returns:
        mean [K, N] and covariance [K, N, K, N], both float64.
    """
    y, N = mixture.double(), mixture.shape[-1]
    means = torch.stack([getattr(p, "mean", torch.zeros(())).double().expand(N) for p in priors])
    covariances = torch.stack([p.covariance(N) for p in priors])
    total = covariances.sum(0) + mixture_noise**2 * torch.eye(N, dtype=torch.float64)
    gain = torch.linalg.solve(total, covariances, left=True).mT  # C_k total^-1, since both are symmetric
    mean = means + gain @ (y - means.sum(0))
    covariance = -torch.einsum("kim,lmj->kilj", gain, covariances)
    for k in range(len(priors)):
        covariance[k, :, k] += covariances[k]
    return mean, covariance
