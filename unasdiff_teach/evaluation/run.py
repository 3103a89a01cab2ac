"""Score methods on lists of mixtures; a run that is stopped goes on where it was, and repeats nothing."""

from __future__ import annotations

import platform
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._files import Journal, locked, replacing
from .._machine import cores, version
from ..metrics import PESQ_MODES, Permute, best_permutation, pesq_score, si_sdr
from .methods import Method

if TYPE_CHECKING:
    import pandas as pd

    from ..data.mixing import Mixture

Key = tuple[str, str, str, int]
"""Mixture, method, preset and seed: what makes an item of a run."""

COLUMNS = {
    "task": "string",  # as in `data.mixtures`
    "split": "string",
    "mixture": "string",  # identifier
    "method": "string",
    "preset": "string",
    "settings": "string",  # all else that changes the method's numbers, in words
    "seed": "int64",  # of the run
    "noise_seed": "int64",  # of this mixture
    "source": "int64",  # index k in the mixture
    "estimate": "int64",  # which of the method's estimates answers to it
    "kind": "string",  # "speech" or "sound"
    "label": "string",  # class of a sound
    "voice": "string",  # of speech
    "heard": "bool",  # whether the prior was trained on this voice or class
    "si_sdr": "float64",  # dB
    "si_sdr_unprocessed": "float64",  # dB, of the mixture itself
    "pesq": "float64",  # MOS-LQO, speech only; NaN by the rule of `pesq_score`
    "pesq_mode": "string",  # "nb" or "wb"
    "zero_mean": "bool",  # scoring
    "permute": "string",  # scoring
    "mixture_db": "float64",  # RMS of the mixture, tells whether it is still the same
    "seconds": "float64",  # wall time of the method for one mixture: that of its batch over the batch's size
    "batch": "int64",  # mixtures separated together
    "network_calls": "int64",  # network evaluations for each source
    "device": "string",
    "machine": "string",
    "versions": "string",
}
ITEM = ["mixture", "method", "preset", "seed"]
SHARDS = "shards"  # of a folder in which several processes work: one run for each


@dataclass(frozen=True)
class Scoring:
    """How estimates are scored (difference 24 between paper and code).

    Speech is scored with PESQ as well, where the rate allows it (8 or 16 kHz).

    Attributes:
        zero_mean: remove means before SI-SDR.
        permute: see `best_permutation`; sources are of one kind here if they agree in kind and label.
    """

    zero_mean: bool = True
    permute: Permute = "kind"

    @classmethod
    def paper(cls) -> Scoring:
        """The text: SI-SDR as it is, identities known from the labels."""
        return cls(zero_mean=False)

    @classmethod
    def authors(cls) -> Scoring:
        """The released code: means removed, the best of all permutations in every task."""
        return cls(permute="all")

    @classmethod
    def recommended(cls) -> Scoring:
        """Means removed, and only sources that the separator cannot tell apart are permuted."""
        return cls()

    def replace(self, **changes) -> Scoring:
        """A copy with some fields changed."""
        return replace(self, **changes)


def noise_seed(seed: int, mixture_id: str) -> int:
    """The seed of a mixture's noise, in 0..2^32 - 1: a stable hash of the run's seed and the mixture's identifier
    alone.
    """
    return zlib.crc32(f"{seed}/{mixture_id}".encode())


@dataclass(frozen=True)
class Run:
    """A folder of results, to which any number of processes may append.

    Every scored mixture is one line of `results.jsonl`; `compact` moves all into `results.parquet`. Whoever writes
    holds a lock for as long as that takes, so that no row is lost; reading needs none. A stop at any moment costs at
    most the batch in progress. Processes do not see each other's work in progress: what two have scored counts once.
    """

    folder: Path

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))

    @property
    def journal(self) -> Path:
        return self.folder / "results.jsonl"

    @property
    def table(self) -> Path:
        return self.folder / "results.parquet"

    def results(self) -> pd.DataFrame:
        """All results so far: one row for each source of each item, columns as in `COLUMNS`, in a fixed order."""
        import pandas as pd

        # The journal first: rows that `compact` moves while this reads are then in both, and never in neither.
        lines = Journal(self.journal).read()
        rows = pd.read_parquet(self.table).to_dict("records") if self.table.exists() else []
        for line in lines:
            rows += line
        frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
        frame = frame.drop_duplicates([*ITEM, "source"])
        return frame.sort_values(["task", *ITEM, "source"], ignore_index=True)

    def append(self, items: Sequence[list[dict]]) -> None:
        """Store scored mixtures, each a list of one row per source; when this returns they are on disk."""
        with self._locked():
            Journal(self.journal).extend(items)

    def measure(self, method: Method, mixtures: list[Mixture], seed: int, scoring: Scoring) -> None:
        """Separate one batch, score it and store that: what every evaluation of this package does, batch by batch."""
        self.append(score(method, mixtures, seed, scoring))

    def compact(self) -> pd.DataFrame:
        """Move all results into one Parquet file, and return them."""
        if not self.journal.exists():
            return self.results()
        with self._locked():
            frame = self.results()
            with replacing(self.table) as partial:
                frame.to_parquet(partial, index=False)
            self.journal.unlink(missing_ok=True)
        return frame

    def _locked(self) -> AbstractContextManager:
        """Be the only one that writes; the lock ends with this process, however it ends."""
        return locked(self.folder, "evaluation", patience=-1, name="results.lock")


def stored(out: str | Path) -> pd.DataFrame:
    """What all processes have stored in the folder of a job so far, columns as in `COLUMNS`."""
    import pandas as pd

    out = Path(out)
    frames = [Run(folder).results() for folder in (out, *sorted((out / SHARDS).glob("*")))]
    whole = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    return whole.drop_duplicates([*ITEM, "source"]).sort_values(["task", *ITEM, "source"], ignore_index=True)


def evaluate(
    methods: Sequence[Method],
    mixtures: Sequence[Mixture],
    run: Run | str | Path,
    seed: int = 0,
    scoring: Scoring | None = None,
    batch: int = 8,
    progress: bool = False,
) -> pd.DataFrame:
    """Separate and score every mixture with every method, and store the results; what the run holds already is skipped.

    The noise of a mixture depends on `seed` and its identifier alone: not on the batch, the order or the method.

    Args:
        methods: with distinct (name, preset).
        mixtures: with distinct identifiers, of any tasks.
        run: a `Run` or its folder.
        seed: of all noise.
        scoring: by default `Scoring.recommended()`.
        batch: most mixtures separated at once; they agree in kinds, K, N and sample rate.
        progress: show a progress bar.

    Returns:
        Everything that the run holds, see `Run.results`.

    Raises:
        ValueError: two methods or mixtures share a name or identifier; a method returns estimates of another shape, or
            NaN; or the run holds an item of the same name made with other settings, another scoring or another mixture.
    """
    from tqdm import tqdm

    run, scoring = run if isinstance(run, Run) else Run(run), scoring or Scoring.recommended()
    _check_names("methods", [(m.name, m.preset) for m in methods])
    _check_names("mixtures", [m.id for m in mixtures])
    if any(not m.id for m in mixtures):
        raise ValueError("a mixture has no id; results could not be told apart")
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least 1 is needed")
    held = Stored(run.results())
    # All of it first: a clash with stored results must show before hours of work, not after.
    todo = [held.left(method, mixtures, seed, scoring) for method in methods]
    with tqdm(total=sum(map(len, todo)), unit="mixture", disable=not progress) as bar:
        for method, left in zip(methods, todo):
            bar.set_description(method.name)
            for group in _batches(left, batch):
                run.measure(method, group, seed, scoring)
                bar.update(len(group))
    return run.compact()


class Stored:
    """What a run holds already.

    Args:
        table: of its results, columns as in `COLUMNS`.
    """

    def __init__(self, table: pd.DataFrame):
        self.rows = {tuple(row[c] for c in ITEM): row for row in table.to_dict("records")}
        self.levels = {row["mixture"]: row["mixture_db"] for row in self.rows.values()}

    def left(self, method: Method, mixtures: Iterable[Mixture], seed: int, scoring: Scoring) -> list[Mixture]:
        """Those of the mixtures that a method has not separated yet.

        Raises:
            ValueError: the run holds an item of the same name that was made otherwise, or another mixture.
        """
        now = {"settings": method.settings, "zero_mean": scoring.zero_mean, "permute": scoring.permute}
        todo = []
        for mixture in mixtures:
            if abs(self.levels.get(mixture.id, level := level_db(mixture)) - level) > 1e-3:
                raise ValueError(f"the run holds {mixture.id!r} for another mixture; use another folder")
            row = self.rows.get((mixture.id, method.name, method.preset, seed), {})
            for column, value in now.items():
                if row and row[column] != value:
                    was, wanted = _differing(row[column], value) if column == "settings" else (row[column], value)
                    raise ValueError(
                        f"the run holds {method.name!r} on {mixture.id!r} with {column} = {was!r}, now {wanted!r}; "
                        "rename the method or use another folder"
                    )
            if not row:
                todo.append(mixture)
        return todo


def _differing(before: str, now: str) -> tuple[str, str]:
    """What each of two settings has and the other has not; settings are long."""
    parts = before.split(", "), now.split(", ")
    return ", ".join(p for p in parts[0] if p not in parts[1]), ", ".join(p for p in parts[1] if p not in parts[0])


def _batches(mixtures: list[Mixture], size: int) -> Iterator[list[Mixture]]:
    """Groups of at most `size` mixtures that agree in kinds, shape and sample rate."""
    groups: dict[tuple, list[Mixture]] = {}
    for mixture in mixtures:
        groups.setdefault((mixture.kinds, mixture.sources.shape, mixture.sample_rate), []).append(mixture)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def score(method: Method, mixtures: list[Mixture], seed: int, scoring: Scoring) -> list[list[dict]]:
    """Separate one batch; rows [B][K]."""
    seeds = [noise_seed(seed, m.id) for m in mixtures]
    start = time.perf_counter()
    try:
        estimates, calls = method.separate(mixtures, seeds)
    except FloatingPointError as error:  # which knows the mixtures by their places in the batch
        raise ValueError(f"{method.name!r} on {', '.join(m.id for m in mixtures)}: {error}") from error
    device = estimates.device
    estimates = estimates.detach().to("cpu", torch.float32)
    seconds = (time.perf_counter() - start) / len(mixtures)

    sources = torch.stack([m.sources for m in mixtures])
    if estimates.shape != sources.shape:
        raise ValueError(
            f"{method.name!r} returned {list(estimates.shape)}; needed is [B, K, N] = {list(sources.shape)}"
        )
    if not torch.isfinite(estimates).all():
        bad = [m.id for m, e in zip(mixtures, estimates) if not torch.isfinite(e).all()]
        raise ValueError(f"{method.name!r} returned NaN or infinite samples for {', '.join(bad)}")
    before = si_sdr(torch.stack([m.mixture.expand_as(m.sources) for m in mixtures]), sources, scoring.zero_mean)
    common = {
        "method": method.name, "preset": method.preset, "settings": method.settings, "seed": seed,
        "zero_mean": scoring.zero_mean, "permute": scoring.permute, "seconds": seconds, "batch": len(mixtures),
        "network_calls": calls, "device": _device(device), "machine": _machine(), "versions": _versions(),
    }  # fmt: skip
    items = []
    for b, mixture in enumerate(mixtures):
        kinds = list(zip(mixture.kinds, mixture.labels, strict=True))
        index, scores = best_permutation(estimates[b], sources[b], scoring.permute, kinds, scoring.zero_mean)
        items.append([
            common | _describe(mixture, k) | {
                "noise_seed": seeds[b], "estimate": int(index[k]), "si_sdr": float(scores[k]),
                "si_sdr_unprocessed": float(before[b, k]),
            } | _pesq(estimates[b, index[k]], mixture, k)
            for k in range(len(sources[b]))
        ])  # fmt: skip
    return items


def _describe(mixture: Mixture, k: int) -> dict:
    return {
        "task": mixture.task, "split": mixture.split, "mixture": mixture.id, "mixture_db": level_db(mixture),
        "source": k, "kind": mixture.kinds[k], "label": mixture.labels[k], "voice": mixture.voices[k],
        "heard": bool(mixture.heard[k]),
    }  # fmt: skip


def _pesq(estimate: Tensor, mixture: Mixture, k: int) -> dict:
    if mixture.kinds[k] != "speech" or mixture.sample_rate not in PESQ_MODES:
        return {"pesq": float("nan"), "pesq_mode": None}
    score, mode = pesq_score(estimate, mixture.sources[k], mixture.sample_rate)
    return {"pesq": score, "pesq_mode": mode}


def level_db(mixture: Mixture) -> float:
    """RMS in dB, -120 at least."""
    return float(10 * torch.log10(mixture.mixture.double().square().mean() + 1e-12))


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {cores()} cores, {torch.get_num_threads()} threads"


def _versions() -> str:
    names = ("unasdiff-teach", "torch", "pesq")
    return ", ".join(f"{name} {version(name) or 'unknown'}" for name in names)


def _check_names(what: str, names: list) -> None:
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} must differ; given more than once: {', '.join(twice)}")
