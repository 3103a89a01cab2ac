"""What a converted data set holds: one Parquet file beside its clips, one row for each clip."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import one_of
from .._files import replacing
from .audio import read

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
NAME = "manifest.parquet"
THRESHOLD = 1e-4  # energy of a window of 50 ms at 44.1 kHz
SPLITS = ("train", "validation", "test")
SUBSETS = (*SPLITS, "fit")
HELD_OUT = 0.02  # fraction of the training clips that "validation" takes where the data set has none of its own

COLUMNS = {
    "id": "string",  # unique in the manifest
    "path": "string",  # of the converted clip, from the manifest's folder
    "split": "string",  # one of `SPLITS`
    "label": "string",  # class of a sound
    "speaker": "string",  # of speech
    "verified": "boolean",  # whether a person has checked the label; missing where nobody says
    "spans": "object",  # active spans by `active_spans`, [[first, last], ...] in seconds
    "samples": "int64",  # at the manifest's rate
    "seconds": "float64",
    "gain_db": "float64",  # applied in the conversion: 0, or what keeps the peak at full scale
    "bytes": "int64",  # of the converted file
    "sha256": "string",  # of the converted file
    "licence": "string",
    "source": "string",  # original file, from the data set's root
    "source_bytes": "int64",
}


def active_spans(audio: Tensor, sample_rate: int) -> list[list[float]]:
    """Where a recording sounds, by the rule of the paper's code (`paper versus code`, sound mixtures).

    Energies are sums of squares in windows of 50 ms, one every 25 ms; a window above the threshold is active, and
    consecutive active windows make a span. At a rate other than the rule's 44.1 kHz the sum is scaled to as many
    samples, so that it depends on the level alone (the threshold is -73 dB). The last windows are completed with
    silence.

    Args:
        audio: [N], full scale at 1, at the recording's own level: a fixed threshold is not for levelled audio.
        sample_rate: Hz.

    Returns:
        [first, last] of each span in seconds, to 1 ms, within the recording; empty for silence.
    """
    size, step = int(0.05 * sample_rate), int(0.025 * sample_rate)
    count = max(1, -(-(len(audio) - size) // step) + 1)
    padded = torch.nn.functional.pad(audio.double(), (0, (count - 1) * step + size - len(audio)))
    energy = padded.square().unfold(0, size, step).sum(-1) * (44_100 / sample_rate)
    spans: list[list[int]] = []
    for window in torch.nonzero(energy > THRESHOLD).flatten().tolist():
        if spans and window == spans[-1][1] + 1:
            spans[-1][1] = window
        else:
            spans.append([window, window])
    return [
        [round(a * step / sample_rate, 3), round(min(b * step + size, len(audio)) / sample_rate, 3)] for a, b in spans
    ]


@dataclass(frozen=True)
class Manifest:
    """A converted data set of one kind of sound.

    Attributes:
        folder: where the manifest lies; paths of clips start here.
        rows: one row for each clip, columns as in `COLUMNS`, ordered by `id`.
        name: of the data set. kind: "speech" or "sound". sample_rate: Hz.
        labels: class names, the place of a name is its class index; empty for speech, which has no classes.
        about: everything else that was chosen: microphone, rules, licence, versions.
    """

    folder: Path
    rows: pd.DataFrame
    name: str
    kind: str
    sample_rate: int
    labels: tuple[str, ...]
    about: Mapping[str, object]

    def clips(self, subset: str) -> pd.DataFrame:
        """The rows of one subset.

        Args:
            subset: "train", "test", "validation", or "fit". A data set without a validation split of its own (VCTK and
                FSDKaggle2018) lends 2 % of its training clips, chosen by a hash of their identifiers; "fit" is then the
                training split without them, and "train" still all of it, as in the paper.

        Raises:
            ValueError: another subset, or one without clips.
        """
        one_of("subset", subset, SUBSETS)
        rows = self.rows[self.rows["split"] == ("train" if subset == "fit" else subset)]
        if subset in ("fit", "validation") and not (self.rows["split"] == "validation").any():
            train = self.rows[self.rows["split"] == "train"]
            order = sorted(train.index, key=lambda i: (zlib.crc32(train.at[i, "id"].encode()), train.at[i, "id"]))
            held = set(order[: max(1, round(HELD_OUT * len(order)))])
            rows = train[[(i in held) == (subset == "validation") for i in train.index]]
        if rows.empty:
            raise ValueError(f"{self.name} in {self.folder} has no {subset} clips")
        return rows.reset_index(drop=True)

    def classes(self, rows: pd.DataFrame) -> list[int]:
        """Class index of each row; 0 for speech."""
        if not self.labels:
            return [0] * len(rows)
        index = {label: i for i, label in enumerate(self.labels)}
        return [index[label] for label in rows["label"]]

    def groups(self, rows: pd.DataFrame) -> list[str]:
        """Class of each row, or its speaker; a clip of an unknown speaker is a group of its own."""
        names = rows["label" if self.kind == "sound" else "speaker"]
        return [name if isinstance(name, str) else f"clip {clip}" for name, clip in zip(names, rows["id"], strict=True)]

    def read(self, path: str) -> Tensor:
        """A whole clip, float32 [N]. Raises FileNotFoundError or ValueError, with its name, if it cannot be read."""
        audio, rate = read(self.folder / path)
        if rate != self.sample_rate:
            raise ValueError(f"{self.folder / path} has {rate} Hz; the manifest says {self.sample_rate}")
        return audio

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what was converted: identifiers, splits, labels and the hashes of all clips. Model cards quote
        it.
        """
        columns = ["id", "split", "label", "speaker", "sha256"]
        text = "\n".join("\t".join(map(str, row)) for row in self.rows[columns].itertuples(index=False))
        return hashlib.sha256(text.encode()).hexdigest()


def build(
    folder: str | Path,
    rows: Sequence[Mapping],
    name: str,
    kind: str,
    sample_rate: int,
    labels: Sequence[str],
    about: Mapping,
) -> Manifest:
    """A manifest of these rows. Raises ValueError for an identifier twice, and for a split or label that is not
    known.
    """
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS).sort_values("id", ignore_index=True)
    if twice := sorted(set(frame["id"][frame["id"].duplicated()])):
        raise ValueError(f"the manifest has {', '.join(twice[:5])} more than once")
    one_of("kind", kind, ("speech", "sound"))
    if strange := sorted(set(frame["split"]) - set(SPLITS)):
        raise ValueError(f"split is {', '.join(strange)}; accepted: {', '.join(SPLITS)}")
    if strange := sorted(set(frame["label"].dropna()) - set(labels)):
        raise ValueError(f"labels that are not among the manifest's: {', '.join(strange)}")
    return Manifest(Path(folder), frame, name, kind, sample_rate, tuple(labels), dict(about))


def save(manifest: Manifest) -> Path:
    """Write the manifest into its folder, whole or not at all. Returns its path."""
    head = {
        "version": VERSION, "name": manifest.name, "kind": manifest.kind, "sample_rate": manifest.sample_rate,
        "labels": manifest.labels, "about": dict(manifest.about),
    }  # fmt: skip
    path = manifest.folder / NAME
    write_table(manifest.rows, head, path)
    return path


def write_table(rows: pd.DataFrame, head: Mapping, path: Path) -> None:
    """Write rows as Parquet, with `head` as JSON in its metadata, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), "unasdiff": json.dumps(head)})
    with replacing(path) as partial, open(partial, "wb") as file:
        pyarrow.parquet.write_table(table, file)


def load(path: str | Path) -> Manifest:
    """Read a manifest.

    Args:
        path: the file, or the folder that holds it as `manifest.parquet`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no manifest, or one of another version.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no manifest at {path}; `unasdiff-teach data` makes one")
    try:
        table = pyarrow.parquet.read_table(path)
        head = json.loads(table.schema.metadata[b"unasdiff"])
    except (pyarrow.ArrowInvalid, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a manifest of this package: {error}") from error
    if head["version"] != VERSION:
        raise ValueError(f"{path} is a manifest of version {head['version']}; this package reads version {VERSION}")
    rows = table.to_pandas()
    rows["spans"] = [[[float(a), float(b)] for a, b in spans] for spans in rows["spans"]]
    return Manifest(
        path.parent,
        rows.astype(COLUMNS),
        head["name"],
        head["kind"],
        head["sample_rate"],
        tuple(head["labels"]),
        head["about"],
    )
