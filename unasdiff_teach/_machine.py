"""The machine: its name, threads that help, memory and disk that are free, and where its measurements are kept."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ._files import read_json, write_json

if TYPE_CHECKING:
    import torch

GAIN = 0.8  # more threads must take less than this part of the time: they take cores from everything else


def cores() -> int:
    """Cores that this process may use: those of the machine, of its affinity, and of its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return count


def use_threads(given: int | None = None, device: str = "cpu") -> str:
    """Set the number of torch's threads for a long run on the CPU, and say in a line what was chosen.

    Threads wait for each other many times in every pass of a network. On a machine that is busy with something else the
    last of them decides, and two can be several times slower than one. So the numbers are tried, for a fraction of a
    second.

    Args:
        given: what the user asks for; by default OMP_NUM_THREADS, or what is measured to be fastest.
        device: on anything but "cpu" the threads hardly matter, and nothing is measured.

    Returns:
        The line, "" where there is nothing to say.

    Raises:
        ValueError: fewer than one thread.
    """
    import torch

    if given is not None:
        if given < 1:
            raise ValueError(f"threads is {given}; at least 1 is needed")
        torch.set_num_threads(given)
        return f"threads: {given}, as asked"
    if device != "cpu" or (most := cores()) == 1:
        return ""
    if "OMP_NUM_THREADS" in os.environ:
        return f"threads: {torch.get_num_threads()} (OMP_NUM_THREADS)"
    counts = [1]
    while counts[-1] < most:
        counts.append(min(2 * counts[-1], most))
    seconds = dict.fromkeys(counts, 0.0)
    for _ in range(3):  # in turn, so that what else the machine does falls on all alike
        for count in counts:
            torch.set_num_threads(count)
            seconds[count] += _layers()
    best = 1
    for count in counts[1:]:
        if seconds[count] < GAIN * seconds[best]:
            best = count
    torch.set_num_threads(best)
    return f"threads: {best} of {most}, the fastest here and now (--threads chooses)"


def _layers() -> float:
    """Seconds of a few layers as networks have them: short operations, each a place where threads wait for each
    other.
    """
    import torch
    from torch.nn import functional as F

    x, weight = torch.ones(4000, 72), torch.full((72, 72), 1e-2)
    started = time.perf_counter()
    for _ in range(20):
        x = F.gelu(F.layer_norm(x @ weight, (72,))) + x
    return time.perf_counter() - started


def timed(work: Callable[[], object], device: str | torch.device) -> tuple[float, float]:
    """Seconds of a call: by the clock, and of CPU time, all threads together, which a busy machine hardly stretches."""
    import torch

    started, busy = time.perf_counter(), time.process_time()
    work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, time.process_time() - busy


def check_device(device: str) -> None:
    """Raises ValueError if torch finds no such device here."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"device is {device!r}; there is no such device here. Accepted: cpu, and cuda or mps where there is one"
        ) from None


def free_memory(device: str = "cpu") -> float:
    """Bytes that are free for this process; infinite where the system does not tell."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0])
    free = float("inf")
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
        group = Path("/sys/fs/cgroup")
        free = min(free, float(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())))
    except (OSError, KeyError, ValueError):  # not Linux, or no limit
        pass
    return free


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or will be made."""
    folder = folder.absolute()
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.is_dir())).free


def name(device: str = "cpu") -> str:
    """What the CPU or the GPU is called."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def version(package: str) -> str | None:
    """Of an installed package; None where it is not installed, as when a source tree is run."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cache(file: str) -> Path:
    """A file of the user's cache: in XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unasdiff-teach" / file


def recall(file: str, key: str) -> dict | None:
    """What `remember` has kept under a key; None where there is nothing, or nothing that can be read."""
    try:
        found = read_json(cache(file)).get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def remember(file: str, key: str, value: dict) -> None:
    """Keep a measurement for later runs, in place of a damaged cache; one that cannot be written does not stop
    anything.
    """
    path = cache(file)
    with contextlib.suppress(OSError, ValueError, TypeError):
        try:
            kept = read_json(path)
        except (FileNotFoundError, ValueError):
            kept = {}
        kept = kept if isinstance(kept, dict) else {}
        write_json(path, kept | {key: value}, shared=True)
