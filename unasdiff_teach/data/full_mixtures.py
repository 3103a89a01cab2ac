"""The paper's evaluation mixtures, drawn from converted data sets and written once, so that any system can be scored on them.

Five settings, 400 mixtures each, in two placements: "paper", the text, and "authors", the released code. Both take the same clips,
pieces and levels in dB, so that they differ in what the rules differ in (`MixtureRules.paper`, `MixtureRules.authors`): where the
sources lie, and what a level is measured over. Two more things are the code's alone: a clip of speech is padded to the canvas when
only speech is mixed, so that it always begins at 0; and nothing is normalised, which the samplers do themselves where a
configuration says so.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._files import Journal
from .archives import room
from .audio import read
from .manifest import Manifest, write_table
from .mixing import TASKS, Mixture, MixtureRules, Part, build, synthesise

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
TABLE, JOURNAL = "mixtures.parquet", "journal.jsonl"
PLACEMENTS = ("paper", "authors")
COUNT, SEED, SECONDS = 400, 7, 4.0
DRAWS = 1000  # of clips, before a list is said to be too long for its data set
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
    "file_gain": "float64",  # signal in the files = this times the true signal; a power of two, 1 unless a peak passes full scale
}


def slug(task: str) -> str:
    """A task as part of a file name: "1 speech + 1 sound" is 1speech_1sound."""
    return task.replace(" + ", "_").replace(" ", "")


def rules(placement: str, sample_rate: int = 16_000, seconds: float = SECONDS) -> MixtureRules:
    """The rules of a placement, at the level of the sum of the sources."""
    if placement not in PLACEMENTS:
        raise ValueError(f"placement is {placement!r}; accepted: {', '.join(map(repr, PLACEMENTS))}")
    base = MixtureRules.paper() if placement == "paper" else MixtureRules.authors()
    return base.replace(length=round(seconds * sample_rate), sample_rate=sample_rate, peak=None)


# ---------------------------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Entry:
    """One mixture before it is made: its clips (rows of the manifests) and, of each, the first and one-past-last sample to use."""

    index: int
    clips: tuple[Mapping, ...]
    spans: tuple[tuple[int, int], ...]


def draw(task: str, manifests: Mapping[str, Manifest], split: str = "test", count: int = COUNT, seed: int = SEED) -> list[Entry]:
    """The clips of each mixture of a list; no audio is read, and no two mixtures have the same clips.

    A sound: a class uniformly, one of its clips uniformly, one of its active spans in proportion to its length (the released
    code's rule; the paper says nothing of spans). Speech: a speaker uniformly, one of their utterances uniformly, all of it.
    Classes, and speakers, differ within a mixture.

    Args:
        task: one of `TASKS`. manifests: {"speech": ..., "sound": ...}, as far as the task needs them.

    Raises:
        ValueError: unknown task; a manifest is missing, or has too few clips, classes or speakers.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; accepted: {', '.join(map(repr, TASKS))}")
    if missing := sorted(set(TASKS[task]) - set(manifests)):
        raise ValueError(f"{task!r} needs a manifest of {' and of '.join(missing)}")
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{task}/{split}".encode()))
    groups = {kind: _groups(manifests[kind], split) for kind in set(TASKS[task])}
    for kind, found in groups.items():
        if len(found) < TASKS[task].count(kind):
            what = "speakers" if kind == "speech" else "classes"
            raise ValueError(f"{task!r} needs {TASKS[task].count(kind)} {what}; {manifests[kind].name} has {len(found)} in {split}")
    entries, seen = [], set()
    for index in range(count):
        for _ in range(DRAWS):
            clips = _draw_clips(TASKS[task], groups, generator)
            key = tuple(sorted(clip["id"] for clip in clips))
            if key not in seen:
                break
        else:
            raise ValueError(f"only {index} different mixtures of {task!r} were found in {DRAWS} draws each; {count} were asked for")
        seen.add(key)
        spans = tuple(_draw_span(clip, manifests[kind], generator) for kind, clip in zip(TASKS[task], clips))
        entries.append(Entry(index, clips, spans))
    return entries


def _groups(manifest: Manifest, split: str) -> list[list[dict]]:
    """The clips of each class or speaker; a clip of an unknown speaker is a group of its own."""
    rows = manifest.clips(split)
    key = "label" if manifest.kind == "sound" else "speaker"
    groups: dict[str, list[dict]] = {}
    for row in rows.to_dict("records"):
        name = row[key] if isinstance(row[key], str) else f"clip {row['id']}"
        groups.setdefault(name, []).append(row)
    return [groups[name] for name in sorted(groups)]


def _pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _draw_clips(kinds: Sequence[str], groups: Mapping[str, list], generator: torch.Generator) -> tuple[dict, ...]:
    left = {kind: list(range(len(found))) for kind, found in groups.items()}
    clips = []
    for kind in kinds:
        members = groups[kind][left[kind].pop(_pick(len(left[kind]), generator))]
        clips.append(members[_pick(len(members), generator)])
    return tuple(clips)


def _draw_span(clip: Mapping, manifest: Manifest, generator: torch.Generator) -> tuple[int, int]:
    if manifest.kind == "speech":
        return 0, clip["samples"]
    spans = torch.tensor(clip["spans"], dtype=torch.float64)
    chosen = int(torch.multinomial(spans[:, 1] - spans[:, 0], 1, generator=generator))
    first, last = (round(t * manifest.sample_rate) for t in clip["spans"][chosen])
    return first, min(last, clip["samples"])


# ---------------------------------------------------------------------------------------------------------- making


def make(entry: Entry, task: str, placement: str, manifests: Mapping[str, Manifest], seed: int = SEED) -> Mixture:
    """The mixture of an entry. What is random in it depends on the seed, the task and the index, and not on the placement."""
    kinds = TASKS[task]
    used = rules(placement, manifests[kinds[0]].sample_rate)
    clips = [manifests[kind].read(row["path"]) for kind, row in zip(kinds, entry.clips)]
    pieces = [clip[first:last] for clip, (first, last) in zip(clips, entry.spans)]
    canvas = pieces
    if placement == "authors" and set(kinds) == {"speech"}:
        canvas = [torch.nn.functional.pad(piece, (0, max(0, used.length - len(piece)))) for piece in pieces]
    drawn = synthesise(canvas, used, seed=zlib.crc32(f"{seed}/{task}/{entry.index}".encode()))
    parts = [
        Part(first + part.start, min(part.length, len(piece) - part.start), part.offset, part.level_db)
        for part, piece, (first, _) in zip(drawn.parts, pieces, entry.spans)
    ]
    return replace(
        build(clips, parts, used),
        id=f"{slug(task)}_{placement}_{entry.index:03d}", task=task, clip_ids=tuple(row["id"] for row in entry.clips), kinds=kinds,
    )  # fmt: skip


def to_files(sources: Tensor) -> tuple[Tensor, Tensor, float]:
    """(mixture [N], sources [K, N], gain) on the grid of 16 bit files.

    The gain is the largest power of two, 1 at most, that keeps everything within full scale: it can be undone exactly. Sources are
    rounded first, and the mixture is their sum, so that the files add up without an error. Rounding costs -101 dB.
    """
    peak = max(float(sources.abs().max()), float(sources.sum(0).abs().max()))
    gain = 2.0 ** -max(0, math.ceil(math.log2(peak / 0.999))) if peak > 0.999 else 1.0
    rounded = (sources.double() * gain * 32768).round() / 32768
    return rounded.sum(0).float(), rounded.float(), gain


# ---------------------------------------------------------------------------------------------------------- lists


@dataclass(frozen=True)
class Plan:
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
) -> Plan:
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
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; accepted: {', '.join(map(repr, TASKS))}")
        if missing := sorted(set(TASKS[task]) - set(manifests)):
            raise ValueError(f"{task!r} needs a manifest of {' and of '.join(missing)}")
    for placement in placements:
        rules(placement)
    if count < 1:
        raise ValueError(f"count is {count}; at least 1 is needed")
    folder = Path(folder)
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"no folder {folder.parent} to put {folder.name} into")
    return Plan(folder, tuple(tasks), tuple(placements), count, rates.pop())


def write(
    plan: Plan, manifests: Mapping[str, Manifest], split: str = "test", seed: int = SEED, progress: bool = False
) -> pd.DataFrame:
    """Draw and write lists of mixtures; what is there already stays, so that a stop costs one mixture.

    Each mixture is PLACEMENT/TASK/INDEX_mixture.flac with INDEX_1.flac, INDEX_2.flac and so on for its sources: FLAC of 16 bit that
    adds up exactly. `mixtures.parquet` has a row for each source, columns as in `COLUMNS`.

    Returns:
        That table.

    Raises:
        ValueError: the folder holds lists of another seed, split or data set; a clip cannot be read; too few clips.
        OSError: the disk is full; what is written is kept.
    """
    from tqdm import tqdm

    plan.folder.mkdir(exist_ok=True)
    head = {
        "version": VERSION, "seed": seed, "split": split, "sample_rate": plan.sample_rate, "seconds": SECONDS,
        "rules": {placement: asdict(rules(placement, plan.sample_rate)) for placement in PLACEMENTS},
        "data": {kind: {"name": m.name, "fingerprint": m.fingerprint} for kind, m in sorted(manifests.items())},
    }  # fmt: skip
    journal = Journal(plan.folder / JOURNAL)
    done = _done(journal, head)
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
    from .audio import write as write_audio

    place = Path(placement) / slug(mixture.task)
    (folder / place).mkdir(parents=True, exist_ok=True)
    total, sources, gain = to_files(mixture.sources)
    names = [f"{entry.index:03d}_{k + 1}.flac" for k in range(len(sources))]
    whole = (place / f"{entry.index:03d}_mixture.flac").as_posix()
    for name, audio in [*zip(names, sources), (Path(whole).name, total)]:
        write_audio(folder / place / name, audio, mixture.sample_rate)
    return [
        {
            "id": mixture.id, "task": mixture.task, "placement": placement, "split": split, "source": k, "kind": mixture.kinds[k],
            "label": _text(clip["label"]), "speaker": _text(clip["speaker"]), "clip": clip["id"], "clip_sha256": clip["sha256"],
            **asdict(mixture.parts[k]), "file": (place / names[k]).as_posix(), "mixture_file": whole, "file_gain": gain,
        }
        for k, clip in enumerate(entry.clips)
    ]  # fmt: skip


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _done(journal: Journal, head: Mapping) -> dict[str, list[dict]]:
    """{id: rows} of the mixtures that are written; the first line of the journal says what they are."""
    made, items = journal.begin(head)
    now, folder = json.loads(json.dumps(head)), journal.path.parent
    if changed := sorted(key for key in {*made, *now} if made.get(key) != now.get(key)):
        raise ValueError(f"{folder} holds lists made with another {', '.join(changed)}; choose another folder")
    whole = (rows for rows in items if all((folder / name).is_file() for name in _files(rows)))
    return {rows[0]["id"]: rows for rows in whole}


def _files(rows: Sequence[Mapping]) -> Iterator[str]:
    yield rows[0]["mixture_file"]
    yield from (row["file"] for row in rows)


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

    The voices are all new to a prior that was trained on the other speakers, and count as not heard; the classes as heard.

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
    parts = [Part(*map(int, values[:3]), float(values[3])) for values in rows[["start", "length", "offset", "level_db"]].to_numpy()]
    return Mixture(
        sources.sum(0), sources, tuple(parts), rates[0], id=first["id"], task=first["task"], split=first["split"],
        clip_ids=tuple(column["clip"]), kinds=tuple(column["kind"]), labels=tuple(column["label"]),
        voices=tuple(column["speaker"]), heard=tuple(kind == "sound" for kind in column["kind"]),
    )  # fmt: skip
