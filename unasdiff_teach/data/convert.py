"""Conversion of recordings into a data set: mono, one rate, checked, once. What cannot be used is named and left
out.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .._files import Journal, file_hash, locked, replacing
from . import manifest as manifests
from .archives import Member, room
from .audio import decode, is_cut_ogg, resample, write
from .manifest import Manifest, active_spans

JOURNAL = "journal.jsonl"  # what has been converted, a line for each clip; the manifest is what is in use
LEFT_OUT = "left_out.csv"
MINUTES_PER_HOUR = 0.5  # of conversion on one core; measured: 0.4 from 48 kHz, 0.3 from 44.1 kHz
LOSSY = (".mp3", ".ogg", ".oga", ".opus")
RESAMPLER = "torchaudio.functional.resample, 64 zero crossings"
DAMAGED = (ValueError, zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError)


@dataclass(frozen=True)
class Item:
    """One recording to convert: where it comes from, where it goes (from the data set's folder), and what is known of
    it.
    """

    id: str
    member: Member
    path: str
    split: str
    label: str | None = None
    speaker: str | None = None
    verified: bool | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Listing:
    """What there is to convert, and what was found or expected but cannot be used, as (file, reason)."""

    items: Sequence[Item]
    left_out: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Result:
    """A converted data set, how many clips this call has converted, and what was left out, as (file, reason)."""

    manifest: Manifest
    converted: int
    left_out: tuple[tuple[str, str], ...]


def convert(
    listing: Listing,
    folder: str | Path,
    name: str,
    kind: str,
    labels: Sequence[str] = (),
    about: Mapping[str, object] | None = None,
    sample_rate: int = 16_000,
    mono: str = "mean",
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """Convert recordings and write the manifest; what an earlier call has converted stays.

    Every file is read whole, checked, resampled once (`audio.resample`, 64 zero crossings) and written as 16 bit FLAC,
    whole or not at all. A peak that resampling has lifted beyond full scale is scaled back to it, and the manifest
    keeps the gain. Active spans are those of the recording at its own rate and level. A recording that is damaged, or
    sounds nowhere, is left out.

    Args:
        folder: where the data set goes; made if its parent is there.
        name, kind, labels: of the manifest.
        about: what else its readers should know, of JSON values.
        sample_rate: Hz.
        mono: what to do with several channels, see `audio.read`.
        workers: threads; by default one for each core, eight at most.
        progress: show a progress bar with the time left.

    Raises:
        FileNotFoundError: the parent of `folder` is missing.
        ValueError: nothing to convert, or `folder` holds a data set that was made with other settings.
        OSError: the disk is full; what has been converted is kept, and the next call goes on from there.
        BlockingIOError: another conversion into `folder` is running.
    """
    from tqdm import tqdm

    folder = Path(folder)
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"no folder {folder.parent} to put {folder.name} into")
    if not listing.items:
        raise ValueError(f"there is nothing to convert for {name}: {_first(listing.left_out)}")
    settings = {"sample_rate": sample_rate, "mono": mono, "resampler": RESAMPLER}
    with locked(folder, "conversion"):
        journal = Journal(folder / JOURNAL)
        done = {row["id"]: row for row in journal.begin({"settings": settings})}
        todo = [item for item in listing.items if not _is_done(folder, item, done.get(item.id))]
        room(folder, estimate(todo, sample_rate), f"converting {name}")
        left_out, converted = list(listing.left_out), 0
        pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
        try:
            results = pool.map(lambda item: _convert_one(item, folder, sample_rate, mono), todo)
            for item, result in tqdm(zip(todo, results), total=len(todo), unit="clip", desc=name, disable=not progress):
                if isinstance(result, str):
                    left_out.append((item.member.name, result))
                    continue
                journal.append(result, sync=False)
                done[item.id] = result
                converted += 1
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                errno.ENOSPC,
                f"the disk of {folder} is full; {converted} clips more are done, and the next call goes on from there",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
            for close in {item.member.close for item in listing.items}:
                close()
        unusable = {file for file, _ in left_out}
        rows = [
            done[item.id] | _known(item)
            for item in listing.items
            if item.id in done and item.member.name not in unusable
        ]
        if not rows:
            raise ValueError(f"none of the {len(listing.items)} recordings of {name} can be used: {_first(left_out)}")
        manifest = manifests.build(folder, rows, name, kind, sample_rate, labels, {**(about or {}), **settings})
        manifests.save(manifest)
        _write_left_out(folder, left_out)
    return Result(manifest, converted, tuple(left_out))


def hours(items: Sequence[Item]) -> float:
    """About how much audio this is, from the sizes of the files, and rather too much: a lossless hour has 150 MB, a
    lossy one 20.
    """
    return sum(item.member.size / (20e6 if item.member.name.lower().endswith(LOSSY) else 150e6) for item in items)


def estimate(items: Sequence[Item], sample_rate: int = 16_000) -> int:
    """Bytes of the converted clips, and rather too many: an hour of FLAC at 16 kHz has taken 38 to 61 MB."""
    return round(75e6 * hours(items) * sample_rate / 16_000)


def verify(manifest: Manifest, progress: bool = False) -> list[tuple[str, str]]:
    """Clips of a data set that are missing or not what was converted, as (path, reason); hashes every file."""
    from tqdm import tqdm

    damaged = []
    rows = zip(manifest.rows["path"], manifest.rows["sha256"])
    for path, expected in tqdm(rows, total=len(manifest.rows), unit="clip", desc=manifest.name, disable=not progress):
        place = manifest.folder / path
        if not place.is_file():
            damaged.append((path, "missing"))
        elif file_hash(place) != expected:
            damaged.append((path, "changed since it was converted"))
    return damaged


# ------------------------------------------------------------------------------------------------ one recording


def _convert_one(item: Item, folder: Path, sample_rate: int, mono: str) -> dict | str:
    """The manifest's row of a recording, or why it cannot be used."""
    try:
        content = item.member.read()
        if cut := _cut_off(content):
            return cut
        audio, rate = decode(io.BytesIO(content), item.member.name, mono=mono)
    except DAMAGED as error:
        return str(error).removeprefix(f"{item.member.name} ")
    spans = active_spans(audio, rate)
    if not spans:
        return "no active span: it is silent, or nearly so"
    audio = resample(audio, rate, sample_rate)
    peak = float(audio.abs().max())
    gain_db = 0.0
    if peak > 1:
        audio, gain_db = audio / peak, -20 * math.log10(peak)
    path = folder / item.path
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, audio, sample_rate)
    written = path.read_bytes()
    return {
        "id": item.id, "path": item.path, "spans": spans, "samples": len(audio), "seconds": len(audio) / sample_rate,
        "gain_db": gain_db, "bytes": len(written), "sha256": hashlib.sha256(written).hexdigest(),
        "source": item.member.name, "source_bytes": item.member.size, "source_mark": item.member.mark,
    }  # fmt: skip


def _cut_off(content: bytes) -> str | None:
    """Why a WAV, AIFF or Ogg file is not whole: libsndfile reads what is there of it and says nothing."""
    if is_cut_ogg(io.BytesIO(content)):
        return "cut off: it ends before its last page"
    size = {b"RIFF": "<I", b"FORM": ">I"}.get(content[:4])
    if size is None or len(content) < 8:
        return None
    (announced,) = struct.unpack(size, content[4:8])
    if announced in (0, 0xFFFFFFFF) or announced + 8 <= len(content):  # streams leave the size open
        return None
    return f"cut off: its header announces {announced + 8} bytes, and it has {len(content)}"


# ---------------------------------------------------------------------------------------------------- what is done


def _is_done(folder: Path, item: Item, row: dict | None) -> bool:
    """Whether this very recording has been converted, and its clip is still whole in size."""
    source = item.member
    if row is None or (row["source"], row["source_bytes"], row["path"]) != (source.name, source.size, item.path):
        return False
    if row.get("source_mark", source.mark) != source.mark:  # older journals have none
        return False
    clip = folder / row["path"]
    return clip.is_file() and clip.stat().st_size == row["bytes"]


def _known(item: Item) -> dict:
    return {
        "split": item.split,
        "label": item.label,
        "speaker": item.speaker,
        "verified": item.verified,
        "licence": item.licence,
    }


def _first(left_out: Sequence[tuple[str, str]]) -> str:
    return "no recording was found" if not left_out else "; ".join(f"{name}: {why}" for name, why in left_out[:3])


def _write_left_out(folder: Path, left_out: Sequence[tuple[str, str]]) -> None:
    with replacing(folder / LEFT_OUT) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *sorted(left_out)])
