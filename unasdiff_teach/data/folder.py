"""Anyone's own recordings as a data set: a folder for each sound class, or for each speaker."""

from __future__ import annotations

import zlib
from collections import defaultdict
from pathlib import Path

from .._checks import one_of
from .archives import Member
from .convert import Item, Listing, Result, convert
from .manifest import SPLITS

READABLE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
UNREADABLE = (".m4a", ".aac", ".mp4", ".wma", ".amr", ".webm")  # sound that libsndfile does not read


def listing(root: str | Path, kind: str, test: float = 0.1, licence: str | None = None) -> Listing:
    """The recordings under `root`, sorted by name.

    Sounds lie as CLASS/FILE, speech as SPEAKER/FILE, or as FILE where the speaker is not known. Above them there may
    be folders "train", "validation" and "test"; without these a fraction `test` is taken out for test, by a hash of
    the names, so that it stays the same when recordings are added: of every class, or of the speakers where there are
    several, since a test voice should be a new one.

    Left out, and named: sounds without a class, and audio files of kinds that are not read. Other files are passed
        over.

    Args:
        kind: "speech" or "sound".
        test: fraction in 0..1.
        licence: of all recordings.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: another kind or fraction.
    """
    root = Path(root)
    one_of("kind", kind, ("speech", "sound"))
    if not 0 <= test < 1:
        raise ValueError(f"test is {test}; accepted: 0 to less than 1")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    found, left_out = [], []
    for path in sorted(root.rglob("*")):
        name, suffix = path.relative_to(root).as_posix(), path.suffix.lower()
        if not path.is_file() or suffix not in READABLE + UNREADABLE:
            continue
        *folders, _ = name.split("/")
        split = folders.pop(0) if folders and folders[0] in SPLITS else None
        group = folders[0] if folders else None
        if suffix in UNREADABLE:
            left_out.append((name, f"{suffix} is not read; convert it to FLAC or WAV"))
        elif group is None and kind == "sound":
            left_out.append((name, "it lies in no folder, which would name its class"))
        else:
            found.append((name, Member.of_file(name, path), split, group))
    if not any(split for _, _, split, _ in found):
        chosen = _test_names([(name, group) for name, _, _, group in found], kind, test)
        found = [(name, member, "test" if name in chosen else "train", group) for name, member, _, group in found]
    left_out += [
        (name, "it lies beside the folders train, validation and test") for name, _, split, _ in found if split is None
    ]
    label, speaker = (
        (lambda group: group, lambda group: None) if kind == "sound" else (lambda group: None, lambda group: group)
    )
    items = [
        Item(name, member, f"clips/{name}.flac", split, label(group), speaker(group), licence=licence)
        for name, member, split, group in found
        if split is not None
    ]
    return Listing(tuple(items), tuple(left_out))


def _test_names(names: list[tuple[str, str | None]], kind: str, fraction: float) -> set[str]:
    """The recordings that go to test, of (name, class or speaker)."""
    groups = defaultdict(list)
    for name, group in names:
        groups[group].append(name)
    if kind == "speech" and len(groups) > 1:
        return {name for group in _smallest([g or "" for g in groups], fraction) for name in groups[group or None]}
    return {name for group in groups.values() for name in _smallest(group, fraction)}


def _smallest(names: list[str], fraction: float) -> list[str]:
    """A fraction of the names, at least one if there are two or more: those with the smallest hash."""
    count = 0 if fraction == 0 or len(names) < 2 else max(1, round(fraction * len(names)))
    return sorted(names, key=lambda name: (zlib.crc32(name.encode()), name))[:count]


def prepare(
    root: str | Path,
    kind: str,
    out: str | Path | None = None,
    test: float = 0.1,
    licence: str | None = None,
    sample_rate: int = 16_000,
    mono: str = "mean",
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """Convert the recordings under `root` into `out`, by default a folder beside it, `ROOT-16k`; see `listing` and
    `convert`.
    """
    root = Path(root)
    out = destination(root, sample_rate) if out is None else Path(out)
    found = listing(root, kind, test, licence)
    labels = sorted({item.label for item in found.items if item.label})
    return convert(found, out, root.resolve().name, kind, labels, {"test": test}, sample_rate, mono, workers, progress)


def destination(root: Path, sample_rate: int) -> Path:
    """Where `prepare` puts a data set by default."""
    root = root.resolve()
    return root.with_name(f"{root.name}-{sample_rate // 1000}k")
