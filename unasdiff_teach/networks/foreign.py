"""Checkpoints and state dicts of other implementations: the sizes that their shapes tell, and their weights renamed and
loaded into this package's networks, which import this module; every key and shape is checked.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from .._files import file_hash

_LEVELS = {
    "encoder_level_1": "encoder1",
    "encoder_level_2": "encoder2",
    "latent": "latent",
    "decoder_level_2": "decoder2",
    "decoder_level_1": "decoder1",
}
_EMBEDDERS = {"1": "encoder1", "2": "encoder2", "3": "latent", "4": "decoder2", "5": "decoder1", "out": "head"}
_PATHS = {"freatt": "frame", "timeatt": "frequency", "fullatt": "globally"}
_LAYERS = {
    "sup_conv": "pre", "attn.to_qkv": "attention.qkv", "attn.to_out": "attention.out", "mlp.fc1": "ffn.enter",
    "mlp.fc2": "ffn.leave", "recov_conv": "recover",
}  # fmt: skip
_SINGLE = {
    "conv_1": "stem", "down1_2.body": "down1", "down2_3.body": "down2", "up3_2.body": "up2", "up2_1.body": "up1",
    "reduce_chan_level2": "merge2", "reduce_chan_level1": "merge1", "out_conv": "head.smooth",
    "final_layer.out_proj": "head.out", "final_layer.adaLN_modulation.1": "head.modulation",
}  # fmt: skip


def authors_sizes(state_dict: dict[str, Tensor]) -> dict:
    """The sizes of a `TriplePathConfig` that a state dict of the released code has.

    Raises:
        ValueError: a key that tells a size is missing.
    """
    needed = (
        "conv_1.weight",
        "t_embedder_1.mlp.2.weight",
        "y_embedder_1.embedding_table.weight",
        "latent.0.fullatt.recov_conv.weight",
    )
    _refuse("missing keys", [key for key in needed if key not in state_dict])
    channels = state_dict["conv_1.weight"].shape[0]
    recover = state_dict["latent.0.fullatt.recov_conv.weight"].shape
    return {
        "channels": channels,
        "embedding": state_dict["t_embedder_1.mlp.2.weight"].shape[0],
        "depths": tuple(
            1 + max((int(k.split(".")[1]) for k in state_dict if k.startswith(level + ".")), default=-1)
            for level in _LEVELS
        ),
        "sub_bands": recover[0] // (4 * channels),
        "squeezed": recover[1],
        "classes": state_dict["y_embedder_1.embedding_table.weight"].shape[0] - 1,
    }


def load_authors(net: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Load a state dict of the released code into a `TriplePathUNet`.

    Raises:
        ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
    """
    own, parts, unknown = {}, {}, []
    for key, value in state_dict.items():
        new = _rename(key)
        if new is None:
            unknown.append(key)
        elif isinstance(new, tuple):
            parts[new] = value
        else:
            own[new] = value
    _refuse("unknown keys", unknown)
    # One modulation matrix serves a whole level here; the authors keep one for each path.
    for level in _LEVELS.values():
        for kind in ("weight", "bias"):
            order = [
                (level, i, path, kind) for i, block in enumerate(getattr(net, level).blocks) for path in _order(block)
            ]
            _refuse("missing adaLN_modulation", [str(o) for o in order if o not in parts])
            own[f"{level}.modulation.{kind}"] = torch.cat([parts[o] for o in order])
    for key, value in net.state_dict().items():
        if value.ndim == 2 and key in own and own[key].ndim == 4:  # a 1x1 convolution is a linear layer over channels
            own[key] = own[key].flatten(1)
    load_renamed(net, own, str)


def _rename(key: str) -> str | tuple | None:
    """This package's name of an authors' key; (level, block, path, kind) for a path's own modulation; None if
    unknown.
    """
    name, _, kind = key.rpartition(".")
    if name in _SINGLE:
        return f"{_SINGLE[name]}.{kind}"
    if match := re.fullmatch(r"t_embedder_(\w+)\.mlp\.([02])", name):
        return (
            f"{_EMBEDDERS[match[1]]}.embed_time.{'enter' if match[2] == '0' else 'leave'}.{kind}"
            if match[1] in _EMBEDDERS
            else None
        )
    if match := re.fullmatch(r"y_embedder_(\d)\.embedding_table", name):
        return f"{_EMBEDDERS[match[1]]}.embed_label.{kind}" if match[1] in _EMBEDDERS else None
    if match := re.fullmatch(r"(\w+)\.(\d+)\.(freatt|timeatt|fullatt)\.(.+)", name):
        level, block, path, layer = match.groups()
        if level not in _LEVELS:
            return None
        if layer.startswith("adaLN_modulation"):
            return _LEVELS[level], int(block), path + layer.removeprefix("adaLN_modulation").removesuffix(".1"), kind
        if path == "fullatt" and layer == "sup_conv":
            return f"{_LEVELS[level]}.blocks.{block}.globally.squeeze.{kind}"
        return f"{_LEVELS[level]}.blocks.{block}.{_PATHS[path]}.{_LAYERS[layer]}.{kind}" if layer in _LAYERS else None
    return None


def _order(block: nn.Module) -> list[str]:
    return ["fullatt_att", "fullatt_mlp", "freatt", "timeatt"] if block.globally is not None else ["freatt", "timeatt"]


_DIFFWAVE = {
    "enter": "input_projection", "embed.frequencies": "diffusion_embedding.rff.gaussian",
    "embed.enter": "diffusion_embedding.proj1", "embed.leave": "diffusion_embedding.proj2", "merge": "skip_projection",
    "leave": "output_projection",
}  # fmt: skip
_RESIDUAL = {
    "embed": "diffusion_projection", "dilated": "dilated_conv", "out": "output_projection",
    "squeeze": "se_skip.excitation.0", "excite": "se_skip.excitation.2",
}  # fmt: skip


def undiff_sizes(state_dict: dict[str, Tensor]) -> dict:
    """The sizes of a `DiffWaveConfig` that a state dict of UnDiff's DiffWave has.

    Raises:
        ValueError: a key that tells a size is missing, or has an unexpected shape.
    """
    first = "residual_layers.0."
    needed = [f"{first}{name}.weight" for name in ("dilated_conv", "diffusion_projection", "se_skip.excitation.0")]
    needed.append("diffusion_embedding.rff.gaussian")
    _refuse("missing keys", [key for key in needed if key not in state_dict])
    shapes = (_shape(state_dict, key, axes) for key, axes in zip(needed, (3, 2, 2, 2), strict=True))
    (_, channels, kernel), (_, embedding), (narrow, _), (_, features) = shapes
    return {
        "layers": _count(state_dict, "residual_layers"),
        "channels": channels,
        "kernel": kernel,
        "embedding": embedding,
        "features": features,
        "reduction": channels // narrow,
    }


def undiff_name(key: str) -> str:
    """UnDiff's name of a key of `DiffWave`."""
    if match := re.fullmatch(r"layers\.(\d+)\.(\w+)\.(\w+)", key):
        return f"residual_layers.{match[1]}.{_RESIDUAL[match[2]]}.{match[3]}"
    if key in _DIFFWAVE:
        return _DIFFWAVE[key]
    name, _, kind = key.rpartition(".")
    return f"{_DIFFWAVE[name]}.{kind}"


# The feed-forward layer before the attention has index 1 in the published code, the one after it index 0.
_AXIAL = {
    "norm_before.gamma": "ffn_norm.1.gamma", "before.enter": "ffn.1.conv1d", "before.leave": "ffn.1.deconv1d",
    "norm_after.gamma": "ffn_norm.0.gamma", "after.enter": "ffn.0.conv1d", "after.leave": "ffn.0.deconv1d",
    "norm_attention.gamma": "attn_norm.gamma", "attention.qkv": "attn.qkv", "attention.out": "attn.aggregate_heads.0",
}  # fmt: skip
_STEM = {"stem": "conv.0", "norm": "conv.1", "head": "deconv"}


def espnet_sizes(state_dict: dict[str, Tensor]) -> dict:
    """The sizes of a `TFLoCoformerConfig` that a state dict of the published ESPnet code has.

    Raises:
        ValueError: a key that tells a size is missing, or has an unexpected shape.
    """
    needed = (
        "blocks.0.freq_path.ffn.0.conv1d.weight",
        "blocks.0.freq_path.attn.aggregate_heads.0.weight",
        "deconv.bias",
    )
    _refuse("missing keys", [key for key in needed if key not in state_dict])
    shapes = (_shape(state_dict, key, axes) for key, axes in zip(needed, (3, 2, 1), strict=True))
    (twice, channels, kernel), (_, attention), (outputs,) = shapes
    return {
        "sources": outputs // 2,
        "blocks": _count(state_dict, "blocks"),
        "channels": channels,
        "hidden": twice // 2,
        "kernel": kernel,
        "attention": attention,
    }


def load_espnet(net: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Load a state dict of the published ESPnet code into a `TFLoCoformer`.

    Raises:
        ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
    """
    # One rotary table serves each axis; the published code lists it again in every block.
    state_dict = dict(state_dict)
    for axis in ("freq", "frame"):
        first, *others = (f"blocks.{i}.{axis}_path.attn.rope.freqs" for i in range(net.config.blocks))
        _refuse("missing keys", [key for key in (first, *others) if key not in state_dict])
        _refuse(
            "rotary tables that differ from block 0",
            [key for key in others if not torch.equal(state_dict[key], state_dict[first])],
        )
        for key in others:
            del state_dict[key]
    load_renamed(net, state_dict, espnet_name)


def espnet_name(key: str) -> str:
    """ESPnet's name of a key of `TFLoCoformer`."""
    if match := re.fullmatch(r"rotary_(frequency|frame)", key):
        return f"blocks.0.{'freq' if match[1] == 'frequency' else 'frame'}_path.attn.rope.freqs"
    if match := re.fullmatch(r"blocks\.(\d+)\.(frequency|frame)\.(.+)", key):
        name, _, kind = match[3].rpartition(".")
        layer = _AXIAL[match[3]] if match[3] in _AXIAL else f"{_AXIAL[name]}.{kind}"
        return f"blocks.{match[1]}.{'freq' if match[2] == 'frequency' else 'frame'}_path.{layer}"
    name, _, kind = key.rpartition(".")
    return f"{_STEM[name]}.{kind}"


def read_espnet_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, int], int | None]:
    """What an ESPnet checkpoint of a TF-LoCoformer and the `config.yaml` beside it hold.

    Returns:
        Its state dict, the settings of `TFLoCoformer.from_espnet_state_dict` that the file beside it states, and the
        sample rate that it states.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file.
    """
    content = read_checkpoint(path)
    state = {key.removeprefix("separator."): value for key, value in state_dict_of(content, path).items()}
    config = path.with_name("config.yaml")
    beside = config.read_text(encoding="utf-8") if config.is_file() else ""
    stated = {
        name: int(match[1])
        for name, key in (("heads", "n_heads"), ("groups", "num_groups"), ("n_fft", "n_fft"), ("hop", "hop_length"))
        if (match := re.search(rf"^ +{key}: (\d+)$", beside, re.M))
    }
    rate = re.search(r"^sample_rate: (\d+)$", beside, re.M)
    return state, stated, int(rate[1]) if rate else None


class _StandIn:
    """What stands for every object that a checkpoint would have rebuilt by code of its own: an empty one."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, _: object):
        pass


def read_checkpoint(path: str | Path) -> object:
    """What a file of `torch.save` holds, on the CPU. Tensors and plain values are read, nothing of the file's own is
    run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or one that only its own code could read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        foreign = get_unsafe_globals_in_checkpoint(path)
        with safe_globals([(_StandIn, name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, ValueError, RuntimeError, EOFError, TypeError) as error:
        raise ValueError(f"{path} is not a checkpoint that can be read without running code of it: {error}") from error


def state_dict_of(content: object, what: str | Path) -> dict[str, Tensor]:
    """`content` as a state dict.

    Raises:
        ValueError: it is none; `what` names it in the message.
    """
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{what} holds a {type(content).__name__} instead of a state dict")
    _refuse(
        f"entries of {what} that are no tensors",
        [str(key) for key, value in content.items() if not isinstance(value, Tensor)],
    )
    return content


def describe(path: Path, net: nn.Module) -> dict:
    """What every card of a foreign checkpoint begins with."""
    return {"file": path.name, "sha256": file_hash(path), "parameters": sum(p.numel() for p in net.parameters())}


def load_renamed(net: nn.Module, state_dict: dict[str, Tensor], foreign_name: Callable[[str], str]) -> None:
    """Load a foreign state dict into `net`, whose keys `foreign_name` translates; messages use the foreign names.

    Raises:
        ValueError: a key is missing, unknown, or has an unexpected shape; the message names it.
    """
    expected = {foreign_name(key): (key, value) for key, value in net.state_dict().items()}
    _refuse("missing keys", sorted(expected.keys() - state_dict.keys()))
    _refuse("unknown keys", sorted(state_dict.keys() - expected.keys()))
    wrong = [key for key, (_, own) in expected.items() if own.shape != state_dict[key].shape]
    _refuse(
        "wrong shapes", [f"{k}: {tuple(state_dict[k].shape)} instead of {tuple(expected[k][1].shape)}" for k in wrong]
    )
    net.load_state_dict({own: state_dict[key] for key, (own, _) in expected.items()})


def _count(state_dict: dict[str, Tensor], level: str) -> int:
    """How many items of a list of modules the keys name."""
    return 1 + max(int(match[1]) for key in state_dict if (match := re.match(rf"{level}\.(\d+)\.", key)))


def _shape(state_dict: dict[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    shape = tuple(state_dict[key].shape)
    _refuse("wrong shapes", [f"{key}: {shape} instead of {axes} axes"] if len(shape) != axes else [])
    return shape


def _refuse(what: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        raise ValueError(
            f"this state dict does not fit: {what}: {', '.join(names[:8])}"
            + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        )
