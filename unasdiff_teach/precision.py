"""float32 or bfloat16: one vocabulary for all commands, and a measurement that chooses between the two.

bfloat16 means that products are rounded to it, by autocast, and in the triple-path network everything between its two
transforms. Trained weights, transforms and the states of a run stay in float32.
Which is faster depends on the machine and on the network: on a GPU mostly bfloat16; on a CPU with matrix units bfloat16
for a forward pass, and float32 for a training.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec

import torch

from . import _machine
from ._checks import one_of

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AUTO = "auto"
COMPILED = 5000  # passes of a network on a GPU, from which compiling it pays
_ALIASES = {"32-true": "float32", "bf16-mixed": "bfloat16"}  # the words of earlier versions
_FILE = "precision.json"
_GAIN = 1.15  # so many times as fast bfloat16 must be: it also rounds
_SECONDS = 1.0  # of a measurement, nearly


@dataclass(frozen=True)
class Choice:
    """A precision and, in a line, why: "bfloat16: 1.5 times as fast as float32 on this machine (measured 2026-05-01,
    cached)".
    """

    precision: str
    why: str


def canonical(word: str, auto: bool = False) -> str:
    """ "float32" or "bfloat16", also for the older words "32-true" and "bf16-mixed"; "auto" where that is accepted.

    Raises:
        ValueError: any other word.
    """
    word = _ALIASES.get(word, word)
    accepted = (*[AUTO] * auto, *PRECISIONS)
    one_of("precision", word, accepted)
    return word


def autocast(device: str | torch.device, precision: str) -> torch.autocast:
    """A context in which products are computed in a precision of `PRECISIONS`."""
    return torch.autocast(torch.device(device).type, PRECISIONS[precision], enabled=precision != "float32")


def check(precision: str, device: str | torch.device) -> None:
    """Raises ValueError if a device cannot compute in a precision."""
    if precision == "float32":
        return
    try:
        with autocast(device, precision):
            a = torch.ones(8, 8, device=device)
            done = (a @ a).dtype == PRECISIONS[precision]
    except RuntimeError:
        done = False
    if not done:
        raise ValueError(f"precision is {precision!r}, which {device} cannot do here; use float32")


def choose(asked: str, device: str, key: object, work: Callable[[], object]) -> Choice:
    """The precision that was asked for, or for "auto" the faster one, measured in about a second and kept in the
    user's cache.

    Args:
        asked: "auto", "float32" or "bfloat16", or an older word for one.
        device: "cpu", "cuda:0", "mps" and the like.
        key: what the measurement depends on besides machine, torch and threads: network, mode, size. Its `repr` counts.
        work: what is measured, on `device`.

    Raises:
        ValueError: an unknown precision, or one that the device cannot do.
    """
    asked = canonical(asked, auto=True)
    if asked != AUTO:
        check(asked, device)
        return Choice(asked, f"{asked}, as asked")
    if not _native(device):
        return Choice("float32", f"float32: {torch.device(device).type} has no fast bfloat16 here")
    facts = (_machine.name(device), torch.__version__, torch.get_num_threads(), torch.device(device).type, key)
    mark = hashlib.sha256(repr(facts).encode()).hexdigest()
    found = _machine.recall(_FILE, mark)
    try:
        ratio, measured, cached = float(found["ratio"]), found["measured"], ", cached"
    except (TypeError, KeyError, ValueError):
        ratio, measured, cached = _ratio(work, device), date.today().isoformat(), ""
        _machine.remember(_FILE, mark, {"ratio": ratio, "measured": measured})
    precision = "bfloat16" if ratio >= _GAIN else "float32"
    return Choice(
        precision,
        f"{precision}: bfloat16 is {ratio:.2g} times as fast as float32 on this machine (measured {measured}{cached})",
    )


def for_training(asked: str, device: str, before: str | None, key: object, work: Callable[[], object]) -> Choice:
    """As `choose`, for a training: one that goes on keeps `before`, the precision in which it began, and on CPUs
    bfloat16 is not measured, since it trains more slowly there.
    """
    if canonical(asked, auto=True) == AUTO and before:
        return Choice(before, f"{before}, as the training began")
    if canonical(asked, auto=True) == AUTO and torch.device(device).type == "cpu":
        return Choice("float32", "float32: on CPUs bfloat16 trains more slowly")
    return choose(asked, device, key, work)


def missing_compiler(device: str | torch.device) -> str | None:
    """What `torch.compile` needs for a device and does not find, and what to do about it; None where nothing is
    missing.
    """
    given = os.environ.get("CXX")
    if not any(map(shutil.which, [given] if given else ["g++", "clang++", "cl"])):
        return (
            f"a C++ compiler, and there is no {given or 'g++ or clang++'}: install one (Debian, Ubuntu: apt install"
            " g++; macOS: xcode-select --install), or set CXX to yours"
        )
    if torch.device(device).type == "cuda" and find_spec("triton") is None:
        return "triton for a GPU: pip install triton"
    return None


def has_compiler(device: str | torch.device) -> bool:
    """Whether `torch.compile` finds what it needs: a C++ compiler, and on a GPU Triton."""
    return torch.device(device).type in ("cpu", "cuda") and missing_compiler(device) is None


def compiling(asked: bool | None, device: str | torch.device, long: bool) -> tuple[bool, str]:
    """Whether networks are to be compiled, and a line about it where it has to be said.

    Args:
        asked: what the user asks for; None compiles for `long` runs on a GPU.
    """
    if asked is False or asked is None and not (long and torch.device(device).type == "cuda"):
        return False, ""
    if not has_compiler(device):
        return (
            False,
            "networks: not compiled, for want of a compiler here; the eager form computes the same, more slowly",
        )
    return True, "networks: compiled, which takes minutes for each size and process (--no-compile does without)"


def _native(device: str | torch.device) -> bool:
    """Whether a device computes in bfloat16 itself rather than imitating it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return kind == "cpu" and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _ratio(work: Callable[[], object], device: str) -> float:
    """How many times as fast as in float32 some work is in bfloat16; taken in turn, the best of each."""
    best: dict[str, float] = {}
    end = time.perf_counter() + _SECONDS
    for turn in range(6):
        for precision in PRECISIONS:
            with autocast(device, precision):
                clock, busy = _machine.timed(work, device)
            seconds = busy if torch.device(device).type == "cpu" else clock
            if turn:  # the first of each loads what it needs
                best[precision] = min(seconds, best.get(precision, seconds))
        if turn and time.perf_counter() > end:
            break
    return best["float32"] / best["bfloat16"]
