"""Priors that others published, read without running any code of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .._checks import one_of
from ..data._classes import FSDKAGGLE2018
from ..networks import DiffWave, TriplePathUNet
from ..networks.foreign import describe, read_checkpoint, state_dict_of, undiff_name
from ..schedule import NoiseSchedule
from .neural import NeuralPrior


def from_authors_checkpoint(
    path: str | Path, weights: Literal["ema", "model"] = "ema", heads: int = 4, n_fft: int = 510, hop: int = 255
) -> NeuralPrior:
    """A prior of the paper's authors, ready to separate with: 16 kHz, 200 steps, the network told the scaled time.

    Args:
        path: their file, which holds the state dicts "model" and "ema".
        weights: which of the two; their scripts take "ema" (difference 16 of "paper versus code").
        heads, n_fft, hop: what no shape in the file tells; the defaults are those of the published priors.

    Returns:
        A frozen prior on the CPU. With one class (speech) it has no labels. With 50 its labels are the 41 classes of
        their sound prior and nine rows never trained, and an integer is accepted as well as a name. `card` says what
        it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or its weights do not fit the paper's network; the message names the difference.
    """
    one_of("weights", weights, ("ema", "model"))
    path = Path(path)
    content = read_checkpoint(path)
    if not isinstance(content, dict) or weights not in content:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path} has no entry {weights!r}, as the authors' checkpoints have; it has {found}")
    state = state_dict_of(content[weights], f"{weights!r} of {path}")
    net = TriplePathUNet.from_authors_state_dict(state, heads, n_fft, hop)
    classes = net.config.classes
    # of the 50 rows of their label table these were trained
    names = FSDKAGGLE2018 if classes == 50 else ()
    labels = () if classes == 1 else names + tuple(f"row {i}" for i in range(len(names), classes))
    card = describe(path, net) | {
        "network": "triple-path U-Net (Shi et al. 2025), a checkpoint of the paper's authors",
        "weights": weights, "classes": classes, "trained classes": len(names) or classes, "sample_rate": 16000,
    }  # fmt: skip
    return NeuralPrior(net, NoiseSchedule.linear(), 16000, labels, card=card).eval().requires_grad_(False)


def from_undiff_checkpoint(
    path: str | Path, weights: Literal["model", "ema"] = "model", dilation_cycle: int = 12
) -> NeuralPrior:
    """UnDiff's speech prior, the large DiffWave of Table 3: 16 kHz, 200 steps, the network told beta_t, no classes.

    Args:
        path: their file (PyTorch Lightning: "state_dict", and "ema_params" in the order of the parameters), or a bare
            state dict.
        weights: their configuration takes "model".
        dilation_cycle: see `DiffWaveConfig`.

    Returns:
        A frozen prior on the CPU; `card` says what it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or its weights do not fit a DiffWave; the message names the difference.
    """
    one_of("weights", weights, ("ema", "model"))
    path = Path(path)
    content = read_checkpoint(path)
    lightning = isinstance(content, dict) and "state_dict" in content
    state = state_dict_of(content["state_dict"] if lightning else content, path)
    # Lightning puts the name of the attribute that holds the network before each key.
    first = next((key for key in state if key.endswith("input_projection.weight")), "input_projection.weight")
    prefix = first.removesuffix("input_projection.weight")
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    net = DiffWave.from_undiff_state_dict(state, dilation_cycle)
    if weights == "ema":
        _load_averages(net, content.get("ema_params") if lightning else None, state, path)
    card = describe(path, net) | {
        "network": "DiffWave, a checkpoint of UnDiff (Iashchenko et al. 2023)", "weights": weights,
        "sample_rate": 16000,
    }  # fmt: skip
    return NeuralPrior(net, NoiseSchedule.linear(), 16000, condition="beta", card=card).eval().requires_grad_(False)


def _load_averages(net: DiffWave, averages: object, state: dict, path: Path) -> None:
    """Replace the parameters by UnDiff's averages, a list in the order in which its own state dict lists the
    parameters.
    """
    averages = averages[0] if isinstance(averages, list | tuple) and averages else None
    own = {undiff_name(key): parameter for key, parameter in net.named_parameters()}
    names = [key for key in state if key in own]
    if not isinstance(averages, list | tuple) or len(averages) != len(names):
        found = f"{len(averages)} tensors" if isinstance(averages, list | tuple) else "none"
        raise ValueError(f"{path} should have {len(names)} averaged tensors in 'ema_params'; it has {found}")
    for name, average in zip(names, averages, strict=True):
        if average.shape != own[name].shape:
            raise ValueError(
                f"{path}: the average of {name} has shape {tuple(average.shape)} instead of {tuple(own[name].shape)}"
            )
        own[name].data.copy_(average)
