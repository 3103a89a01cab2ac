"""Priors and sources by name: what stands behind the words of a command."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .._files import file_hash
from ..diffusion import Prior
from .foreign import from_authors_checkpoint, from_undiff_checkpoint
from .neural import read
from .shipped import WEIGHTS, available

READERS = {
    ".safetensors": read,
    ".pt": from_authors_checkpoint,
    ".pth": from_authors_checkpoint,
    ".ckpt": from_undiff_checkpoint,
}
RESERVED = ("residual", "mixture")  # what the page and the folder call something else


@dataclass(frozen=True)
class NamedPrior:
    """A prior and what a source is called that it models as a whole.

    Attributes:
        prior: see `Prior`.
        name: of its unconditional class; "" if only its labels can be asked for.
        where: it came from.
        sha256: of its file.
    """

    prior: Prior
    name: str
    where: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Source:
    """One source of a separation: its name, its prior, and the label that the prior is told."""

    name: str
    prior: NamedPrior
    label: int | str | None


def load_prior(spec: str) -> NamedPrior:
    """The prior that [NAME=]WHERE means.

    WHERE is the name of a shipped prior; a .safetensors file, or a folder of a training, from which prior.safetensors
    is taken, or the newest milestone of one that goes on; a checkpoint of the paper's authors (.pt, .pth) or of UnDiff
    (.ckpt). NAME is what its unconditional class is called; a prior without classes is called "speech" otherwise.

    Raises:
        FileNotFoundError: there is nothing at WHERE.
        ValueError: what is there is no prior.
    """
    name, equals, where = spec.partition("=")
    if not equals:
        name, where = "", spec
    path = WEIGHTS / f"{where}.safetensors" if where in available() else Path(where).expanduser()
    if path.is_dir():
        done = path / "prior.safetensors"
        files = (
            [done]
            if done.is_file()
            else sorted(path.glob("*.safetensors"), key=lambda file: (file.stat().st_mtime, file.name))
        )
        if not files:
            raise FileNotFoundError(f"no .safetensors file in the folder {path}")
        path = files[-1]
    if not path.is_file():
        raise FileNotFoundError(f"no prior at {where!r}; shipped are {', '.join(available())}")
    if path.suffix not in READERS:
        raise ValueError(f"prior {path} ends in {path.suffix!r}; accepted are {', '.join(READERS)}")
    prior = READERS[path.suffix](path)
    bad = [key for key, weight in prior.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise ValueError(
            f"prior {path} has NaN or infinite weights ({bad[0]} and {len(bad) - 1} more): its training has failed"
        )
    return NamedPrior(prior, name or ("" if prior.labels else "speech"), where, file_hash(path))


def find_sources(names: Sequence[str], priors: Sequence[NamedPrior]) -> list[Source]:
    """The prior and the label of each name; the first prior that knows it.

    Case, spaces and the signs - and _ matter only where names of one prior differ in nothing else.

    Raises:
        ValueError: fewer than two names; one that no prior knows; or one that means several.
    """
    exact: dict[str, Source] = {}
    for prior in priors:
        labels: dict[str, int | str | None] = {prior.name: None} if prior.name else {}
        for name, label in (labels | {label: label for label in prior.prior.labels}).items():
            exact.setdefault(name, Source(name, prior, label))
    known: dict[str, list[Source]] = {}
    for name, source in exact.items():
        known.setdefault(_plain(name), []).append(source)
    found = []
    for name in names:
        name = name.strip()
        matching = [exact[name]] if name in exact else known.get(_plain(name), [])
        if not matching:
            plain = _plain(name)
            close = difflib.get_close_matches(plain, known, 1) or [other for other in known if plain and plain in other]
            hint = f" (did you mean {known[close[0]][0].name!r}?)" if close else ""
            raise ValueError(f"no prior knows the source {name!r}{hint}; known are {', '.join(exact)}")
        matching = [source for source in matching if source.prior is matching[0].prior]  # the first that knows it
        if len(matching) > 1:
            raise ValueError(
                f"the source {name!r} may be {' or '.join(repr(s.name) for s in matching)}; give the exact name"
            )
        found.append(matching[0])
    if len(names) < 2:
        raise ValueError(f"{len(names)} source{'s' * (len(names) != 1)}; a separation needs at least two")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip()).casefold()


def titles(names: Sequence[str]) -> list[str]:
    """A title for each source, all different: numbered where two are of one kind, or where a word means something
    else.
    """
    taken = {name.casefold() for name in names} | set(RESERVED)
    made = []
    for name in names:
        if names.count(name) == 1 and name.casefold() not in RESERVED:
            made.append(name)
            continue
        number = next(n for n in range(1, len(names) + len(taken) + 2) if f"{name} {n}".casefold() not in taken)
        made.append(f"{name} {number}")
        taken.add(made[-1].casefold())
    return made
