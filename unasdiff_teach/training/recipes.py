"""Every recipe of the package: the scales, the stages of the pocket priors, and the pocket experts.

"pocket" means one thing. On the shipped recordings its priors are made in two stages, speech and sounds first learned
together by one network that is told the class, then each going on alone; its experts see mixtures made by the rules
of the fixed lists. On other recordings of 8 kHz a network is trained from nothing, as `SCALES["pocket"]` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..data.mixing import TASKS
from ..data.pocket_corpus import LABELS, SAMPLE_RATE
from ..networks import ConvTasNetConfig, DiffWaveConfig, TFLoCoformerConfig, TriplePathConfig
from ..priors.neural import PriorConfig
from ..priors.shipped import FAMILIES
from .crops import CropConfig
from .prior import TrainConfig, ValidationConfig
from .separator import SeparatorTrainConfig

# ------------------------------------------------------------------------------------------ the pocket priors

STAGES = ("joint", "speech", "sound", "diffwave-speech", "diffwave-sound")
BRANCHES = ("speech", "sound")  # of the joint stage
SPEECH = "speech"  # its class in the joint stage
SOUNDS = LABELS["sound"]
JOINT_LABELS = (SPEECH, *SOUNDS)
SECONDS = {"joint": 1.0, "speech": 2.0, "sound": 2.0, "diffwave-speech": 2.0, "diffwave-sound": 2.0}
# as many seconds in each stage
BATCH = {"joint": 16, "speech": 8, "sound": 8, "diffwave-speech": 8, "diffwave-sound": 8}
STEPS = {"joint": 3600, "speech": 1500, "sound": 1500, "diffwave-speech": 2300, "diffwave-sound": 2300}
SPEECH_SHARE = 0.35  # of the joint examples: six voices and all phonemes are more to learn than one instrument
LEVEL_DB = (-26.0, -11.0)  # from the quietest source of a raw mixture to the loudest of one normalised to its peak
SPEEDS = (1.0, 0.94, 1.06)  # each clip is also heard a little slower and a little faster
SIGMA_DATA = 0.13  # RMS of a source in a mixture normalised to its peak, about -18 dB


def stage_config(stage: str, **changes) -> TrainConfig:
    """How one of `STAGES` is trained."""
    return TrainConfig.pocket(**{"steps": STEPS[stage], "batch": BATCH[stage]} | changes)


def prior_config(stage: str, sounds: Sequence[str] = SOUNDS) -> PriorConfig:
    """What a stage trains, with these classes of sound."""
    kind = stage.removeprefix("diffwave-")
    labels = {"joint": (SPEECH, *sounds), "speech": (), "sound": tuple(sounds)}[kind]
    network = (TriplePathConfig if kind == stage else DiffWaveConfig).pocket(classes=len(labels))
    return PriorConfig(SAMPLE_RATE, labels, "preconditioned", SIGMA_DATA, network=network)


def crop(seconds: float, speeds: Sequence[float] = SPEEDS) -> CropConfig:
    """How the examples of every stage are cut, at 8 kHz."""
    return CropConfig(round(seconds * SAMPLE_RATE), level_db=LEVEL_DB, partial=0.5, speeds=tuple(speeds))


# ------------------------------------------------------------------------------------------ the pocket experts

NETWORKS = {"conv-tasnet": ConvTasNetConfig, "tf-locoformer": TFLoCoformerConfig}
NAMES = {
    f"{family}-{network}-{'-'.join(kinds)}": (corpus, network, task)
    for corpus, family in FAMILIES.items()
    for task, kinds in TASKS.items()
    for network in NETWORKS
}
CONFIGS = {
    "conv-tasnet": SeparatorTrainConfig.pocket(steps=2400),
    "tf-locoformer": SeparatorTrainConfig.pocket(steps=1800),
}


# ------------------------------------------------------------------------------------------ on any recordings


@dataclass(frozen=True)
class Scale:
    """A scale of training.

    Attributes:
        sample_rate: that data must have, in Hz; None takes any.
        seconds: of an example.
        crop: how examples are cut; its length is that of `seconds`.
        network: of a prior with this many classes (0 without).
        target, sigma_data: of the prior, as in `PriorConfig`.
        prior, validation_config: how a prior is trained, and what is looked at.
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
    validation_config: ValidationConfig
    separators: Mapping[str, Callable[[int], ConvTasNetConfig | TFLoCoformerConfig]]
    separator: SeparatorTrainConfig

    def check(self, name: str, sample_rate: int) -> None:
        """Raises ValueError if data of this name have another rate than the scale's."""
        if self.sample_rate not in (None, sample_rate):
            fitting = [other for other, scale in SCALES.items() if scale.sample_rate == sample_rate]
            other = f", and --scale {fitting[0]} trains on what it has" if fitting else ""
            raise ValueError(
                f"{name} has {sample_rate} Hz; this scale needs {self.sample_rate} Hz: `unasdiff-teach"
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
        # without classes the paper's table has two rows as well
        network=lambda classes: TriplePathConfig.paper(classes or 1),
        target="eps",
        sigma_data=0.1,
        prior=TrainConfig.paper(),
        validation_config=ValidationConfig(),
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
        validation_config=ValidationConfig(every=500, sample_every=1000),
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
        validation_config=ValidationConfig(every=10, examples=4, sample_every=20, samples=2),
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
