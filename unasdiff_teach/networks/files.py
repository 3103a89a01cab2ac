"""Weights in safetensors files whose header says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .._files import replacing


def write_weights(
    path: str | Path, state_dict: Mapping[str, Tensor], network: object, header: dict[str, str], dtype: torch.dtype = torch.float16
) -> None:
    """Write weights and a header as one safetensors file; atomic, and makes the folder.

    Args:
        network: configuration of the network, one of the keys of `budget.NETWORKS`. It tells parameters from the rest.
        dtype: of the parameters, by default float16. What is no parameter, such as the random frequencies of DiffWave,
            stays in float32.
    """
    from safetensors.torch import save_file

    from .budget import NETWORKS

    with torch.device("meta"):
        exact = {name for name, _ in NETWORKS[type(network)](network).named_buffers()}
    weights = {k: v.detach().to("cpu", torch.float32 if k in exact else dtype).contiguous() for k, v in state_dict.items()}
    with replacing(path) as partial:
        save_file(weights, partial, header)


def read_weights(path: str | Path, what: str, format: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights in float32 and header of a file that `write_weights` wrote; runs no code of the file.

    Args:
        what: what the file should hold, for messages: "prior", "separator".
        format: the header's entry "format" that such a file has.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file, or one of another format.
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
    if header.get("format") != format:
        raise ValueError(f"{path} is a safetensors file, but not a {what} of this package")
    return state, header


def fill(net: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Load weights that were read from `path`; ValueError if they do not fit the network."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit its configuration: {error}") from error
