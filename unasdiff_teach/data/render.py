"""Renders the pocket corpus: `python -m unasdiff_teach.data.render`.

Needs Debian's flite, espeak-ng, fluidsynth and fluid-soundfont-gm. The same versions give the same
samples; the manifest hashes samples, not files, so the version of the FLAC encoder does not matter.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from . import _phrases, _sentences, mixture_lists
from .audio import active_mask, active_span, gain, read, resample, rms_db, write
from .pocket_corpus import (
    CORPUS,
    SAMPLE_RATE,
    SOUND_CLASSES,
    SPLITS,
    UNHEARD_VOICES,
    VOICES,
    pocket_hash,
    write_manifest,
)

SEED = 20260
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
RMS_DB = -23.0  # over the active part
PEAK = 0.98
RANGE_DB = 45.0  # what lies this far below the loudest 50 ms counts as silence
BITS = 12  # stored in 16-bit FLAC: rounding 54 dB below the signal, and two thirds of the size
# Engine of each voice, and the engine's own name for it.
ENGINES = {
    "flite_rms": ("flite", "rms"),
    "flite_slt": ("flite", "slt"),
    "flite_kal16": ("flite", "kal16"),
    "espeak_us_m3": ("espeak-ng", "en-us+m3"),
    "espeak_gb_f3": ("espeak-ng", "en-gb+f3"),
    "espeak_us_m7": ("espeak-ng", "en-us+m7"),
    "flite_awb": ("flite", "awb"),
    "espeak_scotland_f5": ("espeak-ng", "en-gb-scotland+f5"),
}
# Clips for each voice or class, and the shortest and longest clip in seconds.
SPEECH_COUNT = {"train": 60, "validation": 8, "test": 10}
SPEECH_SECONDS = {"train": (2.5, 4.5), "validation": (2.2, 4.0), "test": (2.2, 4.0)}
SOUND_COUNT = {"train": 25, "validation": 8, "test": 12}
SOUND_SECONDS = {"train": (3.5, 4.5), "validation": (2.2, 3.0), "test": (2.2, 3.0)}
SLOT = 7.0  # seconds from one rendered phrase to the next
LICENCE = {
    "flite": "output of flite (BSD-like licence)",
    "espeak-ng": "output of espeak-ng (program: GPL-3.0-or-later)",
    "fluidsynth": "rendered from FluidR3 GM (MIT)",
}


@dataclass(frozen=True)
class Row:
    """One line of the manifest. `sha256`: of the 16-bit little-endian samples.

    `text`: what is spoken, or the seed of the phrase. `active_start`, `active_end`: samples.
    """

    id: str
    kind: str
    label: str
    split: str
    file: str
    duration: str
    samples: int
    rms_db: str
    peak: str
    active_start: int
    active_end: int
    sha256: str
    engine: str
    text: str
    licence: str


def check_programs() -> None:
    """Raise SystemExit that names what is missing."""
    missing = [name for name in ("flite", "espeak-ng", "fluidsynth") if not shutil.which(name)]
    if not SOUND_FONT.is_file():
        missing.append("fluid-soundfont-gm")
    if missing:
        raise SystemExit(
            f"The pocket corpus needs {', '.join(missing)}. On Debian or Ubuntu:\n"
            f"    sudo apt install {' '.join(missing)}\n"
            "The corpus that is shipped with the package needs none of them."
        )


def speak(voice: str, text: str, speed: float, path: Path) -> None:
    """Let `voice` read `text` into a WAV file; `speed` 1 is the voice's own."""
    engine, setting = ENGINES[voice]
    if engine == "flite":
        command = ["flite", "-voice", setting, "--setf", f"duration_stretch={1 / speed:.3f}", "-t", text, "-o", path]
    else:
        command = ["espeak-ng", "-v", setting, "-s", round(165 * speed), "-w", path, text]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def play(midi: bytes, folder: Path) -> tuple[Tensor, int]:
    """Render MIDI bytes without reverb and chorus. Returns (audio [N], rate in Hz)."""
    (folder / "phrases.mid").write_bytes(midi)
    options = "-ni -q -R 0 -C 0 -g 0.4 -r 48000 -T wav -O float -F".split()
    command = ["fluidsynth", *options, folder / "phrases.wav", SOUND_FONT, folder / "phrases.mid"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return read(folder / "phrases.wav", mono="mean")


def trim(audio: Tensor) -> Tensor:
    """Cut silence from both ends of `audio` [N] at 8 kHz, but for 20 ms."""
    start, end = active_span(audio, SAMPLE_RATE, RANGE_DB)
    pad = SAMPLE_RATE // 50
    return audio[max(0, start - pad) : end + pad]


def level(audio: Tensor, bits: int | None = BITS) -> Tensor:
    """Remove the offset and scale `audio` [N] to RMS_DB over its active part, peak below PEAK.

    The last 10 ms fade out, so that a phrase that is cut off does not click. Samples are rounded to
    `bits`, or left as they are (None).
    """
    audio = audio - audio.mean()
    fade = SAMPLE_RATE // 100
    audio[-fade:] *= torch.linspace(1, 0, fade)
    active = audio[active_mask(audio, SAMPLE_RATE, RANGE_DB)]
    scale = gain(RMS_DB - float(rms_db(active)))
    audio = audio * min(scale, PEAK / float(audio.abs().max()))
    return audio if bits is None else (audio * 2 ** (bits - 1)).round() / 2 ** (bits - 1)


def to_pcm(audio: Tensor) -> bytes:
    """16-bit samples of `audio` [N] as bytes (little-endian): what the manifest hashes."""
    return (audio * 32768).round().clamp(-32768, 32767).numpy().astype("<i2").tobytes()


def store(root: Path, kind: str, label: str, split: str, number: int, audio: Tensor, engine: str, text: str) -> Row:
    """Write one clip and return its row of the manifest."""
    name = f"{label}_{split}_{number:02d}"
    file = f"{kind}/{label}/{name}.flac"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    write(root / file, level(audio), SAMPLE_RATE)
    audio, _ = read(root / file)
    start, end = active_span(audio, SAMPLE_RATE, RANGE_DB)
    active = audio[active_mask(audio, SAMPLE_RATE, RANGE_DB)]
    return Row(
        id=name,
        kind=kind,
        label=label,
        split=split,
        file=file,
        duration=f"{len(audio) / SAMPLE_RATE:.3f}",
        samples=len(audio),
        rms_db=f"{float(rms_db(active)):.2f}",
        peak=f"{float(audio.abs().max()):.3f}",
        active_start=start,
        active_end=end,
        sha256=hashlib.sha256(to_pcm(audio)).hexdigest(),
        engine=engine,
        text=text,
        licence=LICENCE[engine],
    )


def render_voice(root: Path, folder: Path, voice: str, split: str, used: set[str]) -> Iterator[Row]:
    """Yield the rows of one voice in one split. `used`: sentences that are taken, extended here."""
    rng = random.Random(f"{SEED} {voice} {split}")
    shortest, longest = SPEECH_SECONDS[split]
    number = 0
    while number < SPEECH_COUNT[split]:
        text = _sentences.sentence(rng)
        if text in used:
            continue
        speak(voice, text, rng.uniform(0.92, 1.08), folder / "speech.wav")
        audio, rate = read(folder / "speech.wav")
        audio = trim(resample(audio, rate, SAMPLE_RATE))
        if shortest <= len(audio) / SAMPLE_RATE <= longest:
            used.add(text)
            engine = ENGINES[voice][0]
            yield store(root, "speech", voice, split, number, audio, engine, text)
            number += 1


def render_class(root: Path, folder: Path, label: str, split: str) -> Iterator[Row]:
    """Yield the rows of one sound class in one split."""
    seeds = [f"{SEED} {label} {split} {i}" for i in range(SOUND_COUNT[split])]
    rngs = [random.Random(seed) for seed in seeds]
    seconds = [rng.uniform(*SOUND_SECONDS[split]) for rng in rngs]
    audio, rate = play(_phrases.midi_file(label, rngs, seconds, SLOT), folder)
    audio = resample(audio, rate, SAMPLE_RATE)
    for i, seed in enumerate(seeds):
        begin = round((SLOT / 2 + i * SLOT - 0.1) * SAMPLE_RATE)
        clip = trim(audio[begin : begin + round((SLOT - 0.1) * SAMPLE_RATE)])
        clip = clip[: round(seconds[i] * SAMPLE_RATE)].clone()
        yield store(root, "sound", label, split, i, clip, "fluidsynth", f"seed {seed}")


def render_clips(root: Path, folder: Path) -> list[Row]:
    """Render all clips below `root`; `folder` takes what is in between. Returns the rows."""
    rows, used, begin = [], set(), time.time()
    for split in SPLITS:
        for voice in VOICES:
            if split == "test" or voice not in UNHEARD_VOICES:
                rows += render_voice(root, folder, voice, split, used)
        for label in SOUND_CLASSES:
            rows += render_class(root, folder, label, split)
        print(f"{split}: {len(rows)} clips so far, {time.time() - begin:.0f} s", flush=True)
    return rows


def render(root: str | Path = CORPUS) -> None:
    """Render the corpus, then put it in place of the one below `root`.

    In the package's own folder the lists of mixtures are drawn again as well.
    """
    check_programs()
    torch.set_num_threads(1)
    root = Path(root)
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name) / "corpus"
        rows = render_clips(fresh, Path(name))
        if len({row.sha256 for row in rows}) != len(rows):
            raise RuntimeError("two clips hold the same samples")
        write_manifest(fresh / "manifest.csv", [field.name for field in fields(Row)], map(asdict, rows))
        size = sum((fresh / row.file).stat().st_size for row in rows)
        for kind in ("speech", "sound"):
            shutil.rmtree(root / kind, ignore_errors=True)
        shutil.copytree(fresh, root, dirs_exist_ok=True)
    print(f"{len(rows)} clips, {size / 1e6:.1f} MB, {root / 'manifest.csv'}")
    if root == CORPUS:
        mixture_lists.main()
        print(f"data hash {pocket_hash()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render the pocket corpus.")
    parser.add_argument("--root", default=CORPUS, type=Path, help="folder (default: the package's)")
    render(parser.parse_args().root)
