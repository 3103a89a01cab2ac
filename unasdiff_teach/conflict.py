"""Gradient conflict: when does a guided step still lower the reconstruction loss (Eq. 7-9, Fig. 2)?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .separation import StepRecord


def guidance_bound(g_prior: Tensor, g_cond: Tensor) -> Tensor:
    """g_bound = -<g_prior, g_cond> / |g_cond|^2 over the last axis, Eq. 9; 0 where g_cond is 0.

    Signs of this project: g_prior = posterior mean - x_t, g_cond = -d L_recons / d x_t, so that one update is
    g_prior + gamma g_cond. A positive bound is a conflict, and gamma must exceed it for the step to lower the loss.

    Args:
        g_prior, g_cond: [..., N].

    Returns:
        [...].
    """
    if g_prior.shape != g_cond.shape:
        raise ValueError(f"g_prior {tuple(g_prior.shape)} and g_cond {tuple(g_cond.shape)} differ in shape")
    power = g_cond.square().sum(-1)
    bound = -(g_prior * g_cond).sum(-1) / torch.where(power > 0, power, 1)
    return torch.where(power > 0, bound, torch.zeros_like(bound))


@dataclass
class ConflictRecorder:
    """Collects a whole run: `separate(..., on_step=recorder)`, then `table()`.

    Attributes:
        t: prior index of each step, in the order of the run.
        loss: before each step, [(B)].
        g_prior, g_cond: L2 norms, [(B,) K] for each step.
        bound, gamma: [(B,) K] for each step.
    """

    t: list[int] = field(default_factory=list)
    loss: list[Tensor] = field(default_factory=list)
    g_prior: list[Tensor] = field(default_factory=list)
    g_cond: list[Tensor] = field(default_factory=list)
    bound: list[Tensor] = field(default_factory=list)
    gamma: list[Tensor] = field(default_factory=list)

    def __call__(self, record: StepRecord) -> None:
        self.t.append(record.t)
        self.loss.append(record.loss)
        self.g_prior.append(torch.linalg.vector_norm(record.g_prior, dim=-1))
        self.g_cond.append(torch.linalg.vector_norm(record.g_cond, dim=-1))
        self.bound.append(guidance_bound(record.g_prior, record.g_cond))
        self.gamma.append(record.gamma)

    def table(self) -> dict[str, Tensor]:
        """All attributes, "t" [steps], "loss" [steps, (B)], the rest [steps, (B,) K]; and "progress", gamma > bound."""
        table = {"t": torch.tensor(self.t)} | {name: torch.stack(v) for name, v in vars(self).items() if name != "t"}
        return table | {"progress": table["gamma"] > table["bound"]}
