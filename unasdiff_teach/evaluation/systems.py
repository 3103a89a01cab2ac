"""Methods by their names in the tables: what each is, which networks it needs, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from torch import nn

from .. import data, separators
from ..analytical import AnalyticalConfig
from ..data.mixing import TASKS
from ..diffusion import Prior
from ..dirac import DiracConfig
from ..guidance import CQT, DPS, DSG, Guidance, Hybrid
from ..networks import DiffWave, TriplePathUNet, budget
from ..precision import canonical
from ..priors.named import load_prior
from ..separation import SeparationConfig
from ..separators import Separator
from .choice import CHOICES
from .methods import Method, oracle, sampling, supervised, unprocessed

Config = SeparationConfig | AnalyticalConfig | DiracConfig
RULES: dict[str, type] = {"dps": DPS, "dsg": DSG, "hybrid": Hybrid, "cqt": CQT}
SAMPLERS = (*RULES, "analytical", "dirac", "recommended")
ORACLES = ("oracle binary", "oracle ratio", "oracle wiener")
NETWORKS = {"conv-tasnet": "ConvTasNet", "tf-locoformer": "TFLoCoformer"}
NMF = "nmf"
METHODS = ("unprocessed", *SAMPLERS, *ORACLES, *NETWORKS, NMF)
PRESETS = ("authors", "paper", "short", "recommended")
SHORT: dict[str, Guidance] = {
    "hybrid": Hybrid(s_floor=0.008, sigma_scale=0.2),
    "dsg": DSG(sigma_scale=0.2),
    "dps": DPS(scale=1.0),
    "cqt": CQT(xi=7e-4),
}
"""What the experiment "tuning" finds best on 1 speech + 1 sound, for the preset "short"."""
T_STARS = (175, 150, 125, 100)  # of Table 4; its 200 is a start from noise
LOSSES = {"time": {"group": 0.0, "stft": 0.0}, "time+group": {"stft": 0.0}, "time+stft": {"group": 0.0}}
FLOORS = (0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Setting:
    """A configuration that has a name of its own in the tables, and the preset that it belongs to."""

    config: Config
    preset: str = ""


def family(name: str) -> str:
    """The method that a row of Table 4, "hybrid, t*=175", varies."""
    return name.partition(", ")[0]


def setting(name: str, preset: str, own: Mapping[str, Setting] | None = None) -> Setting:
    """The configuration of a sampler or of a row of Table 4, and the preset that it comes from; those of `own` come
    first.

    Raises:
        ValueError: no such row, or a gradient rule was asked for in the preset "recommended".
    """
    if own and name in own:
        return own[name]
    if name == "recommended":
        return Setting(SeparationConfig.recommended(), name)
    if name == "analytical":
        preset = "recommended" if preset == "recommended" else "authors"
        return Setting(getattr(AnalyticalConfig, preset)(), preset)
    if name == "dirac":
        return Setting(DiracConfig())
    rule = family(name)
    if preset == "recommended":
        raise ValueError(
            f"the preset 'recommended' has no gradients, and {rule!r} is a rule for them; use the method 'recommended'"
        )
    if preset == "short":
        guidance = SHORT[rule]
    else:
        guidance = RULES[rule].paper() if preset == "paper" and rule in ("dsg", "hybrid") else RULES[rule]()
    base = getattr(SeparationConfig, preset)(guidance)
    return Setting(({rule: base} | variants(base))[name], preset)


def starts(config: SeparationConfig) -> dict[str, SeparationConfig]:
    """The rows of Table 4 on t*, except for the one that `config` has already."""
    later = {f"t*={t}": config.replace(init_step=t) for t in T_STARS if t != config.init_step}
    return {"t*=200": config.replace(init="noise", init_step=200)} | later


def variants(base: SeparationConfig) -> dict[str, SeparationConfig]:
    """The rows of the paper's Table 4, of any base with the hybrid rule; no other rule has them."""
    if not isinstance(base.guidance, Hybrid):
        return {}
    rows = starts(base)
    rows |= {terms: base.replace(loss=replace(base.loss, **weights)) for terms, weights in LOSSES.items()}
    rows |= {f"s_floor={floor}": base.replace(guidance=replace(base.guidance, s_floor=floor)) for floor in FLOORS}
    return {f"hybrid, {what}": config for what, config in rows.items()}


def guided(config: Config) -> bool:
    """Whether a sampler asks the priors for gradients."""
    return isinstance(config, SeparationConfig) and config.guidance.needs_gradient


@dataclass(frozen=True)
class Systems:
    """What was trained: priors by kind of source, and separators."""

    priors: Mapping[str, Prior]
    separators: Sequence[Separator] = ()

    @classmethod
    def load(
        cls, priors: Sequence[str], experts: Sequence[str] = (), device: str = "cpu", compile: bool = False
    ) -> Systems:
        """Those that are named, on `device`.

        Args:
            priors: [KIND=]WHERE, see `priors.named.load_prior`.
            experts: shipped names or files of separators.
            compile: compile triple-path networks.

        Raises:
            FileNotFoundError, ValueError: as `load_prior`; two priors of one kind; a prior of no kind of source.
        """
        loaded: dict[str, Prior] = {}
        for spec in priors:
            found = load_prior(spec)
            kind = found.name or "sound"
            if kind not in ("speech", "sound"):
                raise ValueError(f"prior {spec!r} is for {kind!r}; KIND= must be speech or sound")
            if kind in loaded:
                raise ValueError(f"prior {spec!r} is the second one for {kind}; KIND=WHERE says what a prior is for")
            loaded[kind] = found.prior
        trained = [
            separators.load(where) if where in separators.available() else separators.read(where) for where in experts
        ]
        for network in (*loaded.values(), *trained):
            if isinstance(network, nn.Module):
                network.to(device)
            if compile and isinstance(getattr(network, "net", None), TriplePathUNet):
                network.net.compile_core()
        return cls(loaded, trained)

    def method(
        self, name: str, task: str, preset: str = "authors", own: Mapping[str, Setting] | None = None,
        corpus: str = "rendered", device: str = "cpu", precision: str = "float32",
    ) -> Method:  # fmt: skip
        """A method for one task.

        Args:
            name, preset, own: see `setting`.
            corpus: whose clips the dictionaries of NMF are learned from.

        Raises:
            ImportError: NMF without scikit-learn.
            ValueError: a prior or a separator for it is missing.
        """
        kinds = TASKS[task]
        if name == "unprocessed":
            return unprocessed()
        if name in ORACLES:
            return oracle(name.removeprefix("oracle "))
        if name == NMF:
            if "sound" not in kinds:
                raise ValueError(
                    f"'nmf' has one dictionary for all of speech, and tells no two speakers of {task!r} apart"
                )
            return dictionaries(corpus)
        if name in NETWORKS:
            return supervised(name, self._expert(name, task), device)
        if missing := sorted(set(kinds) - set(self.priors)):
            raise ValueError(
                f"{name!r} needs a prior of {' and of '.join(missing)} for {task!r}; KIND=WHERE says what a prior"
                " is for"
            )
        priors = {kind: self.priors[kind] for kind in sorted(set(kinds))}
        how = {"device": device, "precision": canonical(precision)}
        if name in CHOICES:
            return CHOICES[name](name, priors, **how)
        found = setting(name, preset, own)
        if all(isinstance(getattr(prior, "net", None), DiffWave) for prior in priors.values()):
            name = f"diffwave {name}"
        return sampling(name, priors, found.config, found.preset, **how)

    def cost(
        self, name: str, task: str, samples: int, preset: str = "authors", own: Mapping[str, Setting] | None = None
    ) -> tuple[int, float]:
        """Network calls and FLOP of one mixture, all its sources together; networks of no known shape count no FLOP."""

        def work(network: object, kind: str) -> float:
            shape = getattr(getattr(network, "net", None), "config", None)
            return float(budget.flops(shape, samples, kind)) if type(shape) in budget.NETWORKS else 0.0

        if name in NETWORKS:
            return 1, work(self._expert(name, task), "forward")
        if name in CHOICES:
            config = SeparationConfig.recommended()
        elif name in (own or {}) or family(name) in SAMPLERS:
            config = setting(name, preset, own).config
        else:
            return 0, 0.0
        kinds = TASKS[task]
        schedule = getattr(self.priors[kinds[0]], "schedule", None)
        n = config.calls(schedule) if schedule else 0
        return n * len(kinds), n * sum(
            work(self.priors[kind], "guided" if guided(config) else "forward") for kind in kinds
        )

    def _expert(self, name: str, task: str) -> Separator:
        fitting = [s for s in self.separators if type(s.net).__name__ == NETWORKS[name] and s.kinds == TASKS[task]]
        if len(fitting) != 1:
            raise ValueError(
                f"{len(fitting) or 'no'} separators are {name} for {task!r}; give one with --separator, or choose tasks"
                " with --task"
            )
        return fitting[0]


@cache
def dictionaries(corpus: str = "rendered") -> Method:
    """NMF with dictionaries learned from a corpus: 16 spectra for each class of sound, 64 for speech.

    Raises:
        ImportError: there is no scikit-learn.
    """
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(f"NMF comes from scikit-learn: {error}") from error
    from .nmf import Dictionaries, nmf

    def learn() -> Dictionaries:
        recordings: dict[str, list] = {}
        for kind in ("speech", "sound"):
            for clip in data.pocket(kind, "train", corpus=corpus):
                recordings.setdefault("speech" if kind == "speech" else clip.label, []).append(clip.audio)
        return Dictionaries(recordings, {name: 64 if name == "speech" else 16 for name in recordings})

    return nmf(learn, f"64 spectra of speech, 16 of each sound, corpus {data.pocket_hash(corpus)[:8]}")
