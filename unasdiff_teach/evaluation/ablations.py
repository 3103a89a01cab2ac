"""The paper's Table 4 at pocket scale, resumable: `python -m unasdiff_teach.evaluation.ablations measure|collect [BLOCK ...]`.

`measure` scores "hybrid", the paper's rule in the 33 steps of `short()`, and methods that differ from it in one thing, on the
first 20 test mixtures of 1 speech + 1 sound with one seed; `collect` writes the Parquet file that is shipped. Each block of methods has a
folder of its own, so that several processes may share the work. Methods are named as in `paper_table(4)`.

t* and fewer steps: with `start="init_step"` the steps are spread over 1..t*, so that the prior is told the noise that the
state has, and every t* takes the same number of network calls. The block "from-T" has the loop of Algorithm 1 instead, which
starts at T whatever t* is; there the state has the noise of the last kept step that is no noisier than t*.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import data
from ..data.mixing import Mixture
from ..reconstruction import ReconstructionLoss
from ..separation import SeparationConfig
from .blocks import command
from .methods import Method, sampling
from .pocket import RESULTS, TASK, pocket_priors

BASE = SeparationConfig.short()
"""What every row varies."""
COUNT = 20  # test mixtures
T_STARS = (175, 150, 125, 100)  # of Table 4; its 200 is a start from noise
LOSSES = {"time": {"group": 0.0, "stft": 0.0}, "time+group": {"stft": 0.0}, "time+stft": {"group": 0.0}}
FLOORS = (0.005, 0.002, 0.001)
BLOCKS = ("hybrid", "start", "loss", "floor", "from-T", "beyond", "differences", "recommended")
TABLE = RESULTS / "pocket_ablations.parquet"


def starts(config: SeparationConfig) -> dict[str, SeparationConfig]:
    """The rows of Table 4 on t*, except for the one that `config` has already."""
    later = {f"t*={t}": config.replace(init_step=t) for t in T_STARS if t != config.init_step}
    return {"t*=200": config.replace(init="noise", init_step=200)} | later


def configurations(block: str) -> dict[str, SeparationConfig]:
    """Method name -> configuration, for one of `BLOCKS`.

    "start", "loss" and "floor" are the rows of Table 4. "beyond" has a start from the noised mixture at T, which parts the two
    changes of the paper's t* = 200; noise of its own for each source; and the loss as the text has it. "differences" has what else the
    text and the released code do not agree on and one field changes. "recommended" varies t* around `SeparationConfig.recommended()`.
    """
    if block == "recommended":
        config = SeparationConfig.recommended()
        return {block: config} | {f"{block}, {what}": varied for what, varied in starts(config).items()}
    loss, guidance = BASE.loss, BASE.guidance
    rows = {
        "hybrid": {},
        "start": starts(BASE),
        "loss": {terms: BASE.replace(loss=replace(loss, **weights)) for terms, weights in LOSSES.items()},
        "floor": {f"s_floor={floor}": BASE.replace(guidance=replace(guidance, s_floor=floor)) for floor in FLOORS},
        "from-T": {f"t*={t}, from T": BASE.replace(init_step=t, start="T") for t in T_STARS},
        "beyond": {
            "t*=200, noised mixture": BASE.replace(init_step=200),
            "independent noise": BASE.replace(init_noise="independent"),
            "loss as printed": BASE.replace(loss=ReconstructionLoss.paper()),
        },
        "differences": {
            "sigma as printed": BASE.replace(guidance=replace(guidance, sigma_scale=1.0)),
            "norm of all sources": BASE.replace(grad_norm="joint"),
            "no clamp": BASE.replace(clamp=None),
            "mixture as it is": BASE.replace(normalize="none"),
        },
    }[block]
    return {f"hybrid, {what}": config for what, config in rows.items()} or {"hybrid": BASE}


def methods(block: str) -> list[Method]:
    """The methods of one of `BLOCKS`, with the shipped priors."""
    loaded, preset = pocket_priors(), "recommended" if block == "recommended" else "short"
    return [sampling(name, loaded, config, preset) for name, config in configurations(block).items()]


def main() -> None:
    def mixtures(count: int) -> list[Mixture]:
        return data.mixtures(task=TASK, split="test", count=count)

    command(__doc__, BLOCKS, methods, mixtures, Path("runs/pocket-ablations"), COUNT, TABLE)


if __name__ == "__main__":
    main()
