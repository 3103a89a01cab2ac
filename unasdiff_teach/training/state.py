"""The state of a training on the disk: which file it is, what it holds, and whether it belongs to another training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def signature(path: Path) -> tuple[int, ...] | None:
    """What differs when a file has been replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_state(path: Path, device: torch.device) -> dict:
    """A state, checked for being one."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        what = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged, or no state of a training: {what}") from error
    needed = {"model", "average", "optimiser", "step", "seconds"}
    if not isinstance(state, dict) or not needed <= state.keys():
        raise ValueError(f"{path} is no state of a training of this package")
    return state


def digest(weights: Mapping[str, Tensor]) -> str:
    """What tells two sets of weights apart: the first 16 digits of a SHA-256 of all names and numbers."""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(name.encode() + value.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]


def differences(before: dict, now: dict, prefix: str = "") -> list[str]:
    """Where two nested settings differ, among the keys that both have."""
    found = []
    for key in before.keys() & now.keys():
        a, b = before[key], now[key]
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a!r}, is now {b!r}")
    return sorted(found)
