"""The noise schedule of the diffusion chain (Eq. 1) and everything that is a function of it alone (Eq. 5, 11)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ._lazy import renamed_arguments


@renamed_arguments(index="timesteps", position="index_of")
@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A discrete variance-preserving chain of `len(schedule)` steps, index 0 (least noise) to T - 1 (most noise).

    All tables are float64 tensors of shape [T] on the CPU; `at` moves an entry to a signal's type and device. Those
    that are computed once are no inference tensors, even where the first use is in `torch.inference_mode`: a later one
    may want gradients.

    Attributes:
        beta: [T], fraction of power replaced by noise in each step.
        alpha_bar: [T], fraction of the signal's power that is left at each step, strictly decreasing, in (0, 1).
        timesteps: [T] integers, what each step tells the prior: 0..T-1, or the original ones after `respace`.
        T_train: number of steps of the chain that the prior was trained on.
    """

    beta: Tensor
    alpha_bar: Tensor
    timesteps: Tensor
    T_train: int

    @classmethod
    def linear(cls, T: int = 200, beta_min: float = 1e-4, beta_max: float = 2e-2) -> NoiseSchedule:
        """T values of beta, equally spaced from `beta_min` to `beta_max` inclusive (paper, "Configuration and
        Training").

        Raises:
            ValueError: T < 2, or the betas do not satisfy 0 < beta_min <= beta_max < 1.
        """
        if T < 2:
            raise ValueError(f"T is {T}; a chain needs at least 2 steps")
        if not 0 < beta_min <= beta_max < 1:
            raise ValueError(f"beta_min = {beta_min}, beta_max = {beta_max}; need 0 < beta_min <= beta_max < 1")
        # In sequential float32 (torch.cumprod would widen), then widened: at low noise 1 - alpha_bar feels that
        # rounding, and published priors were trained with it.
        beta = np.linspace(beta_min, beta_max, T, dtype=np.float32)
        alpha_bar = np.cumprod(1 - beta, dtype=np.float32)
        return cls(torch.from_numpy(beta).double(), torch.from_numpy(alpha_bar).double(), torch.arange(T), T)

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    @torch.inference_mode(False)
    def alpha_bar_prev(self) -> Tensor:
        """alpha_bar one step closer to the clean signal; 1 before the first step. [T]."""
        return torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])

    @cached_property
    @torch.inference_mode(False)
    def posterior_variance(self) -> Tensor:
        """Variance of x_{t-1} given x_t and x_0: beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t); 0 at t = 0. [T]."""
        return self.beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    @torch.inference_mode(False)
    def sigma(self) -> Tensor:
        """sigma(t) of Eq. 11, the square root of the posterior variance. [T]."""
        return self.posterior_variance.sqrt()

    @cached_property
    @torch.inference_mode(False)
    def posterior_x0(self) -> Tensor:
        """Weight of x0_hat in the posterior mean (Algorithm 1, line 8). [T]."""
        return self.beta * self.alpha_bar_prev.sqrt() / (1 - self.alpha_bar)

    @cached_property
    @torch.inference_mode(False)
    def posterior_xt(self) -> Tensor:
        """Weight of x_t in the posterior mean (Algorithm 1, line 8). [T]."""
        return (1 - self.alpha_bar_prev) * (1 - self.beta).sqrt() / (1 - self.alpha_bar)

    @cached_property
    @torch.inference_mode(False)
    def noise_to_signal(self) -> Tensor:
        """sqrt((1 - alpha_bar) / alpha_bar), the gain of the noise over that of the signal. [T]."""
        return ((1 - self.alpha_bar) / self.alpha_bar).sqrt()

    @cached_property
    @torch.inference_mode(False)
    def log_snr(self) -> Tensor:
        """log(alpha_bar / (1 - alpha_bar)) in nats, for a signal of unit variance. [T]."""
        return -2 * self.noise_to_signal.log()

    def at(self, table: Tensor, t: int | Tensor, like: Tensor) -> Tensor:
        """Entry `t` of a table, in the type of `like`; a tensor `t` [B] is shaped to broadcast over [B, ...]."""
        value = table[torch.as_tensor(t, device="cpu")].to(like.dtype).to(like.device)
        return value.reshape(value.shape + (1,) * (like.ndim - value.ndim)) if value.ndim else value

    def index_of(self, step: int) -> int:
        """The last index whose timestep is below `step` (counted from 1, as the paper's t* = 150 is).

        Raises:
            ValueError: `step` lies outside 1..T_train.
        """
        if not 1 <= step <= self.T_train:
            raise ValueError(f"step {step} is outside 1..{self.T_train}")
        return max(int(torch.searchsorted(self.timesteps, step, right=False)) - 1, 0)

    def respace(
        self, steps: int, spacing: Literal["log_snr", "time"] = "log_snr", last: int | None = None
    ) -> NoiseSchedule:
        """Keep `steps` of the steps, the first and the last among them, evenly spaced in log-SNR or in time.

        Where steps even in log-SNR would fall between two of them, at low noise, every one is kept and the rest is
        spread over what remains. `timesteps` remembers what each kept step tells the prior.

        Args:
            steps: 2..len(self).
            spacing: "log_snr" or "time".
            last: index of the noisiest step kept; by default the last one.

        Raises:
            ValueError: an argument is out of range.
        """
        last = len(self) - 1 if last is None else last
        if not 0 < last < len(self):
            raise ValueError(f"last is {last}; accepted are 1..{len(self) - 1}")
        if not 2 <= steps <= last + 1:
            raise ValueError(f"steps is {steps}; this schedule can keep 2..{last + 1}")
        if spacing == "time":
            keep = torch.linspace(0, last, steps, dtype=torch.float64).round().long()
        elif spacing == "log_snr":
            keep = _even_in(self.log_snr[: last + 1], steps)
        else:
            raise ValueError(f"spacing is {spacing!r}; accepted are 'log_snr' and 'time'")
        alpha_bar = self.alpha_bar[keep]
        beta = 1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        return NoiseSchedule(beta, alpha_bar, self.timesteps[keep], self.T_train)


def _even_in(axis: Tensor, steps: int) -> Tensor:
    """`steps` distinct positions of a decreasing `axis`, even along it once a dense head has been kept whole."""
    for head in range(steps - 1):
        targets = torch.linspace(float(axis[head]), float(axis[-1]), steps - head, dtype=axis.dtype)
        right = torch.searchsorted(-axis, -targets).clamp(1, len(axis) - 1)
        nearer_left = (axis[right - 1] - targets) < (targets - axis[right])
        grid = torch.where(nearer_left, right - 1, right)
        grid[0], grid[-1] = head, len(axis) - 1
        if (grid.diff() > 0).all():
            return torch.cat([torch.arange(head), grid])
    return torch.arange(len(axis))[-steps:]
