"""The configurations that the experiments compare, by the names of their rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from ..data.mixing import SPEECH_SOUND
from ..guidance import CQT, DPS, DSG, Guidance, Hybrid, Wiener
from ..reconstruction import ReconstructionLoss
from ..separation import SeparationConfig
from .systems import LOSSES, SHORT, T_STARS, variants

GRID: dict[str, list[Guidance]] = {
    "hybrid": [
        Hybrid(s_floor=floor, sigma_scale=scale) for scale, floor in product((0.1, 0.2, 0.35), (0.002, 0.008, 0.032))
    ],
    "dsg": [DSG(sigma_scale=scale) for scale in (0.05, 0.1, 0.14, 0.2, 0.28, 0.35, 0.5, 0.7, 1.0)],
    "dps": [DPS(scale=scale) for scale in (0.02, 0.05, 0.1, 0.2, 0.5, 0.75, 1.0, 1.5, 3.0)],
    "dps, time": [DPS(scale=scale) for scale in (0.1, 0.2, 0.5, 0.75, 1.0, 1.5, 3.0, 5.0, 10.0)],
    "cqt": [CQT(xi=xi) for xi in (2e-5, 5e-5, 1e-4, 2e-4, 3.5e-4, 5e-4, 7e-4, 1e-3, 2e-3)],
}
"""Nine settings of each guidance rule, for `tried`. Of DPS 1.5 is the released code's constant for 64 000 samples, and
0.75 that of 16 000 (the root of the length).
"""
TUNED: dict[str, dict[str, Guidance]] = {
    SPEECH_SOUND: SHORT | {"dps, time": DPS(scale=1.5)},
    "1 speech + 2 sounds": SHORT | {"dps, time": DPS(scale=3.0), "cqt": CQT(xi=1e-3)},
    "2 sounds": SHORT | {"dps": DPS(scale=0.75), "dps, time": DPS(scale=1.5), "cqt": CQT(xi=5e-4)},
    "3 sounds": {
        "hybrid": Hybrid(s_floor=0.008, sigma_scale=0.1),
        "dsg": DSG(sigma_scale=0.28),
        "dps": DPS(scale=0.2),
        "dps, time": DPS(scale=0.5),
        "cqt": CQT(xi=3.5e-4),
    },
    "2 speech": {
        "hybrid": Hybrid(s_floor=0.002, sigma_scale=0.1),
        "dsg": DSG(sigma_scale=0.1),
        "dps": DPS(scale=1.5),
        "dps, time": DPS(scale=0.5),
        "cqt": CQT(xi=2e-4),
    },
}
"""Of each task the best of each grid of the experiment "tuning", on the mixtures that all its settings have in
common.
"""
SHARES: dict[str, SeparationConfig] = {
    f"{runs} x {steps} steps, t*={t}": SeparationConfig.recommended().replace(init_step=t, steps=steps, hypotheses=runs)
    for runs, steps, t in ((4, 10, 100), *((r, s, t) for r, s in ((6, 10), (4, 15)) for t in (100, 125, 150)))
}
"""`SeparationConfig.recommended()`, and settings of it with 60 network calls in place of 40."""
SIX = "6 x 10 steps, t*=100"
"""Of `SHARES` what has the highest mean over all 60 mixtures of "recorded-tuning"."""
TWO_VOICES: dict[str, SeparationConfig] = {
    "recommended": SeparationConfig.recommended(),
    "independent noise": SeparationConfig.recommended().replace(init_noise="independent"),
    **{
        f"{runs} runs from t*={t}, independent noise": SeparationConfig.recommended().replace(
            init_noise="independent", init_step=t, hypotheses=runs
        )
        for runs, t in ((4, 150), (4, 175), (6, 150), (6, 175))
    },
    "from noise": SeparationConfig.recommended().replace(init="noise", init_noise="independent", init_step=200),
}
"""What might keep two sources of one prior and one label apart: `recommended()`, and starts that differ."""
BASE = SeparationConfig.short(Hybrid(s_floor=0.002, sigma_scale=0.2))
"""What every row of Table 4 varies: the paper's rule in 33 steps, with the paper's floor."""


def tried(rule: str, guidance: Guidance) -> tuple[str, SeparationConfig]:
    """A setting of a grid, under its name in the results of "tuning".

    DPS as it was published divides its constant by the norm of the residual y - sum of x0_hat (Chung et al. 2023), and
    the gradient of the norm is that of its square over twice the norm: so the loss of "dps, time" is the residual's
    norm alone. "dps" has the paper's three terms.
    """
    config, name = SeparationConfig.short(guidance), str(guidance)
    if rule != "dps, time":
        return name, config
    return f"{name}, time", config.replace(loss=replace(config.loss, **LOSSES["time"]))


def ablations() -> dict[str, SeparationConfig]:
    """Rows of Table 4, and what else the text and the released code do not agree on and one field changes.

    With `start="init_step"` the steps are spread over 1..t*, so that the prior is told the noise that the state has,
    and every t* takes the same number of network calls. The rows "from T" have the loop of Algorithm 1 instead, which
    starts at T whatever t* is; there the state has the noise of the last kept step that is no noisier than t*.
    "t*=200, noised mixture" parts the two changes of the paper's t* = 200.
    """
    guidance = BASE.guidance
    rows = {f"t*={t}, from T": BASE.replace(init_step=t, start="T") for t in T_STARS} | {
        "t*=200, noised mixture": BASE.replace(init_step=200),
        "independent noise": BASE.replace(init_noise="independent"),
        "loss as printed": BASE.replace(loss=ReconstructionLoss.paper()),
        "sigma as printed": BASE.replace(guidance=replace(guidance, sigma_scale=1.0)),
        "norm of all sources": BASE.replace(grad_norm="joint"),
        "s_floor=0.004": SeparationConfig.short(),
        "no clamp": BASE.replace(clamp=None),
        "mixture as it is": BASE.replace(normalize="none"),
    }
    found = variants(BASE) | {f"hybrid, {what}": config for what, config in rows.items()}
    return {"hybrid": BASE} | {name: config for name, config in found.items() if config != BASE}


def beyond() -> dict[str, dict[str, SeparationConfig]]:
    """From Algorithm 1 to `recommended()`, a change at a time, and around it: block -> name -> configuration (chapter
    14).
    """
    short, recommended = SeparationConfig.short(), SeparationConfig.recommended()
    shares = short.replace(guidance=Wiener(), project=False)
    later = shares.replace(init_step=100)
    fresh = later.replace(renoise=1.0)
    return {
        "gradients": {
            "short": short,
            "without projection": short.replace(project=False),
            "loop from T": short.replace(start="T"),
            "even in time": short.replace(spacing="time"),
            "t*=100": short.replace(init_step=100),
        },
        "shares": {
            "shares": shares,
            "shares, t*=100": later,
            "shares, t*=100, fresh noise": fresh,
            "shares, t*=100, fresh noise, 10 steps": fresh.replace(steps=10),
            "recommended": recommended,
        },
        "around": {
            "4 x 10 steps, t*=125": recommended.replace(init_step=125),
            "4 x 10 steps, t*=75": recommended.replace(init_step=75),
            "2 x 20 steps": recommended.replace(steps=20, hypotheses=2),
            "8 x 5 steps": recommended.replace(steps=5, hypotheses=8),
            "floor=0": recommended.replace(guidance=Wiener(floor=0.0)),
            "floor=0.3": recommended.replace(guidance=Wiener(floor=0.3)),
            "independent noise": recommended.replace(init_noise="independent"),
        },
    }
