"""What is trained at each scale, on any data: networks, examples, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._checks import one_of
from ..networks import ConvTasNetConfig, TFLoCoformerConfig, TriplePathConfig
from ..priors.neural import PriorConfig
from ..separators import SeparatorConfig
from .crops import CropConfig, Crops, ManifestCrops
from .pocket import LEVEL_DB, SIGMA_DATA, SPEEDS
from .prior import PriorTrainer, TrainConfig, Watch
from .separator import Mixer, SeparatorTrainConfig, SeparatorTrainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Source:
    """Recordings of one kind: a converted data set, or the kind's part of the pocket corpus.

    Attributes:
        name: for cards. fingerprint: SHA-256 of what it holds.
        kind: "speech" or "sound". sample_rate: Hz. labels: class names; none for speech.
        crops: crops(subset, config, by_voice) draws from "train", "fit" (training clips without the lent validation
            clips), "validation" or "test"; by_voice makes each speaker a class.
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
                rows = manifest.rows.assign(label=manifest.rows["speaker"])
                chosen = replace(manifest, rows=rows, labels=tuple(sorted(set(rows["label"]))))
            return ManifestCrops(chosen, subset, config.length / manifest.sample_rate, config)

        return cls(manifest.name, manifest.fingerprint, manifest.kind, manifest.sample_rate, manifest.labels, crops)


def _pocket(kind: str) -> Source:
    from ..data.pocket_corpus import LABELS, SAMPLE_RATE, pocket, pocket_hash

    def crops(subset: str, config: CropConfig, by_voice: bool = False) -> Crops:
        clips = pocket(kind, "train" if subset == "fit" else subset)
        by_class = by_voice or kind == "sound"
        return Crops([c.audio for c in clips], [clips.labels.index(c.label) if by_class else 0 for c in clips], config)

    return Source(f"pocket {kind}", pocket_hash(), kind, SAMPLE_RATE, LABELS["sound"] if kind == "sound" else (), crops)


@dataclass(frozen=True)
class Scale:
    """A scale of training.

    Attributes:
        sample_rate: that data must have, in Hz; None takes any.
        seconds: of an example.
        crop: how examples are cut; its length is that of `seconds`.
        network: of a prior with this many classes (0 without).
        target, sigma_data: of the prior, as in `PriorConfig`.
        prior, watch: how a prior is trained, and what is looked at.
        separators: networks by name, for this many sources.
        separator: how a separator is trained.
    """

    sample_rate: int | None
    seconds: float
    crop: CropConfig
    network: Callable[[int], TriplePathConfig]
    target: str
    sigma_data: float
    prior: TrainConfig
    watch: Watch
    separators: Mapping[str, Callable[[int], ConvTasNetConfig | TFLoCoformerConfig]]
    separator: SeparatorTrainConfig

    def check(self, source: Source) -> None:
        """Raises ValueError if the data have another rate."""
        if self.sample_rate not in (None, source.sample_rate):
            fitting = [name for name, scale in SCALES.items() if scale.sample_rate == source.sample_rate]
            other = f", and --scale {fitting[0]} trains on what it has" if fitting else ""
            raise ValueError(
                f"{source.name} has {source.sample_rate} Hz; this scale needs {self.sample_rate} Hz: `unasdiff-teach"
                f" data ... --rate {self.sample_rate}` converts to that{other}"
            )

    def cut(self, sample_rate: int) -> CropConfig:
        return replace(self.crop, length=round(self.seconds * sample_rate))


def _smoke_network(classes: int) -> TriplePathConfig:
    small = {"channels": 16, "embedding": 32, "heads": 2, "depths": (1, 1, 1, 1, 1), "patch": (4, 4)}
    return TriplePathConfig.pocket(classes).replace(**small)


SCALES = {
    "paper": Scale(
        sample_rate=16_000,
        seconds=4.0,
        crop=CropConfig(1),
        network=lambda classes: TriplePathConfig.paper(
            classes or 1
        ),  # without classes the paper's table has two rows as well
        target="eps",
        sigma_data=0.1,
        prior=TrainConfig.paper(),
        watch=Watch(),
        separators={"conv-tasnet": ConvTasNetConfig.paper, "tf-locoformer": TFLoCoformerConfig.medium},
        separator=SeparatorTrainConfig.paper(save_every=1000, checkpoint_every=25_000),
    ),
    "pocket": Scale(
        sample_rate=8000,
        seconds=2.0,
        crop=CropConfig(1, level_db=LEVEL_DB, partial=0.5, speeds=SPEEDS),
        network=TriplePathConfig.pocket,
        target="preconditioned",
        sigma_data=SIGMA_DATA,
        prior=TrainConfig.pocket(),
        watch=Watch(every=500, sample_every=1000),
        separators={"conv-tasnet": ConvTasNetConfig.pocket, "tf-locoformer": TFLoCoformerConfig.pocket},
        separator=SeparatorTrainConfig.pocket(),
    ),
    "smoke": Scale(
        sample_rate=None,
        seconds=0.5,
        crop=CropConfig(1, level_db=LEVEL_DB),
        network=_smoke_network,
        target="preconditioned",
        sigma_data=SIGMA_DATA,
        prior=TrainConfig.pocket(steps=20, batch=4, log_every=5, save_every=10),
        watch=Watch(every=10, examples=4, sample_every=20, samples=2),
        separators={
            "conv-tasnet": lambda sources: ConvTasNetConfig(
                sources=sources, filters=32, window=16, bottleneck=16, hidden=32, layers=3, stacks=1
            ),
            "tf-locoformer": (
                lambda sources: TFLoCoformerConfig.pocket(sources).replace(
                    blocks=1, channels=16, hidden=16, attention=16
                )
            ),
        },
        separator=SeparatorTrainConfig.pocket(steps=20, batch=4, log_every=5, save_every=10),
    ),
}


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
    scale.check(source)
    network = scale.network(len(source.labels))
    prior = PriorConfig(source.sample_rate, source.labels, scale.target, scale.sigma_data, network=network)
    cut = scale.cut(source.sample_rate)
    return PriorTrainer(
        folder, prior, replace(scale.prior, **changes), source.crops("fit", cut, False), _described([source]),
        fabric=fabric, validation=source.crops("validation", replace(cut, speeds=(1.0,)), False), watch=scale.watch,
        board=board,
    )  # fmt: skip


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
        scale.check(source)
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
