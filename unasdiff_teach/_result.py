"""The folder of a separation: it appears whole, and replaces nothing but an earlier result that may be replaced."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from ._files import file_hash, read_json
from .data.audio import rms_db
from .data.sound_file import write_sound
from .show.result_page import TOOLS
from .show.sound import FOLDER, file_name

REPORT = "separation.json"
PLAYER = "separation/tracks"  # of the page, see `show.player`
# of a folder's name, with which the names of its hidden companions stay below the 255 that file systems allow
NAME_BYTES = 200
ABANDONED = 86_400.0  # seconds since a state was written, after which its run is taken to be given up


def result_folder(out: str | Path | None, recording: Path, overwrite: bool) -> tuple[Path, str | None]:
    """The folder to write, and the hash of the report of an earlier result there, None where there is none.

    Args:
        out: what was asked for; by default NAME-separated in the current folder.

    Raises:
        ValueError: its name is too long, or something there would be lost.
    """
    stem = recording.stem.encode()[: NAME_BYTES - len("-separated")].decode(errors="ignore")
    out = Path(out or f"{stem}-separated").resolve()
    if len(out.name.encode()) > NAME_BYTES:
        raise ValueError(
            f"the name of the folder {out.name[:40]}... has {len(out.name.encode())} bytes; at most {NAME_BYTES} are"
            " possible: shorten --out"
        )
    check_free(out, overwrite)
    return out, report_hash(out)


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse to lose anything but an earlier result that may be replaced."""
    if out.is_file():
        raise ValueError(f"{out} is a file; --out names a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / REPORT).is_file():
        raise ValueError(f"the folder {out} holds something else; name another with --out")
    if not overwrite:
        raise ValueError(f"{out} holds an earlier result; name another folder with --out, or add --overwrite")
    if found := strangers(out):
        raise ValueError(
            f"{out} holds {', '.join(found)} beside an earlier result; move it, or name another folder with --out"
        )


def strangers(out: Path) -> list[str]:
    """What lies beside an earlier result in its folder, and is not of it.

    Raises:
        ValueError: the result's report cannot say what is.
    """
    try:
        report = read_json(out / REPORT)
        tracks = ["mixture", *(source["source"] for source in report["sources"]), "residual"]
        sounds = [
            FOLDER / PLAYER / f"{file_name(number, title)}.flac"
            for number, title in enumerate(dict.fromkeys(tracks), 1)
        ]
        own = {
            Path(REPORT),
            Path("listen.html"),
            *(Path(written["file"]) for written in (report["residual"], *report["sources"])),
            *(Path("_static", tool.name) for tool in TOOLS),
            *sounds,
            *(sound.with_suffix(".jpg") for sound in sounds),
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{out / REPORT} is damaged, so that nothing says what belongs to the result; move the folder, or name"
            " another with --out"
        ) from None
    own |= {folder for path in own for folder in path.parents}
    return sorted(name.as_posix() for path in out.rglob("*") if (name := path.relative_to(out)) not in own)


def report_hash(out: Path) -> str | None:
    """What tells one earlier result from another."""
    return file_hash(out / REPORT) if (out / REPORT).is_file() else None


def companion(out: Path, what: str) -> Path:
    """A hidden place beside a folder, of a name of its own."""
    return out.with_name(f".{out.name}.{what}-{uuid.uuid4().hex[:8]}")


def place(partial: Path, out: Path, replaces: str | None) -> Path:
    """Give a finished folder its name. What has appeared there since the start is not ours, and stays.

    Args:
        replaces: hash of the report of the earlier result that may be replaced.

    Returns:
        `out`, or where something else has appeared there meanwhile, one beside it with a number.
    """
    aside = companion(out, "replaced")
    if replaces is not None and report_hash(out) == replaces and not strangers(out):
        out.rename(aside)
    try:
        taken = _take_a_name(partial, out)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return taken


def _take_a_name(partial: Path, out: Path) -> Path:
    """Move a folder to `out`, or beside it with the first number that is free."""
    for number in range(1, 1000):
        free = out if number == 1 else out.with_name(f"{out.name}-{number}")
        if free.is_file() or free.is_dir() and any(free.iterdir()):
            continue
        try:
            return partial.replace(free)  # fails where something has appeared this very moment
        except OSError:
            if not free.exists():
                raise
    raise OSError(f"{out} and 999 numbered names beside it are taken")


def write_sounds(
    folder: Path, sounds: Iterable[tuple[str, Tensor]], rate: int, format: str
) -> tuple[dict[str, dict], list[str]]:
    """Write sounds, each a title and audio [C, N].

    Returns:
        For each title its file and level_db; and warnings.
    """
    written, warnings = {}, []
    for number, (title, audio) in enumerate(sounds, 1):
        if format == "flac" and (over := int((audio.abs() > 1).sum())):
            warnings.append(
                f"{over} samples of {title} exceed full scale and are clipped in the FLAC file; WAV holds them"
            )
        file = f"{file_name(number, title)}.{format}"
        written[title] = {"file": file, "level_db": round(float(rms_db(audio.flatten())), 1)}
        write_sound(folder / file, audio, rate, format)
    return written, warnings


def bytes_written(K: int, samples: int, length: int) -> int:
    """What a folder takes at most: K sources and a residual of so many samples, and K + 2 sounds of the page with 16
    bits for each of `length` samples.
    """
    return (K + 1) * 4 * samples + (K + 2) * 2 * length + 1_000_000


def forget_states(out: Path, own: Path) -> None:
    """Remove the state of a finished run, and those of runs into the same folder with other settings that nobody goes
    on with.
    """
    own.unlink(missing_ok=True)
    beginning = f".{out.name}.state-"  # no pattern: names may hold brackets
    for path in out.parent.iterdir():
        with contextlib.suppress(OSError):
            if path.name.startswith(beginning) and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
