"""Ways to separate, in the form that `evaluate` takes."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from numbers import Real
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..analytical import AnalyticalConfig, separate_analytical
from ..diffusion import Prior
from ..dirac import DiracConfig, separate_dirac
from ..metrics import best_permutation
from ..precision import autocast, canonical
from ..schedule import NoiseSchedule
from ..separation import SeparationConfig, separate
from ..separators import Separator
from .masks import HOP, N_FFT, oracle_mask

if TYPE_CHECKING:
    from ..data.mixing import Mixture

NAMES = (type, ModuleType, FunctionType, BuiltinFunctionType)  # global, they are told apart by their names
CHANGES_NOTHING = ("card", "training")  # attributes of a network that say how it was made, and its mode


@dataclass(frozen=True)
class Method:
    """A way to separate, under the name that the tables show.

    Attributes:
        name: "hybrid", "dps" and so on; `paper_table` lists the names of the paper's methods.
        separate: (mixtures, noise_seeds) -> (estimates [B, K, N], network evaluations for each source). The B mixtures
            agree in kinds, K, N and sample rate; noise_seeds [B] are integers in 0..2^32 - 1. A mixture's estimates
            must not depend on the others in its batch.
        preset: of the configuration: "authors", "paper", "short", "recommended", or "".
        settings: everything else that changes the numbers, in words; a run refuses to mix results of two settings.
    """

    name: str
    separate: Callable[[list[Mixture], list[int]], tuple[Tensor, int]]
    preset: str = ""
    settings: str = ""


def sampling(
    name: str,
    priors: Mapping[str, Prior],
    config: SeparationConfig | AnalyticalConfig | DiracConfig,
    preset: str = "",
    schedule: NoiseSchedule | None = None,
    device: str | torch.device = "cpu",
    precision: str = "float32",
) -> Method:
    """Diffusion sampling as a method: `separate`, `separate_analytical` or `separate_dirac`, as the type of `config`
    says.

    Args:
        name, preset: see `Method`.
        priors: for each kind of source, "speech" and "sound", its prior, on `device`. Its labels are those of the
            mixture.
        config, schedule: see `separate`.
        device: where to separate.
        precision: of the networks' products; with "bfloat16" norms, transforms and states stay in float32.
    """

    precision = canonical(precision)

    @autocast(device, precision)
    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        sampler = {SeparationConfig: separate, AnalyticalConfig: separate_analytical, DiracConfig: separate_dirac}[
            type(config)
        ]
        result = sampler(
            torch.stack([m.mixture for m in mixtures]).to(device),
            [priors[kind] for kind in mixtures[0].kinds],
            [list(m.labels) for m in mixtures],
            schedule,
            config,
            noise=seeds,
            sample_rate=mixtures[0].sample_rate,
        )
        return result.sources, result.calls

    settings = [described(config), *(f"{kind} prior {fingerprint(prior)}" for kind, prior in sorted(priors.items()))]
    if schedule is not None:
        settings.append(_words(schedule))
    if precision != "float32":
        settings.append(f"products in {precision}")
    return Method(name, run, preset, ", ".join(settings))


def supervised(name: str, separator: Separator, device: str | torch.device = "cpu") -> Method:
    """A trained separator as a method, for mixtures of its kinds in its order.

    Permutation-invariant training leaves open which output is which source of one kind; they are put in the order that
    scores best, as for all supervised systems.

    Args:
        name: see `Method`.
        separator: on `device`.
    """

    @torch.no_grad()
    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        first = mixtures[0]
        if first.kinds != separator.kinds or first.sample_rate != separator.sample_rate:
            raise ValueError(
                f"{first.id!r} has {first.kinds} at {first.sample_rate} Hz; {name!r} separates {separator.kinds} "
                f"at {separator.sample_rate} Hz"
            )
        estimates = separator(torch.stack([m.mixture for m in mixtures]).to(device))
        index, _ = best_permutation(
            estimates, torch.stack([m.sources for m in mixtures]).to(device), "kind", separator.kinds
        )
        return estimates.take_along_dim(index[..., None], 1), 1

    return Method(name, run, settings=f"separator {fingerprint(separator)}, best order within a kind")


def unprocessed() -> Method:
    """The mixture itself as the estimate of each source: the first row of the paper's Table 2."""
    return Method(
        "unprocessed", lambda mixtures, seeds: (torch.stack([m.mixture.expand_as(m.sources) for m in mixtures]), 0)
    )


def oracle(kind: str = "ratio") -> Method:
    """An oracle mask as a method, named "oracle ratio" and so on; see `oracle_mask`."""

    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        sources = torch.stack([m.sources for m in mixtures])
        return oracle_mask(torch.stack([m.mixture for m in mixtures]), sources, kind), 0

    return Method(f"oracle {kind}", run, settings=f"n_fft={N_FFT}, hop={HOP}")


def described(config: SeparationConfig | AnalyticalConfig | DiracConfig) -> str:
    """A configuration as it prints itself, but for what would print its place in memory, such as a loss that is a
    function: its fingerprint.
    """
    shown = str(config)
    for value in _parts(config).values():
        if " at 0x" in repr(value):
            shown = shown.replace(repr(value), fingerprint(value))
    return shown


def fingerprint(model: Prior | nn.Module) -> str:
    """What tells two priors or separators apart, in words: results of one are not results of the other.

    Args:
        model: a network behind the `Prior` interface, a `Separator`, a prior in closed form, or any other callable.

    Returns:
        A checksum of a network's weights, or the name of any other type; then in brackets what else changes its
        numbers: attributes (class guidance, target, sample rate, schedule, the parameters of a closed form), tables as
        checksums, and a checksum of the network's configuration. Of a network only public attributes count; of a
        function its code, its defaults, what it encloses, and the global values that it reads.
    """
    return _fingerprint(model, ())


def _fingerprint(model: object, above: tuple[int, ...]) -> str:
    """`above` are the objects that hold this one: some hold each other."""
    facts = {key: value for key, value in _parts(model).items() if key not in CHANGES_NOTHING}
    name = getattr(model, "__qualname__", type(model).__name__)
    if isinstance(model, nn.Module):
        name = _crc(*model.state_dict().values())
        if config := getattr(getattr(model, "net", None), "config", None):
            facts["network"] = config
    if id(model) in above:
        return name
    words = ", ".join(f"{key}={_words(value, (*above, id(model)))}" for key, value in sorted(facts.items()))
    return f"{name} ({words})" if words else name


def _parts(model: object) -> Mapping[str, object]:
    """What an object is made of."""
    if isinstance(model, type | ModuleType):
        return {}
    if isinstance(model, nn.Module):  # the private ones are torch's
        return {key: value for key, value in vars(model).items() if not key.startswith("_")}
    if isinstance(model, FunctionType):
        known = model.__globals__
        read = {key: known[key] for key in _global_names(model.__code__) if key in known}
        values = {key: value for key, value in read.items() if not isinstance(value, NAMES)}
        made = {"code": model.__code__, "defaults": (model.__defaults__, model.__kwdefaults__)}
        return vars(model) | made | {"reads": inspect.getclosurevars(model).nonlocals | values}
    if isinstance(model, MethodType):
        return {"function": model.__func__, "self": model.__self__}
    if isinstance(model, partial):
        return vars(model) | {"function": model.func, "arguments": model.args, "keywords": model.keywords}
    state = object.__getstate__(model) or {}  # with slots a pair
    own, slots = state if isinstance(state, tuple) else (state, {})
    # A private mapping is a cache, which fills while a prior is used.
    return {
        key: value
        for key, value in ((own or {}) | slots).items()
        if not (key.startswith("_") and isinstance(value, Mapping))
    }


def _global_names(code: CodeType) -> set[str]:
    """What code may read of its module, that of functions and comprehensions within it as well."""
    inner = (_global_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _words(value: object, above: tuple[int, ...] = ()) -> str:
    """An attribute in words: the same for the same value, whatever its numeric type or device."""
    if value is None or isinstance(value, bool | str | complex):
        return repr(value)
    if isinstance(value, Real):
        return f"{float(value):.9g}"
    if isinstance(value, Tensor | np.ndarray):
        value = torch.as_tensor(value).detach().cpu()
        return f"{list(value.shape)} {_crc(value.double())}"
    if isinstance(value, NoiseSchedule):
        return f"{len(value)} steps {_crc(value.alpha_bar, value.timesteps)} of {value.T_train}"
    if isinstance(value, CodeType):
        value = [value.co_code, value.co_names, *value.co_consts]
    if isinstance(value, Mapping):
        value = sorted((str(key), _words(entry, above)) for key, entry in value.items())
    if isinstance(value, Set):
        value = sorted(_words(entry, above) for entry in value)
    if isinstance(value, Sequence):
        words = ", ".join(_words(entry, above) for entry in value)
        return f"{len(value)} x {zlib.crc32(words.encode()):08x}" if value else "none"
    if is_dataclass(value):
        # Only what is not at its default, so that a new field does not make all stored results foreign.
        changed = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
        return f"{type(value).__name__} {zlib.crc32(_words(changed, above).encode()):08x}"
    return _fingerprint(value, above)


def _crc(*values: Tensor) -> str:
    checksum = 0
    for value in values:
        checksum = zlib.crc32(value.detach().cpu().flatten().view(torch.uint8).numpy(), checksum)
    return f"{checksum:08x}"
