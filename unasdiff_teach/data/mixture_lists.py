"""Draws the fixed lists of mixtures: `python -m unasdiff_teach.data.mixture_lists`.

The lists are drawn once from a seed and committed, before any prior is trained.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from .._files import write_json
from .audio import active_span
from .mixing import LIST_SPLITS, SPEECH_SOUND, TASKS, MixtureRules, read_real, real_audio_folder, slug, synthesise
from .pocket_corpus import CORPUS, SAMPLE_RATE, SOUND_CLASSES, UNHEARD_VOICES, VOICES, pocket, pocket_hash

VERSION = "1"
SEED = 7
BLOCKS = {"test": (20, 20), "validation": (12,)}
BLOCKS_SPEECH_SOUND = {"test": (40,), "validation": (24,)}
"""How many mixtures are drawn at a time. A list grows by a further block, which leaves those before it as they are."""
STRIDES = ((0, 4, 2), (0, 5, 4), (0, 6, 9), (0, 7, 8))
"""Places of the sounds of a mixture in the order of the classes, for twelve mixtures at a time, so that other classes
meet for 36 mixtures at least, and none ever meets itself.
"""
SOUND_SECONDS = (1.0, 2.0)
REAL_COUNT = 10
DRAWS = 30
HEARD_VOICES = tuple(voice for voice in VOICES if voice not in UNHEARD_VOICES)


class Deck:
    """Deals items evenly: each once, in random order, before any comes a second time."""

    def __init__(self, items: Iterable, rng: random.Random):
        self.items, self.rng, self.rest = list(items), rng, []

    def deal(self, barred: Sequence = ()) -> object:
        """The next item that is not among `barred`."""
        if all(item in barred for item in self.rest):
            fresh = [item for item in self.items if item not in self.rest]
            self.rest = self.rest + self.rng.sample(fresh, len(fresh))
        item = next(item for item in self.rest if item not in barred)
        self.rest.remove(item)
        return item


def excerpt(audio: Tensor, active: tuple[int, int], seconds: float, rng: random.Random) -> tuple[int, int]:
    """(first sample, samples) of an excerpt that begins within the `active` span of `audio`."""
    length = min(round(seconds * SAMPLE_RATE), len(audio))
    first, last = active
    latest = max(0, last - length)
    return rng.randint(min(first, latest), latest), length


def draw(clips: Sequence[tuple[Tensor, Callable[[], float]]], rng: random.Random) -> list[dict] | None:
    """Parts of a random mixture of `clips` [(audio, seconds)], or None if every draw is too loud.

    A short, spiky sound at its level over the canvas can pass 1.0, where files clip and the clamp
    of the Tweedie estimate bites: such a draw is repeated.
    """
    active = [active_span(audio, SAMPLE_RATE) for audio, _ in clips]
    for _ in range(DRAWS):
        cuts = [excerpt(audio, span, seconds(), rng) for (audio, seconds), span in zip(clips, active)]
        pieces = [audio[a : a + n] for (audio, _), (a, n) in zip(clips, cuts)]
        mixture = synthesise(pieces, MixtureRules.pocket(), rng.randrange(2**31))
        if float(mixture.mixture.abs().max()) < 1 and float(mixture.sources.abs().max()) < 1:
            return [
                {"start": a + part.start, "length": part.length, "offset": part.offset, "level_db": part.level_db}
                for (a, _), part in zip(cuts, mixture.parts)
            ]
    return None


def voices_of(task: str, split: str, numbers: Iterable[int], rng: random.Random) -> list[list[str]]:
    """Voices of each mixture of `numbers` [mixtures][speakers]; in the test split half of them are unheard."""
    heard, unheard = Deck(HEARD_VOICES, rng), Deck(UNHEARD_VOICES, rng)
    speakers = TASKS[task].count("speech")
    result = []
    for i in numbers:
        chosen = []
        for k in range(speakers):
            # Every combination of heard and unheard comes equally often; the extra shift after
            # 12 mixtures lets each sound class meet both.
            strange = split == "test" and (i + i // 12 if k == 0 else i // 2) % 2 == 1
            chosen.append((unheard if strange else heard).deal(barred=chosen))
        result.append(chosen)
    return result


def draw_list(task: str, split: str) -> list[dict]:
    """The list of one task and split, as it is stored."""
    rng = random.Random(f"{SEED} {task} {split}")
    blocks = (BLOCKS_SPEECH_SOUND if task == SPEECH_SOUND else BLOCKS)[split]
    decks = {
        label: Deck([clip for clip in pocket(kind, split) if clip.label == label], rng)
        for kind in ("speech", "sound")
        for label in pocket(kind, split).labels
    }
    # One order of the classes, repeated: each appears equally often (give or take one).
    order = rng.sample(SOUND_CLASSES, len(SOUND_CLASSES))
    sounds = TASKS[task].count("sound")
    entries = []
    for last, count in zip(accumulate(blocks), blocks):
        numbers = range(last - count, last)
        for i, voices in zip(numbers, voices_of(task, split, numbers, rng)):
            classes = [order[(i + stride) % 12] for stride in STRIDES[i // 12][:sounds]]
            seconds = {"speech": lambda: 2.0, "sound": lambda: rng.uniform(*SOUND_SECONDS)}
            speech, parts = [decks[voice].deal() for voice in voices], None
            while parts is None:
                clips = speech + [decks[label].deal() for label in classes]
                parts = draw([(clip.audio, seconds[clip.kind]) for clip in clips], rng)
            sources = [{"clip": clip.id, **part} for clip, part in zip(clips, parts)]
            entries.append({"id": f"{slug(task)}_{split}_{i:02d}", "sources": sources})
    return entries


def draw_real_list(folder: Path) -> list[dict]:
    """Ten mixtures of the real recordings in `folder`: the ten longest sounds, each once."""
    rng = random.Random(f"{SEED} real")
    files = [path for path in sorted((folder / "fsdkaggle2018").iterdir()) if path.name.split("__")[0] in SOUND_CLASSES]
    names = [f"fsdkaggle2018/{path.name}" for path in files]
    audio = {name: read_real(folder, name) for name in names}
    sounds = sorted(names, key=lambda name: -len(audio[name]))[:REAL_COUNT]
    # Two speakers of VCTK, the others from the collection of many.
    speech = ["vctk/" + next((folder / "vctk").glob(f"{who}_*")).name for who in ("p227", "p351")]
    others = [f"speech/{path.name}" for path in sorted((folder / "speech").glob("*.ogg"))]
    speech += rng.sample(others, REAL_COUNT - len(speech))
    entries = []
    for i, pair in enumerate(zip(speech, rng.sample(sounds, len(sounds)))):
        clips = [read_real(folder, name) for name in pair]
        seconds = (lambda: 2.0, lambda: rng.uniform(*SOUND_SECONDS))
        parts = draw(list(zip(clips, seconds)), rng)
        if parts is None:
            raise RuntimeError(f"{pair} is too loud at every draw; choose another seed")
        entries.append({"id": f"real_{i:02d}", "sources": [{"file": name, **part} for name, part in zip(pair, parts)]})
    return entries


def main() -> None:
    """Draw all lists; those of real recordings only where the recordings are."""
    torch.set_num_threads(1)
    rules = asdict(MixtureRules.pocket())
    lists = {task: {split: draw_list(task, split) for split in LIST_SPLITS} for task in TASKS}
    write_json(CORPUS / "mixtures.json", {"version": VERSION, "corpus": pocket_hash(), "rules": rules, "lists": lists})
    try:
        folder = real_audio_folder()
    except FileNotFoundError as error:
        print(f"real_mixtures.json stays as it is: {error}")
        return
    write_json(
        CORPUS / "real_mixtures.json", {"version": VERSION, "rules": rules, "mixtures": draw_real_list(Path(folder))}
    )


if __name__ == "__main__":
    main()
