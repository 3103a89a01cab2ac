"""State dicts of other implementations, renamed to this package's networks; every key and shape is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from .triple_path import TriplePathConfig, TriplePathUNet

_LEVELS = {"encoder_level_1": "encoder1", "encoder_level_2": "encoder2", "latent": "latent", "decoder_level_2": "decoder2", "decoder_level_1": "decoder1"}
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


def triple_path_from_authors(state_dict: dict[str, Tensor], heads: int, n_fft: int, hop: int) -> TriplePathUNet:
    """See `TriplePathUNet.from_authors_state_dict`."""
    needed = ("conv_1.weight", "t_embedder_1.mlp.2.weight", "y_embedder_1.embedding_table.weight", "latent.0.fullatt.recov_conv.weight")
    _refuse("missing keys", [key for key in needed if key not in state_dict])
    channels = state_dict["conv_1.weight"].shape[0]
    recover = state_dict["latent.0.fullatt.recov_conv.weight"].shape
    config = TriplePathConfig(
        n_fft=n_fft,
        hop=hop,
        heads=heads,
        channels=channels,
        embedding=state_dict["t_embedder_1.mlp.2.weight"].shape[0],
        depths=tuple(1 + max((int(k.split(".")[1]) for k in state_dict if k.startswith(level + ".")), default=-1) for level in _LEVELS),
        sub_bands=recover[0] // (4 * channels),
        squeezed=recover[1],
        classes=state_dict["y_embedder_1.embedding_table.weight"].shape[0] - 1,
    )
    net = TriplePathUNet(config)
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
            order = [(level, i, path, kind) for i, block in enumerate(getattr(net, level).blocks) for path in _order(block)]
            _refuse("missing adaLN_modulation", [str(o) for o in order if o not in parts])
            own[f"{level}.modulation.{kind}"] = torch.cat([parts[o] for o in order])
    expected = net.state_dict()
    _refuse("missing keys", sorted(expected.keys() - own.keys()))
    _refuse("unknown keys", sorted(own.keys() - expected.keys()))
    for key, value in own.items():
        if value.ndim == 4 and expected[key].ndim == 2:  # a 1x1 convolution is a linear layer over channels
            own[key] = value.flatten(1)
    _refuse("wrong shapes", [f"{k}: {tuple(own[k].shape)} instead of {tuple(expected[k].shape)}" for k in own if own[k].shape != expected[k].shape])
    net.load_state_dict(own)
    return net


def _rename(key: str) -> str | tuple | None:
    """This package's name of an authors' key; (level, block, path, kind) for a path's own modulation; None if unknown."""
    name, _, kind = key.rpartition(".")
    if name in _SINGLE:
        return f"{_SINGLE[name]}.{kind}"
    if match := re.fullmatch(r"t_embedder_(\w+)\.mlp\.([02])", name):
        return f"{_EMBEDDERS[match[1]]}.embed_time.{'enter' if match[2] == '0' else 'leave'}.{kind}" if match[1] in _EMBEDDERS else None
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


def _order(block) -> list[str]:
    return ["fullatt_att", "fullatt_mlp", "freatt", "timeatt"] if block.globally is not None else ["freatt", "timeatt"]


def _refuse(what: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        raise ValueError(f"this state dict does not fit: {what}: {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else ""))
