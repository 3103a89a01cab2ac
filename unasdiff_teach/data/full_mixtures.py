"""Lists of the paper's evaluation mixtures, written once from converted data sets, so that any system can be scored on
them.

Five settings, 400 mixtures each, in two placements; `drawing` says which.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .._files import Journal, locked
from .archives import room
from .audio import read
from .audio import write as write_audio
from .drawing import COUNT, PLACEMENTS, SECONDS, SEED, Entry, check_task, draw, make, rules, to_files
from .manifest import Manifest, write_table
from .mixing import TASKS, Mixture, Part, slug

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
TABLE, JOURNAL = "mixtures.parquet", "journal.jsonl"
COLUMNS = {
    "id": "string",  # of the mixture
    "task": "string",
    "placement": "string",
    "split": "string",
    "source": "int64",  # index k in the mixture
    "kind": "string",
    "label": "string",  # class of a sound
    "speaker": "string",  # of speech
    "clip": "string",  # identifier in its manifest
    "clip_sha256": "string",
    "start": "int64",  # first sample of the piece in the clip
    "length": "int64",  # samples
    "offset": "int64",  # first sample in the mixture
    "level_db": "float64",
    "file": "string",  # of the source, from the folder of the list
    "mixture_file": "string",
    # signal in the files = this times the true signal; a power of two, 1 unless a peak passes full scale
    "file_gain": "float64",
}


@dataclass(frozen=True)
class MixturePlan:
    """What `write` will do: lists of (task, placement), and its cost."""

    folder: Path
    tasks: tuple[str, ...]
    placements: tuple[str, ...]
    count: int
    sample_rate: int

    @property
    def mixtures(self) -> int:
        return self.count * len(self.tasks) * len(self.placements)

    @property
    def bytes(self) -> int:
        """Of all files, and rather too many: FLAC takes about half of 16 bit audio, less where it is silent."""
        files = sum(len(TASKS[task]) + 1 for task in self.tasks) * len(self.placements) * self.count
        return round(0.6 * 2 * SECONDS * self.sample_rate * files)

    @property
    def minutes(self) -> float:
        """On one core: measured, 31 ms for a mixture."""
        return self.mixtures * 0.05 / 60


def plan(
    folder: str | Path,
    manifests: Mapping[str, Manifest],
    tasks: Sequence[str] | None = None,
    placements: Sequence[str] = PLACEMENTS,
    count: int = COUNT,
) -> MixturePlan:
    """Check what is asked for. Without `tasks`: all five, or those that the given manifests allow.

    Raises:
        ValueError: a task or placement that is not known; a manifest of another kind or rate; no task is possible.
        FileNotFoundError: the parent of `folder` is missing.
    """
    for kind, manifest in manifests.items():
        if manifest.kind != kind:
            raise ValueError(f"{manifest.folder} holds {manifest.kind}, and was given as {kind}")
    if len(rates := {manifest.sample_rate for manifest in manifests.values()}) > 1:
        raise ValueError(f"the manifests have different rates: {', '.join(map(str, sorted(rates)))} Hz")
    if tasks is None:
        tasks = [task for task, kinds in TASKS.items() if set(kinds) <= set(manifests)]
    if not tasks or not manifests:
        raise ValueError("no task is possible without a manifest; give one of speech, one of sounds, or both")
    for task in tasks:
        check_task(task, manifests)
    for placement in placements:
        rules(placement)
    if count < 1:
        raise ValueError(f"count is {count}; at least 1 is needed")
    folder = Path(folder)
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"no folder {folder.parent} to put {folder.name} into")
    return MixturePlan(folder, tuple(tasks), tuple(placements), count, rates.pop())


def write(
    plan: MixturePlan, manifests: Mapping[str, Manifest], split: str = "test", seed: int = SEED, progress: bool = False
) -> pd.DataFrame:
    """Draw and write lists of mixtures; what is there already stays, so that a stop costs one mixture.

    Each mixture is PLACEMENT/TASK/INDEX_mixture.flac with INDEX_1.flac, INDEX_2.flac and so on for its sources: FLAC
    of 16 bit that adds up exactly. `mixtures.parquet` has a row for each source, columns as in `COLUMNS`.

    Returns:
        That table.

    Raises:
        ValueError: the folder holds lists of another seed, split or data set; a clip cannot be read; too few clips.
        OSError: the disk is full; what is written is kept.
        BlockingIOError: another call is writing into the folder.
    """
    from tqdm import tqdm

    head = {
        "version": VERSION, "seed": seed, "split": split, "sample_rate": plan.sample_rate, "seconds": SECONDS,
        "rules": {placement: asdict(rules(placement, plan.sample_rate)) for placement in PLACEMENTS},
        "data": {kind: {"name": m.name, "fingerprint": m.fingerprint} for kind, m in sorted(manifests.items())},
    }  # fmt: skip
    with locked(plan.folder, "writing of mixtures"):
        journal = Journal(plan.folder / JOURNAL)
        done = {rows[0]["id"]: rows for rows in journal.begin(head) if _is_whole(plan.folder, rows)}
        entries = {task: draw(task, manifests, split, plan.count, seed) for task in plan.tasks}
        todo = [
            (task, placement, entry)
            for task in plan.tasks
            for placement in plan.placements
            for entry in entries[task]
            if f"{slug(task)}_{placement}_{entry.index:03d}" not in done
        ]
        room(plan.folder, round(plan.bytes * len(todo) / plan.mixtures), "writing the mixtures")
        for task, placement, entry in tqdm(todo, unit="mixture", desc="mixtures", disable=not progress):
            mixture = make(entry, task, placement, manifests, seed)
            rows = _write_one(mixture, entry, placement, split, plan.folder)
            journal.append(rows, sync=False)
            done[mixture.id] = rows
        return _save([row for rows in done.values() for row in rows], head, plan.folder / TABLE)


def _write_one(mixture: Mixture, entry: Entry, placement: str, split: str, folder: Path) -> list[dict]:
    """Write the files of a mixture; rows of the table."""
    place = Path(placement) / slug(mixture.task)
    (folder / place).mkdir(parents=True, exist_ok=True)
    total, sources, gain = to_files(mixture.sources)
    names = [f"{entry.index:03d}_{k + 1}.flac" for k in range(len(sources))]
    whole = (place / f"{entry.index:03d}_mixture.flac").as_posix()
    for name, audio in [*zip(names, sources), (Path(whole).name, total)]:
        write_audio(folder / place / name, audio, mixture.sample_rate)
    return [
        {
            "id": mixture.id, "task": mixture.task, "placement": placement, "split": split, "source": k,
            "kind": mixture.kinds[k], "label": _text(clip["label"]), "speaker": _text(clip["speaker"]),
            "clip": clip["id"], "clip_sha256": clip["sha256"], **asdict(mixture.parts[k]),
            "file": (place / names[k]).as_posix(), "mixture_file": whole, "file_gain": gain,
        }
        for k, clip in enumerate(entry.clips)
    ]  # fmt: skip


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_whole(folder: Path, rows: Sequence[Mapping]) -> bool:
    """Whether all files of a mixture are there."""
    return all((folder / name).is_file() for name in (rows[0]["mixture_file"], *(row["file"] for row in rows)))


def _save(rows: Sequence[Mapping], head: Mapping, path: Path) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS)
    frame = frame.sort_values(["placement", "task", "id", "source"], ignore_index=True)
    write_table(frame, head, path)
    return frame


# ---------------------------------------------------------------------------------------------------------- reading


def table(folder: str | Path) -> pd.DataFrame:
    """The table of all lists in a folder, columns as in `COLUMNS`.

    Raises:
        FileNotFoundError: there is none.
    """
    import pandas as pd

    path = Path(folder) / TABLE
    if not path.is_file():
        raise FileNotFoundError(f"no list of mixtures at {path}; `unasdiff-teach data mixtures` makes one")
    return pd.read_parquet(path)


def fingerprint(folder: str | Path) -> str:
    """What tells the lists of two folders apart, wherever they lie: data sets, seed, split and rules.

    Returns:
        Eight hexadecimal digits; they stay when `write` adds tasks, placements or mixtures.

    Raises:
        FileNotFoundError: there is no list.
    """
    import pyarrow.parquet

    rows = table(folder)
    made = (pyarrow.parquet.read_schema(Path(folder) / TABLE).metadata or {}).get(b"unasdiff")
    # A table that `write` did not make says nothing of its making, and is known by its rows.
    return f"{zlib.crc32(made or rows.to_csv(index=False).encode()):08x}"


def load(
    folder: str | Path,
    task: str | None = None,
    placement: str = "paper",
    count: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> list[Mixture]:
    """Mixtures of a written list, as `evaluation.evaluate` takes them, at their true level.

    The voices are all new to a prior that was trained on the other speakers, and count as not heard; the classes as
    heard.

    Args:
        folder: of `write`.
        task: one of `TASKS`; None gives all that are there.
        placement: "paper" or "authors".
        count: only the first of each task.
        shard: (i, n) gives every n-th mixture from the i-th on, so that n processes share the work.

    Raises:
        FileNotFoundError: no list, or a file of it is missing.
        ValueError: no such task or placement in it; a file is damaged.
    """
    folder = Path(folder)
    rows = table(folder)
    rows = rows[(rows["placement"] == placement) & ((rows["task"] == task) if task is not None else True)]
    if rows.empty:
        raise ValueError(f"{folder} has no mixtures of task {task!r} and placement {placement!r}")
    ids = [name for _, group in rows.groupby("task", sort=False) for name in list(dict.fromkeys(group["id"]))[:count]]
    index, shards = shard
    if not 0 <= index < shards:
        raise ValueError(f"shard is {shard}; (i, n) with 0 <= i < n is needed")
    by_id = dict(list(rows.groupby("id", sort=False)))
    return [_load_one(folder, by_id[name]) for name in ids[index::shards]]


def _load_one(folder: Path, rows: pd.DataFrame) -> Mixture:
    first = rows.iloc[0]
    signals, rates = zip(*(read(folder / name) for name in rows["file"]))
    sources = torch.stack(signals) / first["file_gain"]
    column = {name: [_text(value) for value in rows[name]] for name in ("clip", "kind", "label", "speaker")}
    parts = [
        Part(*map(int, values[:3]), float(values[3]))
        for values in rows[["start", "length", "offset", "level_db"]].to_numpy()
    ]
    return Mixture(
        sources.sum(0), sources, tuple(parts), rates[0], id=first["id"], task=first["task"], split=first["split"],
        clip_ids=tuple(column["clip"]), kinds=tuple(column["kind"]), labels=tuple(column["label"]),
        voices=tuple(column["speaker"]), heard=tuple(kind == "sound" for kind in column["kind"]),
    )  # fmt: skip
