"""Archives of published data sets: fetched with resume, checked once, and read without being unpacked."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from .._files import locked, read_json, write_json
from .._machine import free_disk

CHUNK = 1 << 20
TRIES = 5  # in a row without a single new byte
HEADERS = {"User-Agent": "unasdiff-teach"}
BY_HAND = "An archive that you fetch by other means and put into the folder is taken as well"
CHECKED = ".checked.json"  # which archives have had their checksum taken, so that hours later it is not taken again


@dataclass(frozen=True)
class Archive:
    """One file of a published data set.

    Attributes:
        name: file name.
        url: where it is published.
        digest: "sha256:..." or "md5:...", as published.
        unpacked: folder that unpacking it makes, which is taken where the archive itself is not there.
        size: bytes, where they are known.
    """

    name: str
    url: str
    digest: str
    unpacked: str
    size: int | None = None


@dataclass(frozen=True)
class Member:
    """One file of a data set, in an archive or in a folder: its name there, its bytes, and how to read it whole.

    Reading opens the archive, which stays open for the next member; `close` closes it. `mark` tells another content of
    the same size: the time of a file's last change in ns, or its checksum in an archive.
    """

    name: str
    size: int
    read: Callable[[], bytes]
    close: Callable[[], None] = lambda: None
    mark: int | None = None

    @classmethod
    def of_file(cls, name: str, path: Path) -> Member:
        """A file in a folder."""
        state = path.stat()
        return cls(name, state.st_size, path.read_bytes, mark=state.st_mtime_ns)


class _Zip:
    """A zip file that is opened when something is first read of it."""

    def __init__(self, path: Path):
        self.path, self._file, self._lock = path, None, Lock()

    def read(self, info: zipfile.ZipInfo) -> bytes:
        with self._lock:
            self._file = self._file or zipfile.ZipFile(self.path)
        return self._file.read(info)

    def close(self) -> None:
        with self._lock:
            if self._file:
                self._file.close()
            self._file = None


def inspect(root: Path, archive: Archive) -> str:
    """What `root` holds of an archive: "archive", "unpacked", "part" (of a download) or "missing"."""
    if (root / archive.name).is_file():
        return "archive"
    if unpacked(root, archive):
        return "unpacked"
    return "part" if _part(root, archive).is_file() else "missing"


def unpacked(root: Path, archive: Archive) -> Path | None:
    """The folder that unpacking made: in `root`, or in a folder of it that is named after the archive."""
    places = (root / archive.unpacked, root / Path(archive.name).stem / archive.unpacked)
    return next((place for place in places if place.is_dir()), None)


def members(root: Path, archive: Archive) -> list[Member]:
    """The files of an archive, sorted by name, from the archive itself or from the folder that unpacking it made.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: the archive is no zip file.
    """
    path = root / archive.name
    if path.is_file():
        try:
            with zipfile.ZipFile(path) as opened:
                files = [info for info in opened.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is not a zip archive: {error}") from error
        source = _Zip(path)
        found = [
            Member(
                f"{archive.name}/{info.filename}", info.file_size, partial(source.read, info), source.close, info.CRC
            )
            for info in files
        ]
    elif folder := unpacked(root, archive):
        files = (place for place in folder.rglob("*") if place.is_file())
        found = [Member.of_file(f.relative_to(root).as_posix(), f) for f in files]
    else:
        raise FileNotFoundError(f"neither {archive.name} nor {archive.unpacked}/ is in {root}")
    return sorted(found, key=lambda member: member.name)


# ---------------------------------------------------------------------------------------------------- checksums


def check(root: Path, archive: Archive, progress: bool = False) -> None:
    """Compare an archive's checksum with the published one; a file that has passed and not changed since passes at
    once.

    Raises:
        FileNotFoundError: no such archive in `root`.
        ValueError: another checksum. The file is left as it is.
    """
    path = root / archive.name
    if not path.is_file():
        raise FileNotFoundError(f"no archive at {path}")
    if _checked(root).get(archive.name) == _stamp(path, archive):
        return
    found = digest(path, archive.digest.partition(":")[0], progress)
    if found != archive.digest:
        raise ValueError(
            f"{path} has {found}, published is {archive.digest}: it is damaged, cut off, or another version. Nothing"
            f" was taken from it. Move it away to have it fetched again, or rename it to {archive.name}.part if it is"
            " only cut off"
        )
    _remember(root, archive)


def digest(path: Path, kind: str, progress: bool = False) -> str:
    """Checksum of a file as "kind:hex"; kind is a name of hashlib."""
    from tqdm import tqdm

    sums = hashlib.new(kind)
    bar = tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"checking {path.name}", disable=not progress)
    with open(path, "rb") as file, bar:
        while block := file.read(CHUNK):
            sums.update(block)
            bar.update(len(block))
    return f"{kind}:{sums.hexdigest()}"


def _stamp(path: Path, archive: Archive) -> list:
    """What tells whether a file is still the one that was checked, and against the same checksum."""
    state = path.stat()
    return [archive.digest, state.st_size, state.st_mtime_ns]


def _remember(root: Path, archive: Archive) -> None:
    checked = _checked(root) | {archive.name: _stamp(root / archive.name, archive)}
    write_json(root / CHECKED, checked, shared=True)


def _checked(root: Path) -> dict:
    try:
        return read_json(root / CHECKED)
    except (FileNotFoundError, ValueError):
        return {}


# ---------------------------------------------------------------------------------------------------- download


def _part(root: Path, archive: Archive) -> Path:
    return root / f"{archive.name}.part"


def have(root: Path, archive: Archive) -> int:
    """Bytes of an unfinished download."""
    part = _part(root, archive)
    return part.stat().st_size if part.is_file() else 0


def place(archive: Archive, mirror: str | None = None) -> str:
    """URL of an archive: where it is published, or the file of the same name in a folder of another server."""
    return archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.name}"


def published_size(archive: Archive, mirror: str | None = None) -> int | None:
    """Bytes of an archive, which its server is asked for if need be; None where that does not say.

    Raises:
        ConnectionError: the server does not answer, or has no such file.
    """
    if archive.size is not None:
        return archive.size
    url = place(archive, mirror)
    try:
        request = urllib.request.Request(url, method="HEAD", headers=HEADERS)
        with urllib.request.urlopen(request, timeout=60) as response:
            length = response.headers.get("Content-Length")
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise ConnectionError(f"{url}: {error}. {BY_HAND}") from error
    return int(length) if length else None


def fetch(root: Path, archive: Archive, mirror: str | None = None, progress: bool = False, wait: float = 1.0) -> Path:
    """Download an archive into `root`, going on where an earlier attempt stopped, and check it.

    While it is incomplete it is called NAME.part. A connection that breaks is taken up again, after pauses that grow
    from `wait` seconds; after five attempts without a new byte it is given up.

    Args:
        mirror: folder of a server that holds the same file, instead of the published place.

    Returns:
        Its path.

    Raises:
        ConnectionError: the server does not answer, or refuses; what has come is kept.
        ValueError: the whole file has another checksum; it is put aside as NAME.wrong.
        OSError: the disk is full; what has come is kept.
        BlockingIOError: another process is downloading it into `root`.
    """
    with locked(root, f"download of {archive.name}", name=f".{archive.name}.lock"):
        return _fetch(root, archive, place(archive, mirror), progress, wait)


def _fetch(root: Path, archive: Archive, url: str, progress: bool, wait: float) -> Path:
    part, fruitless = _part(root, archive), 0
    while True:
        before = have(root, archive)
        try:
            done = _transfer(url, part, archive, progress)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise ConnectionError(
                    f"{url}: the server answers {error.code} {error.reason}{_kept(part)}. {BY_HAND}"
                ) from error
            done, reason = False, error
        else:
            reason = "the connection ended early"
        if done:
            break
        fruitless = 0 if have(root, archive) > before else fruitless + 1
        if fruitless == TRIES:
            raise ConnectionError(f"{url}: {reason}{_kept(part)}. {BY_HAND}")
        time.sleep(wait * 2**fruitless)
    found = digest(part, archive.digest.partition(":")[0], progress)
    if found != archive.digest:
        wrong = part.with_suffix(".wrong")
        part.replace(wrong)
        raise ValueError(
            f"{url} gave a file with {found}, published is {archive.digest}; it was put aside as {wrong.name}. "
            "Run the command again to fetch it anew"
        )
    part.replace(root / archive.name)
    _remember(root, archive)
    return root / archive.name


def _kept(part: Path) -> str:
    kept = part.stat().st_size if part.is_file() else 0
    return f". {kept:,} bytes are kept in {part.name}; run the command again to go on" if kept else ""


def _transfer(url: str, part: Path, archive: Archive, progress: bool) -> bool:
    """One connection: append to `part` what it lacks. Returns whether the file is complete."""
    from tqdm import tqdm

    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-", **HEADERS})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is left to send: the checksum tells whether that is right
            return True
        raise
    with response:
        resumed = response.status == 206 and re.match(rf"bytes {start}-", response.headers.get("Content-Range", ""))
        start = start if resumed else 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else archive.size
        room(part.parent, (total or 0) - start, f"download {archive.name}")
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=archive.name, disable=not progress)
        try:
            with open(part, "ab" if start else "wb") as file, bar:
                while block := response.read(CHUNK):
                    file.write(block)
                    bar.update(len(block))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(errno.ENOSPC, f"the disk is full{_kept(part)}") from error
    return total is None or part.stat().st_size >= total


def room(folder: Path, needed: int, what: str) -> None:
    """Raise OSError, before anything is written, if the disk of `folder` has less than `needed` bytes free."""
    free = free_disk(folder)
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{what} takes {gigabytes(needed)}, and the disk of {folder} has {gigabytes(free)} free"
        )


def gigabytes(count: float) -> str:
    """A number of bytes in words: 11.7 GB, 350 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
