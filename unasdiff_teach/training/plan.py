"""All that a reproduction trains at a scale: what it is called, what it costs, and how it is begun or gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from ..data.mixing import SPEECH_SOUND, TASKS
from ..networks.budget import flops, parameters
from ..priors import shipped
from . import pocket, recipes, separators
from .config import LoopConfig
from .loop import Trainer, processes
from .recipes import SCALES
from .scales import Source, prior_trainer, separator_trainer

EXPERTS = tuple(recipes.NETWORKS)
EXPERT_TASKS = {"smoke": (SPEECH_SOUND,), "paper": tuple(TASKS)}  # the pocket scale's are those of `recipes.NAMES`


def _no_crops(*_) -> NoReturn:
    raise ValueError(
        "the paper's scale is planned without data; to train, it needs those that `unasdiff-teach data` makes"
    )


WITHOUT_DATA = (  # as much as a plan must know of the paper's data sets
    Source("VCTK 0.92", "", "speech", 16_000, (), _no_crops),
    Source("FSDKaggle2018", "", "sound", 16_000, tuple(map(str, range(41))), _no_crops),
)


@dataclass(frozen=True)
class Training:
    """One network to train.

    Attributes:
        name: of its folder and, with `.safetensors`, of the file of its averaged weights.
        network: its configuration, of any network of the package.
        samples: N of an example.
        config: how it is trained.
        trainer: trainer(folder of all trainings) -> its trainer, which stands where the state in that folder stands.
    """

    name: str
    network: object
    samples: int
    config: LoopConfig
    trainer: Callable[[Path], Trainer]

    @property
    def parameters(self) -> int:
        return parameters(self.network)

    @property
    def step_flops(self) -> int:
        """FLOP of a step: forward and backward, of the whole batch."""
        return self.config.batch * flops(self.network, self.samples, "training")

    @property
    def flops(self) -> int:
        """FLOP of all steps."""
        return self.config.steps * self.step_flops

    @property
    def bytes(self) -> int:
        """On the disk at the end: weights, their average and two moments in the state, and a file of averages at each
        milestone.
        """
        milestones = -(-self.config.steps // (self.config.checkpoint_every or self.config.save_every))
        return 4 * self.parameters * (4 + milestones + 1)

    def run(self, folder: str | Path, progress: bool = False) -> Path:
        """Train, go on, or do nothing where it is finished. Returns the file of the averaged weights, NAME.safetensors
        in `folder`.
        """
        trainer = self.trainer(Path(folder))
        trainer.fit(progress)
        path = Path(folder) / f"{self.name}.safetensors"
        trainer.export(path)
        return path


def plan(
    scale: str,
    sources: Sequence[Source] = (),
    experts: Sequence[str] = (),
    device: str = "cpu",
    **changes: int | str | None,
) -> list[Training]:
    """The trainings of a scale, in an order in which they can run: priors first.

    At pocket scale these are the stages of the priors ("joint", "speech", "sound", and those with DiffWave if such
    priors are shipped), and the experts that `recipes.NAMES` has for the rendered corpus, all on the CPU. Else a prior
    for each source, and an expert for each network and each task of `EXPERT_TASKS` that the sources allow.

    Args:
        scale: one of `SCALES`.
        sources: one for each kind of sound. The pocket scale has its own; the paper's can be planned, but not run,
            without.
        experts: networks of supervised experts, some of `EXPERTS`.
        device: "cpu", "cuda" (products in bfloat16 unless `changes` say otherwise) or "mps".
        changes: steps, batch, seed and precision of every training; None keeps the scale's own.

    Raises:
        ValueError: an unknown scale or network; two sources of one kind; data of another rate, or none where they are
            needed.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; accepted: {', '.join(SCALES)}")
    if strange := sorted(set(experts) - set(EXPERTS)):
        raise ValueError(f"experts has {', '.join(strange)}; accepted: {', '.join(EXPERTS)}")
    if len({source.kind for source in sources}) < len(sources):
        raise ValueError("two of the data sets are of one kind; one of speech and one of sounds can be given")
    changes = {name: value for name, value in changes.items() if value is not None}
    if scale == "pocket":
        if sources:
            raise ValueError("the pocket scale trains on the corpus that is shipped, and takes no other data")
        return [*_pocket_priors(changes), *_pocket_experts(experts, changes)]
    if not sources and scale != "paper":
        raise ValueError(
            f"the scale {scale!r} needs data: pocket-speech, pocket-sound, or data sets that `unasdiff-teach data` has"
            " made"
        )
    if device != "cpu":
        changes = {"precision": "bfloat16" if device.startswith("cuda") else "float32", "prefetch": 4} | changes
    sources = {source.kind: source for source in sources or WITHOUT_DATA}
    return [*_priors(scale, sources, changes, device), *_experts(scale, sources, experts, changes, device)]


def _priors(scale: str, sources: Mapping[str, Source], changes: Mapping, device: str) -> list[Training]:
    found, chosen = [], SCALES[scale]
    board = scale != "smoke" and find_spec("tensorboard") is not None
    for kind, source in sources.items():
        chosen.check(source.name, source.sample_rate)

        def trainer(folder: Path, source: Source = source) -> Trainer:
            return prior_trainer(chosen, source, folder / source.kind, changes, processes(device, 1), board)

        samples = chosen.cut(source.sample_rate).length
        found.append(
            Training(kind, chosen.network(len(source.labels)), samples, replace(chosen.prior, **changes), trainer)
        )
    return found


def _experts(
    scale: str, sources: Mapping[str, Source], experts: Sequence[str], changes: Mapping, device: str
) -> list[Training]:
    found, chosen = [], SCALES[scale]
    for network in experts:
        for kinds in (TASKS[task] for task in EXPERT_TASKS[scale] if set(TASKS[task]) <= set(sources)):
            name = f"{network}-{'-'.join(kinds)}"

            def trainer(
                folder: Path, name: str = name, network: str = network, kinds: tuple[str, ...] = kinds
            ) -> Trainer:
                return separator_trainer(chosen, network, kinds, sources, folder / name, changes, processes(device, 1))

            samples = chosen.cut(sources[kinds[0]].sample_rate).length
            found.append(
                Training(
                    name, chosen.separators[network](len(kinds)), samples, replace(chosen.separator, **changes), trainer
                )
            )
    return found


def _pocket_priors(changes: Mapping) -> list[Training]:
    stages = [s for s in recipes.STAGES if s in ("joint", *recipes.BRANCHES) or f"pocket-{s}" in shipped.available()]
    configs = {stage: recipes.stage_config(stage, **changes) for stage in stages}

    def trainer(stage: str, folder: Path) -> Trainer:
        start = pocket.branch_of(stage, trainer("joint", folder)) if stage in recipes.BRANCHES else None
        return pocket.trainer(stage, folder / stage, configs[stage], start)

    samples = {stage: round(recipes.SECONDS[stage] * recipes.SAMPLE_RATE) for stage in stages}
    return [
        Training(stage, recipes.prior_config(stage).network, samples[stage], configs[stage], partial(trainer, stage))
        for stage in stages
    ]


def _pocket_experts(experts: Sequence[str], changes: Mapping) -> list[Training]:
    found = []
    for name, (corpus, network, task) in recipes.NAMES.items():
        if corpus == "rendered" and network in experts:
            short, config = name.removeprefix("pocket-"), replace(recipes.CONFIGS[network], **changes)

            def trainer(folder: Path, name: str = name, short: str = short, config: LoopConfig = config) -> Trainer:
                return separators.trainer(name, folder / short, config)

            samples = separators.MixtureRules.pocket().length
            found.append(Training(short, recipes.NETWORKS[network].pocket(len(TASKS[task])), samples, config, trainer))
    return found
