"""Packs real recordings for the package: `python -m unasdiff_teach.data.pack --recordings DIR`.

Clips to train on are stored as Ogg Vorbis, those of validation and test as FLAC, all at 8 kHz; then the fixed lists of
mixtures are drawn. Encoders of other versions give other bytes, and then other hashes in the manifest.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from .._files import file_hash, write_json
from .audio import read
from .mixing import LIST_SPLITS, TASKS, MixtureRules
from .pocket_corpus import RECORDED, SAMPLE_RATE, SPLITS, Clip, write_manifest
from .recordings import LABELS, draw_entries, manifest_rows, recordings
from .render import level, trim

VERSION = "1"
COUNT = {"validation": 24, "test": 40}  # mixtures of each task
VORBIS = 0.5  # libsndfile's compression level: about 30 kbit/s, error 25 dB below the signal
COLUMNS = ("id", "kind", "label", "split", "file", "samples", "sha256", "licence", "credit", "source")


def encode(path: Path, audio: Tensor) -> None:
    """Write float32 [N] at 8 kHz to a new file: .ogg with a loss, .flac without one (to 12 bits, as `level` rounds)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".ogg":
        # in blocks: libsndfile overflows its stack on one long Vorbis write
        with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "VORBIS", compression_level=VORBIS) as file:
            for block in audio.split(SAMPLE_RATE):
                file.write(block.numpy())
    else:
        soundfile.write(path, audio.numpy(), SAMPLE_RATE, "PCM_16", compression_level=1.0)


def pack(recorded: Path, root: Path = RECORDED) -> None:
    """Write the corpus "recorded" of the package from a folder of recordings, in place of the one below `root`.

    Raises:
        FileNotFoundError: the folder has no manifest, or lacks a file that it names.
    """
    torch.set_num_threads(1)
    new, old = (root.with_name(f".{root.name}-{age}") for age in ("new", "old"))
    if old.exists() and not root.exists():  # an earlier call was stopped between its last two steps
        old.rename(root)
    credits = {row["file"]: row for row in manifest_rows(recorded)}
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        rows, found = [], {}
        for kind in LABELS:
            for split in SPLITS:
                clips = [_store(fresh, clip, credits[clip.id]) for clip in recordings(recorded, kind, split)]
                rows += [row for _, row in clips]
                found[kind, split] = [clip for clip, _ in clips]
                print(f"{kind}, {split}: {len(clips)} clips", flush=True)
        write_manifest(fresh / "manifest.csv", COLUMNS, rows)
        lists = {
            task: {
                split: [
                    {
                        "id": entry["id"],
                        "sources": [{"clip": c.id, **p} for c, p in zip(clips, entry["sources"], strict=True)],
                    }
                    for clips, entry in draw_entries(
                        {kind: found[kind, split] for kind in LABELS}, task, split, COUNT[split]
                    )
                ]
                for split in LIST_SPLITS
            }
            for task in TASKS
        }
        digest = file_hash(fresh / "manifest.csv")
        rules = asdict(MixtureRules.pocket())
        write_json(fresh / "mixtures.json", {"version": VERSION, "corpus": digest, "rules": rules, "lists": lists})
        for name in ("README.md", "speakers.csv"):  # the first is written by hand, the second comes with the recordings
            if (source := (root if name == "README.md" else recorded) / name).is_file():
                shutil.copyfile(source, fresh / name)
        size = sum(path.stat().st_size for path in fresh.rglob("*"))
        for left_over in (new, old):
            shutil.rmtree(left_over, ignore_errors=True)
        shutil.copytree(fresh, new)
        new.chmod(0o755)
        if root.exists():
            root.rename(old)
        new.rename(root)
        shutil.rmtree(old, ignore_errors=True)
    print(f"{len(rows)} clips, {size / 1e6:.1f} MB, {root / 'manifest.csv'}, data hash {digest}")


def _store(root: Path, clip: Clip, credit: dict[str, str]) -> tuple[Clip, dict[str, str | int]]:
    """Write one clip below `root`. Returns it as it will be read, and its row of the manifest."""
    lossy = clip.split == "train"
    file = Path(clip.id).with_suffix(".ogg" if lossy else ".flac")
    encode(root / file, level(trim(clip.audio), *([None] if lossy else [])))
    audio, _ = read(root / file)
    row = {
        "id": clip.id.rpartition(".")[0], "kind": clip.kind, "label": clip.label, "split": clip.split,
        "file": file.as_posix(), "samples": len(audio), "sha256": file_hash(root / file),
        "licence": credit["license"], "credit": credit["attribution"], "source": credit["source"],
    }  # fmt: skip
    return Clip(row["id"], clip.kind, clip.label, clip.split, clip.heard, "", len(audio), root / file), row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recordings",
        type=Path,
        required=True,
        metavar="DIR",
        help="Folder with manifest.csv and the files that it names.",
    )
    parser.add_argument(
        "--root", type=Path, default=RECORDED, help="Where the corpus is written; by default the package's own place."
    )
    args = parser.parse_args()
    try:
        pack(args.recordings, args.root)
    except FileNotFoundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
