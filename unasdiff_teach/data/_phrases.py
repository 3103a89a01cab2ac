"""Random musical phrases and rhythms as MIDI, for the sound classes of the pocket corpus."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

TICKS_PER_SECOND = 960  # 480 ticks for a quarter note at 120 beats a minute
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))
DRUM_CHANNEL = 9
Note = tuple[float, float, int, int]  # beginning and length in seconds, key, velocity


@dataclass(frozen=True)
class Instrument:
    """How one class is played.

    Attributes:
        programs: General MIDI programs counted from 0; on the drum channel, kits.
        keys: lowest and highest key; on the drum channel, the keys to choose from.
        style: "melody", "bells" (notes ring on), "hits", "ring" (telephone) or "crowd".
        notes: shortest and longest note in seconds.
        bend: detuning of a whole clip, at most this many semitones up or down.
    """

    programs: tuple[int, ...]
    keys: tuple[int, ...]
    style: str
    notes: tuple[float, float] = (0.15, 0.6)
    chord: float = 0.0
    drum: bool = False
    bend: float = 0.4


INSTRUMENTS = {
    "Violin_or_fiddle": Instrument((40, 110), (55, 88), "melody", (0.15, 1.2)),
    "Chime": Instrument((14,), (55, 79), "bells", (0.3, 1.2), chord=0.1),
    "Flute": Instrument((73,), (60, 91), "melody", (0.12, 1.0)),
    "Trumpet": Instrument((56,), (54, 82), "melody", (0.12, 0.9)),
    "Glockenspiel": Instrument((9,), (72, 96), "bells", (0.12, 0.6), chord=0.15),
    "Electric_piano": Instrument((4, 5), (43, 79), "melody", (0.2, 1.2), chord=0.5),
    "Double_bass": Instrument((32, 43), (28, 50), "melody", (0.2, 0.9)),
    "Snare_drum": Instrument((0, 16, 25, 40), (38, 40), "hits", (0.09, 0.4), drum=True, bend=2.0),
    "Hi-hat": Instrument((0, 25), (42, 46), "hits", (0.09, 0.3), drum=True, bend=2.0),
    "Cowbell": Instrument((0, 25), (56,), "hits", (0.12, 0.5), drum=True, bend=4.0),
    "Telephone": Instrument((124,), (53, 67), "ring", (0.4, 1.3), bend=3.0),
    "Applause": Instrument((126,), (48, 67), "crowd", bend=1.0),
}


def _melody(instrument: Instrument, rng: Random, seconds: float) -> list[Note]:
    """A random walk on a scale with a steady pulse, some rests and chords."""
    low, high = instrument.keys
    tonic, scale = rng.randrange(12), rng.choice(SCALES)
    steps = [k for k in range(low, high + 1) if (k - tonic) % 12 in scale]
    place = rng.randrange(len(steps))
    shortest, longest = instrument.notes
    pulse = rng.uniform(shortest, min(2.5 * shortest, longest))
    ring = rng.uniform(1.5, 4.0) if instrument.style == "bells" else None
    time, notes = 0.0, []
    while time < seconds:
        length = min(pulse * rng.choice((1, 1, 1, 2, 2, 3, 4)), longest)
        if notes and rng.random() < 0.1:
            time += length
            continue
        place = min(max(place + rng.choice((-4, -2, -1, -1, 1, 1, 2, 4)), 0), len(steps) - 1)
        velocity = rng.randrange(60, 121)
        chord = [place]
        if rng.random() < instrument.chord:
            chord += [p for p in (place + 2, place + 4) if p < len(steps)]
        for p in chord:
            notes.append((time, ring or length * rng.uniform(0.7, 0.98), steps[p], velocity))
        time += length
    return notes


def _hits(instrument: Instrument, rng: Random, seconds: float) -> list[Note]:
    """A repeated random bar on a grid, with accents and small timing errors."""
    grid = rng.uniform(*instrument.notes)
    bar = [rng.random() < 0.65 for _ in range(rng.choice((6, 8, 8, 12, 16)))]
    bar[0] = True
    keys = rng.sample(instrument.keys, rng.randint(1, min(2, len(instrument.keys))))
    loud = rng.randrange(85, 121)
    notes, step = [], 0
    while step * grid < seconds:
        if bar[step % len(bar)]:
            time = max(0.0, step * grid + rng.gauss(0, 0.006))
            velocity = loud if step % 4 == 0 else rng.randrange(50, loud)
            notes.append((time, 0.6 * grid, rng.choice(keys), velocity))
        step += 1
    return notes


def _ring(instrument: Instrument, rng: Random, seconds: float) -> list[Note]:
    """One key held again and again, with equal pauses: a telephone."""
    key, velocity = rng.randint(*instrument.keys), rng.randrange(80, 121)
    hold, pause = rng.uniform(*instrument.notes), rng.uniform(0.15, 0.5)
    notes, time = [], 0.0
    while time < seconds:
        notes.append((time, hold, key, velocity))
        time += hold + pause
    return notes


def _crowd(instrument: Instrument, rng: Random, seconds: float) -> list[Note]:
    """Several held keys that enter at different times: the looped recording never repeats alike."""
    keys = rng.sample(range(instrument.keys[0], instrument.keys[1] + 1), rng.randint(2, 4))
    starts = [0.0] + [rng.uniform(0.0, 0.8 * seconds) for _ in keys[1:]]
    return [(s, seconds, k, rng.randrange(70, 121)) for s, k in zip(starts, keys)]


STYLES = {"melody": _melody, "bells": _melody, "hits": _hits, "ring": _ring, "crowd": _crowd}


def _clip_events(
    instrument: Instrument, rng: Random, start: float, seconds: float, slot: float
) -> list[tuple[int, int, bytes]]:
    """MIDI messages (tick, order, bytes) of one clip that begins at `start` seconds."""
    channel = DRUM_CHANNEL if instrument.drum else 0
    bend_range = 5
    bend = rng.uniform(-instrument.bend, instrument.bend) / bend_range
    wheel = int(round(8192 + 8191 * bend))
    setup = [
        bytes((0xC0 | channel, rng.choice(instrument.programs))),
        bytes((0xB0 | channel, 101, 0)),
        bytes((0xB0 | channel, 100, 0)),
        bytes((0xB0 | channel, 6, bend_range)),
        bytes((0xE0 | channel, wheel & 127, wheel >> 7)),
    ]
    begin = round(start * TICKS_PER_SECOND)
    events = [(begin - 48, i, message) for i, message in enumerate(setup)]
    for time, length, key, velocity in STYLES[instrument.style](instrument, rng, seconds):
        on = begin + round(time * TICKS_PER_SECOND)
        off = max(on + 1, round(on + length * TICKS_PER_SECOND))
        events.append((on, 20, bytes((0x90 | channel, key, velocity))))
        events.append((off, 10, bytes((0x80 | channel, key, 0))))
    # Every sound stops at the end of its slot: nothing leaks into the next clip.
    end = begin + round((slot - 0.2) * TICKS_PER_SECOND)
    events = [event for event in events if event[0] < end]
    return events + [(end, 0, bytes((0xB0 | channel, 120, 0)))]


def _variable_length(value: int) -> bytes:
    out = [value & 127]
    while value := value >> 7:
        out.insert(0, (value & 127) | 128)
    return bytes(out)


def midi_file(label: str, rngs: Sequence[Random], seconds: Sequence[float], slot: float) -> bytes:
    """Bytes of a MIDI file with one phrase of class `label` every `slot` seconds.

    The first phrase begins at `slot` / 2, so that set-up messages have time.

    Args:
        rngs: one `random.Random` for each phrase.
        seconds: length of each phrase.
    """
    events = []
    for i, rng in enumerate(rngs):
        events += _clip_events(INSTRUMENTS[label], rng, slot / 2 + i * slot, seconds[i], slot)
    events.sort(key=lambda event: event[:2])
    track, now = b"", 0
    for tick, _, message in events:
        track += _variable_length(tick - now) + message
        now = tick
    track += _variable_length(TICKS_PER_SECOND) + b"\xff\x2f\x00"
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, 480)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track
