"""A world of two sources in which the answer is known: priors of two hills each, one mixture, and runs of Algorithm 1
in it.

Both sources are signals of N independent samples, and every sample of the mixture is the same y. Sample n of the
sources is a point of a plane: a run of `separate` moves N points, and where they should land is known.
`plane_of_sources` draws it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..conflict import guidance_bound
from ..diffusion import forward_noise, tweedie
from ..guidance import DPS, DSG, GradientRule, Hybrid
from ..priors import GaussianMixture
from ..reconstruction import ReconstructionLoss
from ..schedule import NoiseSchedule
from ..separation import SeparationConfig, separate

Y, STD = 0.3, 0.18
WEIGHTS, MEANS = np.array([[0.65, 0.35], [0.5, 0.5]]), np.array([[-0.9, 0.9], [-0.5, 1.1]])
"""Of the two hills of each source."""
N, T = 200, 200
KNOTS = (1, 50, 100, 150, 200)
"""Steps at which the rule that is drawn by hand can be set; its logarithm is straight between them."""
STOPS = [float(f"{mantissa}e{power}") for power in range(-4, 1) for mantissa in (1, 1.5, 2, 3, 5, 7)]

VIEWS = ("forward", "tweedie", "reverse", "run")
# The sliders end before runs turn chaotic. A change of 1e-12 in the start grows to 1e-8 here, but to 0.1 with a
# strength of 1.5 and to 0.001 with a floor of 0.1: there, no two machines draw the same picture.
CONTROLS = {
    "t": (range(T + 1), "step t"),
    "rule": ({"DPS": "DPS", "DSG": "DSG", "Hybrid": "hybrid", "drawn": "drawn by hand"}, "rule"),
    "gamma": ([stop for stop in STOPS if 0.01 <= stop <= 0.7], "strength γ₀"),
    "floor": ([stop for stop in STOPS if stop <= 0.05], "floor s"),
    "start": (
        {"noise": "noise, from T", "T": "noised mixture, from T", "init_step": "noised mixture, from t*"},
        "start",
    ),
    "t_star": (range(1, T + 1), "start step t*"),
    "seed": (range(10), "noise no."),
    **{f"at_{t}": ([stop for stop in STOPS if stop <= 0.05], f"γ at t = {t}") for t in KNOTS},
}
"""Name -> what it can be, and its label. For DPS gamma is γ itself; DSG and the hybrid scale σ(t) with it."""
DEFAULTS = {
    "view": "run", "t": 0, "rule": "Hybrid", "gamma": 0.3, "floor": 0.02, "start": "init_step", "t_star": 150,
    "seed": 0,
} | {f"at_{t}": 0.02 for t in KNOTS}  # fmt: skip


def exact_posterior(x: np.ndarray) -> np.ndarray:
    """Density of x1 at the values x [n] given x1 + x2 = y, up to a factor."""
    hill = [
        [w * np.exp(-(((v - m) / STD) ** 2) / 2) for w, m in zip(WEIGHTS[k], MEANS[k])]
        for k, v in enumerate((x, Y - x))
    ]
    return sum(hill[0]) * sum(hill[1])


LINE = np.linspace(-3, 3, 6001)
DENSITY = exact_posterior(LINE) / exact_posterior(LINE).sum() / (LINE[1] - LINE[0])
BELOW = np.cumsum(DENSITY) / DENSITY.sum()
QUANTILES = np.interp((np.arange(N) + 0.5) / N, BELOW, LINE).round(6)
"""N values of x1 that stand for the exact posterior."""
EXACT_LEFT = np.interp(0, LINE, BELOW)
CHANCE = np.sqrt(2 / np.pi / N * BELOW * (1 - BELOW).clip(0)).mean() * 6
"""Wasserstein-1 distance that N exact draws have on average, by the normal approximation of their share below each
x.
"""


@dataclass(frozen=True)
class Independent:
    """The prior of a source whose samples are independent draws from `single`, a prior of one dimension."""

    single: GaussianMixture

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The exact noise prediction, [M, N]."""
        return self.single(x_t.reshape(-1, 1), t.repeat_interleave(x_t.shape[1])).reshape(x_t.shape)


@dataclass(frozen=True)
class Drawn(GradientRule):
    """Steps of the RMS `strengths` at the steps `KNOTS`, whatever the gradient's size, as the hybrid takes them."""

    strengths: tuple[float, ...]

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """gamma(t) without sqrt(N) / norm, [T]."""
        return torch.from_numpy(np.exp(np.interp(schedule.timesteps + 1, KNOTS, np.log(self.strengths))))

    def gamma(self, schedule: NoiseSchedule, t: int, norm: Tensor, N: int) -> Tensor:
        """gamma(t) for gradients of L2 norm `norm` [...] over N samples, [...]."""
        return float(self.strength(schedule)[t]) * math.sqrt(N) / (norm + 1e-8)


PRIORS = [
    Independent(GaussianMixture(*map(torch.from_numpy, (w, m[:, None], np.full(2, STD)))))
    for w, m in zip(WEIGHTS, MEANS)
]
CONFIG = SeparationConfig(loss=ReconstructionLoss(group=0, stft=0), clamp=None)
STARTS = {"noise": {"init": "noise", "init_noise": "independent"}, "T": {}, "init_step": {"start": "init_step"}}
RULES = {
    "DPS": lambda v: DPS(v["gamma"]),
    "DSG": lambda v: DSG(v["gamma"]),
    "Hybrid": lambda v: Hybrid(v["floor"], sigma_scale=v["gamma"]),
    "drawn": lambda v: Drawn(tuple(v[f"at_{t}"] for t in KNOTS)),
}


def _uniform(counter: np.ndarray) -> np.ndarray:
    """Numbers in (0, 1) that the page's script computes alike: a hash of 32 bits (lowbias32) of each counter."""
    h = counter.astype(np.uint32)
    h = (h ^ h >> np.uint32(16)) * np.uint32(0x7FEB352D)
    h = (h ^ h >> np.uint32(15)) * np.uint32(0x846CA68B)
    return ((h ^ h >> np.uint32(16)) + 0.5) / 2**32


def _noise(stream: int, seed: int) -> Tensor:
    """Standard normal numbers [2, N] float64 for one step of a run, by Box and Muller; the same ones in the page's
    script.
    """
    counter = (seed << 20) + 4 * N * stream + 2 * np.arange(2 * N)
    normal = np.sqrt(-2 * np.log(_uniform(counter))) * np.cos(2 * np.pi * _uniform(counter + 1))
    return torch.from_numpy(normal.reshape(2, N))


def _noised(t: int, seed: int) -> dict:
    second = _uniform((seed << 20) + 4 * N * (T + 1) + np.arange(2 * N)).reshape(2, N) > WEIGHTS[:, :1]
    x = guess = x0 = torch.from_numpy(np.where(second, MEANS[:, 1:], MEANS[:, :1])) + STD * _noise(T + 2, seed)
    if t:
        s = NoiseSchedule.linear(T)
        x = forward_noise(x0, t - 1, _noise(T, seed), s)
        guess = tweedie(
            x, torch.cat([prior(x[k : k + 1], s.timesteps[t - 1 : t]) for k, prior in enumerate(PRIORS)]), t - 1, s
        )
    away = np.abs(guess.numpy()[..., None] - MEANS[:, None])  # from each hill, [2, N, 2]
    return {
        "x": x,
        "to_guess": guess - x,
        "own": ((away[..., 1] < away[..., 0]) == second).all(0).mean(),
        "error": (guess - x0).square().mean().sqrt(),
        "lost": (away.min(-1) > 3 * STD).any(0).mean(),
    }


@lru_cache(maxsize=8)
def _run(rule: GradientRule, start: str, t_star: int, seed: int) -> dict[str, Tensor]:
    """What Algorithm 1 does in each step, [steps + 1, 2, ...]; the last entry is where it lands."""
    first, records = t_star if start == "init_step" else T, []

    def noise(kind: str, i: int, shape: tuple[int, ...]) -> Tensor:  # of each step its own, wherever the run begins
        z = _noise(T if kind == "init" else first - 1 - i, seed)
        return z[0] if len(shape) == 1 else z

    config = CONFIG.replace(guidance=rule, init_step=t_star, **STARTS[start])
    y = torch.full((N,), Y, dtype=torch.float64)
    landed = separate(y, PRIORS, [None, None], NoiseSchedule.linear(T), config, noise, on_step=records.append).sources
    none, zero = torch.zeros_like(landed), torch.zeros(2)
    steps = [
        (r.x_t, r.g_prior, r.gamma[:, None] * r.g_cond, r.gamma, guidance_bound(r.g_prior, r.g_cond)) for r in records
    ]
    columns = zip(*steps, (landed, none, none, zero, zero))
    return dict(zip(("x", "g_prior", "g_cond", "gamma", "bound"), map(torch.stack, columns)))


def _landed(values: Mapping) -> dict:
    if values["view"] == "reverse":
        run = _run(DPS(0.0), "noise", T, values["seed"])
    else:
        run = _run(RULES[values["rule"]](values), *(values[name] for name in ("start", "t_star", "seed")))
    steps = len(run["x"]) - 1
    now = {name: value[max(steps - values["t"], 0)] for name, value in run.items()}  # above its first step a run waits
    x1, x2 = landed = run["x"][-1]
    on_line = (x1 + Y - x2) / 2
    nearest = 2 * (x1 > MEANS[0].mean()) + (x2 > MEANS[1].mean())
    return now | {
        "against": ((now["g_prior"] * now["g_cond"]).sum(0) < 0).double().mean(),
        "size": run["g_cond"][:-1].square().mean((1, 2)).sqrt().flip(0),
        "on_line": on_line,
        "left": (on_line < 0).double().mean(),
        "off": (landed.sum(0) - Y).square().mean().sqrt(),
        "w1": (on_line.sort().values - torch.from_numpy(QUANTILES)).abs().mean(),
        "shares": torch.bincount(nearest, minlength=4).double() / N,
    }


def plane_numbers(**values) -> dict[str, np.ndarray]:
    """What `plane_of_sources` shows at these settings, computed by the library.

    Args:
        values: as for `plane_of_sources`.

    Returns:
        "x": the points at step t, [2, N], and "hills" [2, 4] and "spread", the priors' four hills and their width at
        that step.

        Views forward and tweedie: "to_guess", from there to Tweedie's estimate, [2, N]; its RMS "error"; the shares of
        points whose estimate is nearest to their "own" hill, and of those that are "lost", three widths and more from
        any.

        Views reverse and run: "g_prior", and "g_cond" times gamma, of step t, [2, N]; its "gamma" and "bound" (Eq. 9)
        [2]; the share of points at which the two pull "against" each other; and the result, of which nothing depends
        on t: "size", the RMS of gamma g_cond at steps 1, 2, ...; "on_line", x1 of the landed points moved to the line,
        [N]; the share of it "left" of 0; "off", the RMS of x1 + x2 - y; "w1", its Wasserstein-1 distance to the exact
        posterior; "shares" [4] of points nearest to each hill, in the order lower left, upper left, lower right, upper
        right.

    Raises:
        ValueError: no such setting or value.
    """
    values = settings(values)
    numbers = _noised(values["t"], values["seed"]) if values["view"] in ("forward", "tweedie") else _landed(values)
    alpha_bar = float(NoiseSchedule.linear(T).alpha_bar[values["t"] - 1]) if values["t"] else 1.0
    numbers["hills"] = math.sqrt(alpha_bar) * np.array([(m, n) for m in MEANS[0] for n in MEANS[1]]).T
    numbers["spread"] = math.sqrt(alpha_bar * STD**2 + 1 - alpha_bar)
    return {name: np.asarray(value) for name, value in numbers.items()}


def settings(values: Mapping) -> dict:
    for name, value in values.items():
        if name not in DEFAULTS:
            raise ValueError(f"there is no setting {name!r}; there are {', '.join(DEFAULTS)}")
        accepted = VIEWS if name == "view" else CONTROLS[name][0]
        if value not in accepted:
            raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(str, accepted))}")
    return DEFAULTS | values
