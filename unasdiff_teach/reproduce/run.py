"""A checked reproduction: its folder, what has finished there, and the run of what has not."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _machine
from .._files import locked, read_json, write_json
from .notebooks import NOTEBOOKS, execute, source_hash

if TYPE_CHECKING:
    from ..training.plan import Training

FREE = ("device", "processes")  # parameters that change no result, and may differ when a run goes on
OLDER = {"precision": "float32"}  # parameters that a run of an earlier version did not have
STATE, ENVIRONMENT = "reproduction.json", "environment.json"
PATIENCE = 10.0  # seconds: the notebook of a command that was killed notices within one that it is alone


@dataclass(frozen=True)
class Reproduction:
    """A checked run: `parameters` are all of each notebook's, `trainings` what the first of them trains."""

    scale: str
    out: Path
    book: Path
    parameters: Mapping[str, Mapping[str, object]]
    trainings: tuple[Training, ...]
    precision: str  # of the products, and why

    def check_folder(self) -> None:
        """Raises ValueError if the folder belongs to a run with other parameters, or is a file."""
        if self.out.is_file():
            raise ValueError(f"{self.out} is a file; a folder is needed")
        for part, before in stored(self.out)["parameters"].items():
            now = json.loads(json.dumps(self.parameters[part]))
            changed = [
                f"{k} was {before.get(k)!r}, is now {now.get(k)!r}"
                for k in sorted({*before, *now} - {*FREE})
                if before.get(k, OLDER.get(k)) != now.get(k)
            ]
            if changed:
                raise ValueError(
                    f"{self.out} holds another run: in {NOTEBOOKS[part]} {'; '.join(changed)}. Use another folder"
                )

    def finished(self, part: str) -> bool:
        """Whether the notebook as it is now has been run to its end."""
        return stored(self.out)["finished"].get(part, {}).get("source") == source_hash(self.book / NOTEBOOKS[part])

    def run(self, echo: Callable[[str], object]) -> None:
        """Run the notebooks that have not finished; what their cells print goes to `echo`, and to the logs.

        Raises:
            RuntimeError: a cell failed.
            BlockingIOError: another process is at work in the folder.
            ValueError: a file of the folder is damaged.
        """
        with locked(self.out, "reproduction", PATIENCE) as lock:
            write_json(self.out / STATE, stored(self.out) | {"scale": self.scale, "parameters": self.parameters})
            earlier = read_json(path) if (path := self.out / ENVIRONMENT).is_file() else []
            write_json(path, [*earlier, environment(self.book)])
            for part in NOTEBOOKS:
                if not self.finished(part):
                    self._execute(part, echo, lock)

    def _execute(self, part: str, echo: Callable[[str], object], lock: int | None) -> None:
        notebook, began = self.book / NOTEBOOKS[part], datetime.now(UTC)
        source = source_hash(notebook)
        log = self.out / "logs" / f"{notebook.stem}.log"
        execute(notebook, self.out / "notebooks" / notebook.name, self.parameters[part], log, echo, lock)
        state = stored(self.out)
        state["finished"][part] = {
            "source": source,
            "began": began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - began).total_seconds()),
        }
        write_json(self.out / STATE, state)


def stored(out: Path) -> dict:
    """What a folder knows of its run."""
    return read_json(path) if (path := out / STATE).is_file() else {"parameters": {}, "finished": {}}


def environment(book: Path) -> dict:
    """When, where and with what a run was started or gone on with."""
    import torch

    names = {"unasdiff-teach", *(re.match(r"[\w.-]+", line)[0] for line in metadata.requires("unasdiff-teach") or [])}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "gpus": gpus,
        },
        "python": platform.python_version(),
        "packages": {name: version for name in sorted(names) if (version := _machine.version(name))},
        "commit": _git(book, "rev-parse", "HEAD"),
        "changed since": (_git(book, "status", "--porcelain", "--untracked-files=no") or "").splitlines(),
    }


def _git(folder: Path, *words: str) -> str | None:
    """What git says of a checkout; None where there is none."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
