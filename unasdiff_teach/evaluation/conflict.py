"""Conflict along whole runs (Eq. 7-9, Fig. 2): `unasdiff-teach evaluate --experiment conflict`.

Followed are the mixture of Figure 2, a fiddle and a chime, with every state kept, and the first test mixtures of 1
speech + 1 sound, each under every guidance rule. Every run is one of `SeparationConfig.authors()`, 200 steps with the
released code's constants. A finished run is one file, and is not repeated; several processes may share a folder if
each has rules of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from .. import data
from .. import priors as shipped
from .._files import locked, replacing
from ..conflict import ConflictRecorder
from ..data.mixing import SPEECH_SOUND, Mixture
from ..data.pocket_corpus import SAMPLE_RATE
from ..diffusion import Prior
from ..guidance import DPS, DSG, Guidance, Hybrid
from ..metrics import si_sdr
from ..schedule import NoiseSchedule
from ..separation import SeparationConfig, StepRecord, separate
from .experiments import RESULTS
from .methods import described, fingerprint
from .run import noise_seed

if TYPE_CHECKING:
    import pandas as pd

RULES: dict[str, Guidance] = {
    "dps": DPS(),
    "dsg": DSG(),
    "hybrid": Hybrid(),
    # The loss is a norm, so DPS moves a source by about its constant in L2, however long it is: 1.5 at the paper's
    # 64000 samples moves each sample as far as half of it at the 16000 of these mixtures.
    "dps-half": DPS(scale=0.75),
}
FIGURE = ("dps", "dsg", "hybrid")  # the columns of Figure 2
FIDDLE, CHIME = "Violin_or_fiddle", "Chime"
COUNT = 40  # test mixtures
KEPT = 12  # estimates of each run of Figure 2 that are shipped
PATIENCE = 60.0  # seconds that `collect` waits for another
GRID = 2**10  # steps per unit of their samples, 45 dB below a source of RMS 0.05
CURVES, ESTIMATES = "conflict_curves.parquet", "conflict_estimates.flac"
MEASURED = ("loss", "g_prior", "g_cond", "bound", "gamma", "si_sdr", "si_sdr_state")


def figure_mixture() -> Mixture:
    """The mixture of Figure 2 at pocket scale: the first fiddle and the first chime of the test split, mixed by the
    pocket rules.
    """
    sounds = data.pocket("sound", split="test")
    clips = [next(clip for clip in sounds if clip.label == label) for label in (FIDDLE, CHIME)]
    mixture = data.synthesise([clip.audio for clip in clips], data.MixtureRules.pocket(), seed=0)
    return replace(
        mixture, id="figure-2", task="2 sounds", split="test", clip_ids=tuple(clip.id for clip in clips),
        kinds=("sound", "sound"), labels=(FIDDLE, CHIME), voices=(None, None), heard=(True, True),
    )  # fmt: skip


def follow(
    mixture: Mixture,
    priors: Mapping[str, Prior],
    rule: str,
    config: SeparationConfig,
    schedule: NoiseSchedule | None = None,
    seed: int = 0,
    keep: bool = False,
) -> tuple[pd.DataFrame, list[tuple[Tensor, Tensor]]]:
    """Separate a mixture and measure every step. The noise is the same for all rules.

    Args:
        mixture: of a fixed list; its identifier decides its noise.
        priors: for each kind of source, its prior.
        rule: what the run is called.
        config: with the rule as its guidance.
        schedule: see `separate`.
        seed: of the noise, with the identifier.
        keep: also keep x_t and x0_hat of each step.

    Returns:
        One row for each step and source: what was run (task, split, mixture, clips, rule, config, priors, seed,
        versions, seconds of the run), which source (source, kind, label), which step (step 0 is the first, t as the
        prior was told), and `MEASURED`: the loss before the step, the L2 norms g_prior and g_cond, the bound of Eq. 9,
        gamma, and SI-SDR of x0_hat and of the state after the step, in dB. And what was kept: (x_t, x0_hat), [K, N] in
        half precision, for each step.
    """
    import pandas as pd

    recorder, kept, quality = ConflictRecorder(), [], {"si_sdr": [], "si_sdr_state": []}

    def on_step(record: StepRecord) -> None:
        recorder(record)
        quality["si_sdr"].append(si_sdr(record.x0_hat, mixture.sources))
        quality["si_sdr_state"].append(si_sdr(record.x_prev, mixture.sources))
        if keep:
            kept.append((record.x_t.half(), record.x0_hat.half()))

    start = time.perf_counter()
    separate(
        mixture.mixture, [priors[kind] for kind in mixture.kinds], list(mixture.labels), schedule, config,
        noise=noise_seed(seed, mixture.id), on_step=on_step, sample_rate=mixture.sample_rate,
    )  # fmt: skip
    steps, K = len(recorder.t), len(mixture.sources)
    measured = recorder.table() | {name: torch.stack(values) for name, values in quality.items()}
    measured |= {"step": torch.arange(steps), "source": torch.arange(K).expand(steps, K)}
    rows = {name: measured[name].reshape(steps, -1).expand(steps, K) for name in ("step", "source", "t", *MEASURED)}
    table = pd.DataFrame({name: values.flatten().tolist() for name, values in rows.items()}).assign(
        task=mixture.task, split=mixture.split, mixture=mixture.id, clips=", ".join(mixture.clip_ids), rule=rule,
        config=described(config), priors=fingerprints(priors), seed=seed, versions=f"torch {torch.__version__}",
        seconds=time.perf_counter() - start,
    )  # fmt: skip
    table["kind"] = [mixture.kinds[k] for k in table["source"]]
    table["label"] = [mixture.labels[k] for k in table["source"]]
    return table, kept


def run(
    folder: Path,
    mixtures: Sequence[Mixture],
    rules: Sequence[str],
    priors: Mapping[str, Prior],
    base: SeparationConfig | None = None,
    schedule: NoiseSchedule | None = None,
    keep: bool = False,
    progress: bool = False,
) -> None:
    """Follow each mixture under each of `RULES` that is named, into folder/RULE/MIXTURE.parquet; what is there is not
    repeated.

    Args:
        base: all but the guidance; by default `SeparationConfig.authors()`.
        keep: write the states and estimates of every step beside it, as MIXTURE.npz, float16 [steps, K, N].

    Raises:
        ValueError: the folder holds a run of the same name with another configuration, other priors or other clips.
    """
    from tqdm import tqdm

    base = base or SeparationConfig.authors()
    items = [(mixture, rule, base.replace(guidance=RULES[rule])) for mixture in mixtures for rule in rules]
    # All of it first: a clash with stored runs must show before the work, not after.
    todo = [item for item in items if not _finished(folder, *item, priors)]
    for mixture, rule, config in tqdm(todo, unit="run", disable=not progress):
        table, kept = follow(mixture, priors, rule, config, schedule, keep=keep)
        path = _path(folder, rule, mixture)
        if keep:  # before the table, which says that the run is finished
            states, estimates = (torch.stack(of_steps) for of_steps in zip(*kept, strict=True))
            with replacing(path.with_suffix(".npz")) as partial, open(partial, "wb") as file:
                numpy.savez(file, states=states, estimates=estimates)
        with replacing(path) as partial:
            table.to_parquet(partial, index=False)


def collect(folder: Path, results: Path) -> pd.DataFrame:
    """Write what has been measured so far: the curves of all runs, and the estimates of Figure 2 if its runs are all
    there.

    Returns:
        The curves, as `curves` reads them.

    Raises:
        FileNotFoundError: the folder holds no runs.
        ValueError: its runs were made with different priors, or the runs of a rule with different configurations.
    """
    if not any(folder.glob("*/*.parquet")):
        raise FileNotFoundError(f"no runs in {folder}; `measure` makes them")
    with locked(folder, "collection", PATIENCE):  # whoever ends second has all runs, and must be the last to write
        return _collect(folder, results)


def _collect(folder: Path, results: Path) -> pd.DataFrame:
    import pandas as pd

    paths = sorted(folder.glob("*/*.parquet"))
    table = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    for column, group in (("priors", "task"), ("config", "rule")):
        if (found := table.groupby(group)[column].nunique().max()) > 1:
            raise ValueError(f"the runs in {folder} have {found} different {column}; use one folder for each")
    table = table.sort_values(["task", "mixture", "rule", "step", "source"], ignore_index=True)
    table = table.astype({name: "float32" for name in MEASURED} | {name: "int16" for name in ("step", "t", "source")})
    table[list(MEASURED)] = _rounded(table[list(MEASURED)].to_numpy())
    with replacing(results / CURVES) as partial:
        table.to_parquet(partial, index=False, compression="zstd")
    kept = [folder / rule / f"{figure_mixture().id}.npz" for rule in FIGURE]
    if all(path.is_file() for path in kept):
        _write_estimates(
            results / ESTIMATES, torch.stack([torch.from_numpy(numpy.load(path)["estimates"]) for path in kept])
        )
    return table


def curves(results: Path = RESULTS) -> pd.DataFrame:
    """The stored curves, columns as in `follow`."""
    import pandas as pd

    return pd.read_parquet(results / CURVES)


def kept_steps(steps: int) -> list[int]:
    """Which steps of a run of so many are shipped, counted from 0, the first of the run: even in log-SNR, first and
    last among them.
    """
    schedule = NoiseSchedule.linear(steps)
    return (steps - 1 - schedule.respace(min(KEPT, steps)).timesteps).flip(0).tolist()


def estimates(results: Path = RESULTS) -> dict[str, Tensor]:
    """The stored estimates x0_hat of Figure 2 for each rule of `FIGURE`, [KEPT, K, N], at the steps that `kept_steps`
    lists.
    """
    samples, _ = data.read(results / ESTIMATES)
    return dict(zip(FIGURE, samples.reshape(len(FIGURE), KEPT, 2, -1), strict=True))


def _write_estimates(path: Path, samples: Tensor) -> None:
    """Estimates [rules, steps, K, N] at the kept steps, one after the other in one FLAC file."""
    import soundfile

    kept = samples[:, kept_steps(samples.shape[1])].float()
    coarse = (kept * GRID).round().clamp(-GRID, GRID - 1) * (2**15 // GRID)
    with replacing(path) as partial:
        soundfile.write(
            partial, coarse.flatten().to(torch.int16).numpy(), SAMPLE_RATE, format="FLAC", compression_level=1.0
        )


def _finished(folder: Path, mixture: Mixture, rule: str, config: SeparationConfig, priors: Mapping[str, Prior]) -> bool:
    import pandas as pd

    path = _path(folder, rule, mixture)
    if not path.is_file():
        return False
    now = {"config": described(config), "priors": fingerprints(priors), "clips": ", ".join(mixture.clip_ids)}
    stored = pd.read_parquet(path, columns=list(now)).iloc[0]
    for name, value in now.items():
        if stored[name] != value:
            raise ValueError(f"{path} was made with {name} {stored[name]!r}, now {value!r}; use another folder")
    return True


def _path(folder: Path, rule: str, mixture: Mixture) -> Path:
    return folder / rule / f"{mixture.id}.parquet"


def fingerprints(priors: Mapping[str, Prior]) -> str:
    """What tells the priors of two runs apart, as in `Method.settings`."""
    return ", ".join(f"{kind} prior {fingerprint(prior)}" for kind, prior in sorted(priors.items()))


def _rounded(values: numpy.ndarray) -> numpy.ndarray:
    """To four digits, which is what a curve shows; the file gets half as large."""
    size = numpy.where(values == 0, 1, numpy.abs(values)).astype(float)
    place = 10.0 ** (3 - numpy.floor(numpy.log10(size)))
    return (numpy.round(values * place) / place).astype(values.dtype)


def measure(out: str | Path, rules: Sequence[str] = (), count: int = COUNT, progress: bool = True) -> pd.DataFrame:
    """Follow everything with the shipped priors, as far as it is not in `out`, and write what is shipped of it into
    `out`.

    Args:
        rules: of `RULES`; all by default.
        count: test mixtures, besides that of Figure 2.

    Returns:
        The curves.

    Raises:
        ValueError: an unknown rule, or as `run`.
    """
    if unknown := set(rules) - set(RULES):
        raise ValueError(f"conflict has no rule {', '.join(map(repr, sorted(unknown)))}; there are {', '.join(RULES)}")
    rules, folder = tuple(rules) or tuple(RULES), Path(out) / "runs"
    loaded = {kind: shipped.load(f"pocket-{kind}") for kind in ("speech", "sound")}
    run(folder, [figure_mixture()], [rule for rule in rules if rule in FIGURE], loaded, keep=True, progress=progress)
    run(folder, data.mixtures(SPEECH_SOUND, "test", count), rules, loaded, progress=progress)
    return collect(folder, Path(out))
