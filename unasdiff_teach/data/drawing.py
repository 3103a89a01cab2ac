"""The paper's evaluation mixtures, one by one: which clips, and how they are cut and placed, in two placements.

"paper" is the text, "authors" the released code. Both take the same clips, pieces and levels in dB, so that they
differ in what the rules differ in (`MixtureRules.paper`, `MixtureRules.authors`): where the sources lie, and what a
level is measured over. Two more things are the code's alone: a clip of speech is padded to the canvas when only speech
is mixed, so that it always begins at 0; and nothing is normalised, which the samplers do themselves where a
configuration says so.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import one_of
from .manifest import Manifest
from .mixing import TASKS, Mixture, MixtureRules, Part, build, slug, synthesise

PLACEMENTS = ("paper", "authors")
COUNT, SEED, SECONDS = 400, 7, 4.0
DRAWS = 1000  # of clips, before a list is said to be too long for its data set


def rules(placement: str, sample_rate: int = 16_000) -> MixtureRules:
    """The rules of a placement, at the level of the sum of the sources."""
    one_of("placement", placement, PLACEMENTS)
    base = MixtureRules.paper() if placement == "paper" else MixtureRules.authors()
    return base.replace(length=round(SECONDS * sample_rate), sample_rate=sample_rate, peak=None)


def check_task(task: str, manifests: Mapping[str, Manifest]) -> None:
    """Raises ValueError if there is no such task, or no manifest for a kind of its sources."""
    one_of("task", task, TASKS)
    if missing := sorted(set(TASKS[task]) - set(manifests)):
        raise ValueError(f"{task!r} needs a manifest of {' and of '.join(missing)}")


@dataclass(frozen=True)
class Entry:
    """One mixture before it is made: its clips (rows of the manifests) and, of each, the first and one-past-last
    sample to use.
    """

    index: int
    clips: tuple[Mapping, ...]
    spans: tuple[tuple[int, int], ...]


def draw(
    task: str, manifests: Mapping[str, Manifest], split: str = "test", count: int = COUNT, seed: int = SEED
) -> list[Entry]:
    """The clips of each mixture of a list; no audio is read, and no two mixtures have the same clips.

    A sound: a class uniformly, one of its clips uniformly, one of its active spans in proportion to its length (the
    released code's rule; the paper says nothing of spans). Speech: a speaker uniformly, one of their utterances
    uniformly, all of it. Classes, and speakers, differ within a mixture.

    Args:
        task: one of `TASKS`. manifests: {"speech": ..., "sound": ...}, as far as the task needs them.

    Raises:
        ValueError: unknown task; a manifest is missing, or has too few clips, classes or speakers.
    """
    check_task(task, manifests)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{task}/{split}".encode()))
    groups = {kind: _groups(manifests[kind], split) for kind in set(TASKS[task])}
    for kind, found in groups.items():
        if len(found) < TASKS[task].count(kind):
            what = "speakers" if kind == "speech" else "classes"
            raise ValueError(
                f"{task!r} needs {TASKS[task].count(kind)} {what}; {manifests[kind].name} has {len(found)} in {split}"
                "; other tasks can be chosen (--task)"
            )
    entries, seen = [], set()
    for index in range(count):
        for _ in range(DRAWS):
            clips = _draw_clips(TASKS[task], groups, generator)
            key = tuple(sorted(clip["id"] for clip in clips))
            if key not in seen:
                break
        else:
            raise ValueError(
                f"only {index} different mixtures of {task!r} were found in {DRAWS} draws each; {count} were asked for"
            )
        seen.add(key)
        spans = tuple(_draw_span(clip, manifests[kind], generator) for kind, clip in zip(TASKS[task], clips))
        entries.append(Entry(index, clips, spans))
    return entries


def _groups(manifest: Manifest, split: str) -> list[list[dict]]:
    """The clips of each class or speaker; a clip of an unknown speaker is a group of its own."""
    rows = manifest.clips(split)
    groups: dict[str, list[dict]] = {}
    for name, row in zip(manifest.groups(rows), rows.to_dict("records"), strict=True):
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


def make(entry: Entry, task: str, placement: str, manifests: Mapping[str, Manifest], seed: int = SEED) -> Mixture:
    """The mixture of an entry. What is random in it depends on the seed, the task and the index, and not on the
    placement.
    """
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
        id=f"{slug(task)}_{placement}_{entry.index:03d}", task=task, clip_ids=tuple(row["id"] for row in entry.clips),
        kinds=kinds,
    )  # fmt: skip


def to_files(sources: Tensor) -> tuple[Tensor, Tensor, float]:
    """(mixture [N], sources [K, N], gain) on the grid of 16 bit files.

    The gain is the largest power of two, 1 at most, that keeps everything within full scale: it can be undone exactly.
    Sources are rounded first, and the mixture is their sum, so that the files add up without an error. Rounding costs
    -101 dB.
    """
    peak = max(float(sources.abs().max()), float(sources.sum(0).abs().max()))
    gain = 2.0 ** -max(0, math.ceil(math.log2(peak / 0.999))) if peak > 0.999 else 1.0
    rounded = (sources.double() * gain * 32768).round() / 32768
    return rounded.sum(0).float(), rounded.float(), gain
