"""Models in safetensors files whose header says what they are: a configuration that builds them, a card, and
weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from .._files import replacing

FORMAT = "unasdiff_teach {} 1"


def write_model(
    path: str | Path,
    what: str,
    state_dict: Mapping[str, Tensor],
    config: object,
    card: dict,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model as one safetensors file; atomic, and makes the folder.

    Args:
        what: it is: "prior", "separator".
        state_dict: of its network.
        config: what rebuilds it, a dataclass whose `network` is one of the keys of `budget.NETWORKS`.
        dtype: of the parameters, by default float16. What is no parameter, such as the random frequencies of DiffWave,
            stays in float32.
    """
    from safetensors.torch import save_file

    from .budget import NETWORKS

    with torch.device("meta"):
        exact = {name for name, _ in NETWORKS[type(config.network)](config.network).named_buffers()}
    weights = {
        k: v.detach().to("cpu", torch.float32 if k in exact else dtype).contiguous() for k, v in state_dict.items()
    }
    header = {
        "format": FORMAT.format(what), "network": type(config.network).__name__, "config": json.dumps(asdict(config)),
        "card": json.dumps(card),
    }  # fmt: skip
    with replacing(path) as partial:
        save_file(weights, partial, header)


def read_model(path: str | Path, what: str, config: type, networks: Sequence[type]) -> nn.Module:
    """The model that `write_model` wrote, frozen, its weights in float32; runs no code of the file.

    Args:
        what: the file should hold.
        config: type of its configuration, whose `build(card=...)` makes the model around a new network, `net`.
        networks: types of the network's configuration that such a model may have; the first is that of files which do
            not say.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file, not such a model, or its weights do not fit its configuration.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if header.get("format") != FORMAT.format(what):
        raise ValueError(f"{path} is a safetensors file, but not a {what} of this package")
    known = {network.__name__: network for network in networks}
    if (kind := header.get("network", networks[0].__name__)) not in known:
        raise ValueError(f"{path} wants a network {kind!r}; known are {', '.join(known)}")
    values = json.loads(header["config"])
    model = config(**values | {"network": known[kind](**values["network"])}).build(card=json.loads(header["card"]))
    try:
        model.net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit its configuration: {error}") from error
    return model.eval().requires_grad_(False)
