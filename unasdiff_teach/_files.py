"""Files that survive a stop at any moment: written whole or not at all, JSON, journals of lines, a lock on a folder;
and their hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = ".lock"


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file (hexadecimal)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: str | Path, shared: bool = False) -> Iterator[Path]:
    """The path to write to instead of `path`: what is there when the block ends becomes `path` in one step.

    After an error, a full disk for instance, `path` is as it was before, and nothing else is left. The folder is made.
    Who may read it is what any new file of the user has, whatever the library that writes it thinks.

    Args:
        shared: several processes may write this file at once, and it can be made again: each writes to a name of its
            own, and none waits for the disk. Otherwise a killed process leaves at most one partial file, which the
            next one overwrites.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial" if shared else f"{path.name}.partial")
    try:
        yield partial
        partial.chmod(_mode_of_a_new_file(path.parent))
        if not shared:
            with open(partial, "r+b") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _mode_of_a_new_file(folder: Path) -> int:
    """As the user's mask has it, which only a new file tells without a moment in which it is changed."""
    probe = folder / f".{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mode
    finally:
        probe.unlink()


def read_json(path: str | Path) -> Any:
    """The value that a JSON file holds.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is damaged; says which file.
    """
    return _value(Path(path).read_bytes(), str(path))


def write_json(path: str | Path, value: object, shared: bool = False) -> None:
    """Write a value as JSON with the same bytes on every system; see `replacing`."""
    with replacing(path, shared) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8", newline="\n")


def _value(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{where} is damaged: {error}") from None


@dataclass(frozen=True)
class Journal:
    """A file of JSON values, one a line, to which one process appends. A line that a stop has torn off does not
    count.
    """

    path: Path

    def read(self) -> list:
        """All whole lines; none where there is no file.

        Raises:
            ValueError: a line is damaged; says which.
        """
        lines = self._whole().splitlines()
        return [_value(line, f"line {number} of {self.path}") for number, line in enumerate(lines, 1)]

    def begin(self, head: dict) -> list:
        """The lines after the first, which is `head` and says what the others are about; a new journal begins with it.

        Raises:
            ValueError: it is about something else, or does not say.
        """
        head = json.loads(_line(head))
        if not (lines := self.read()):
            self.rewrite(lines := [head])
        if not isinstance(lines[0], dict) or lines[0].keys().isdisjoint(head):
            raise ValueError(f"{self.path} does not say what it is about. Choose another folder, or remove this one")
        if changed := "; ".join(_differences(lines[0], head)):
            raise ValueError(f"{self.path.parent} was made with {changed}. Choose another folder, or remove this one")
        return lines[1:]

    def append(self, record: dict | list, sync: bool = True) -> None:
        """Add a line; see `extend`."""
        self.extend([record], sync)

    def extend(self, records: Sequence[dict | list], sync: bool = True) -> None:
        """Add lines. When this returns they are on the disk, or with the system if not `sync`. A torn line before them
        is cut off.
        """
        with open(self.path, "a+b") as file:
            if end := file.tell():
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.truncate(len(self._whole()))
            file.write(b"".join(map(_line, records)))
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def rewrite(self, records: Sequence[dict]) -> None:
        """Make these all that the journal holds, in one step."""
        with replacing(self.path) as partial:
            partial.write_bytes(b"".join(map(_line, records)))

    def _whole(self) -> bytes:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:  # also one that another process has just moved
            return b""
        return content[: content.rfind(b"\n") + 1]


def _line(record: dict | list) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _differences(before: object, now: object, name: str = "") -> Iterator[str]:
    """Where two nested JSON values differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name} = {before!r}, now {now!r}"


@contextmanager
def locked(folder: str | Path, work: str, patience: float = 0.0, name: str = LOCK) -> Iterator[int | None]:
    """Be the only one at work in a folder, which is made; the lock ends with the process, however it ends.

    Args:
        work: what is done there, for the message: "training".
        patience: seconds to wait for the one who holds the lock; below 0 for as long as it takes.
        name: of the lock's file in the folder.

    Yields:
        The descriptor of the lock; a process that inherits it holds the lock too. None where there is none.

    Raises:
        BlockingIOError: another process, or another part of this one, holds the lock.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise BlockingIOError(
            f"another {work} is running in {folder}; wait for it, stop it, or use another folder"
        ) from None
    try:
        yield getattr(getattr(lock, "_context", None), "lock_file_fd", None)  # filelock has no other name for it
    finally:
        lock.release()
