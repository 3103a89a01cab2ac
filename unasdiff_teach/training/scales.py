"""Data to train on, of any origin, and what trains a scale's networks on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._checks import one_of
from ..priors.neural import PriorConfig
from ..separators import SeparatorConfig
from .crops import CropConfig, Crops, ManifestCrops
from .prior import PriorTrainer
from .recipes import SCALES, Scale
from .separator import Mixer, SeparatorTrainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["SCALES", "Scale", "Source", "prior_trainer", "separator_trainer"]


@dataclass(frozen=True)
class Source:
    """Recordings of one kind: a converted data set, or the kind's part of the pocket corpus.

    Attributes:
        name: for cards.
        fingerprint: SHA-256 of what it holds.
        kind: "speech" or "sound".
        sample_rate: Hz.
        labels: class names; none for speech.
        crops: crops(subset, config, by_voice) draws from "train", "fit" (training clips without the lent validation
            clips), "validation" or "test"; by_voice makes each speaker a class, and each clip of an unknown speaker.
    """

    name: str
    fingerprint: str
    kind: str
    sample_rate: int
    labels: tuple[str, ...]
    crops: Callable[[str, CropConfig, bool], Crops | ManifestCrops]

    @classmethod
    def open(cls, where: str | Path) -> Source:
        """A manifest, by its file or folder; or the pocket corpus, by "pocket-speech" or "pocket-sound".

        Raises:
            FileNotFoundError, ValueError: no manifest is there.
        """
        if str(where) in ("pocket-speech", "pocket-sound"):
            return _pocket(str(where).removeprefix("pocket-"))
        from ..data.manifest import load

        manifest = load(where)

        def crops(subset: str, config: CropConfig, by_voice: bool = False) -> ManifestCrops:
            chosen = manifest
            if by_voice:
                voices = manifest.groups(manifest.rows)
                chosen = replace(manifest, rows=manifest.rows.assign(label=voices), labels=tuple(sorted(set(voices))))
            return ManifestCrops(chosen, subset, config.length / manifest.sample_rate, config)

        return cls(manifest.name, manifest.fingerprint, manifest.kind, manifest.sample_rate, manifest.labels, crops)


def _pocket(kind: str) -> Source:
    from ..data.pocket_corpus import LABELS, SAMPLE_RATE, pocket, pocket_hash

    def crops(subset: str, config: CropConfig, by_voice: bool = False) -> Crops:
        clips = pocket(kind, "train" if subset == "fit" else subset)
        by_class = by_voice or kind == "sound"
        return Crops([c.audio for c in clips], [clips.labels.index(c.label) if by_class else 0 for c in clips], config)

    return Source(f"pocket {kind}", pocket_hash(), kind, SAMPLE_RATE, LABELS["sound"] if kind == "sound" else (), crops)


def prior_trainer(
    scale: Scale,
    source: Source,
    folder: str | Path,
    changes: Mapping,
    fabric: Fabric | None = None,
    board: bool = False,
) -> PriorTrainer:
    """The trainer of a prior for one kind of sound; validated on clips that it is not trained on.

    Args:
        changes: fields of `TrainConfig` that differ from the scale's.

    Raises:
        ValueError: data of another rate, or as for `PriorTrainer`.
    """
    scale.check(source.name, source.sample_rate)
    network = scale.network(len(source.labels))
    prior = PriorConfig(source.sample_rate, source.labels, scale.target, scale.sigma_data, network=network)
    cut = scale.cut(source.sample_rate)
    return PriorTrainer(
        folder, prior, replace(scale.prior, **changes), source.crops("fit", cut, False), _described([source]),
        fabric=fabric, board=board, **validation(scale, source),
    )  # fmt: skip


def validation(scale: Scale, source: Source) -> dict:
    """What of a training is looked at, as arguments of `PriorTrainer`: clips that it is not trained on, at the scale's
    times."""
    cut = replace(scale.cut(source.sample_rate), speeds=(1.0,))
    return {"validation": source.crops("validation", cut, False), "validation_config": scale.validation_config}


def separator_trainer(
    scale: Scale, network: str, kinds: tuple[str, ...], sources: Mapping[str, Source], folder: str | Path,
    changes: Mapping, fabric: Fabric | None = None,
) -> SeparatorTrainer:  # fmt: skip
    """The trainer of a separator for mixtures of these kinds; voices and classes of one mixture differ.

    Args:
        network: one of `scale.separators`.
        sources: by kind.
        changes: fields of `SeparatorTrainConfig` that differ from the scale's.

    Raises:
        ValueError: a network that is not known, a kind without data, or data of other rates.
    """
    one_of("network", network, scale.separators)
    if missing := sorted(set(kinds) - set(sources)):
        raise ValueError(f"no data of kind {' or '.join(missing)}, which the mixtures need")
    used = [sources[kind] for kind in sorted(set(kinds))]
    for source in used:
        scale.check(source.name, source.sample_rate)
    if len({source.sample_rate for source in used}) > 1:
        raise ValueError("the data have different rates: " + ", ".join(f"{s.name} {s.sample_rate} Hz" for s in used))
    rate = used[0].sample_rate
    cut = replace(scale.cut(rate), level_db=(-25.0, -20.0), partial=0.0)
    mixer = Mixer({source.kind: source.crops("train", cut, source.kind == "speech") for source in used}, kinds)
    separator = SeparatorConfig(rate, kinds, scale.separators[network](len(kinds)))
    return SeparatorTrainer(
        folder, separator, replace(scale.separator, **changes), mixer, _described(used), fabric=fabric
    )


def _described(sources: list[Source]) -> dict:
    return {"corpus": ", ".join(s.name for s in sources), "sha256": " ".join(s.fingerprint for s in sources)}
