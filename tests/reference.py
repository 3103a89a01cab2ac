"""The rules by which the reference vectors in tests/data were made."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"


def rng(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype("float32"))


def reference_weights(name, seed=None):
    """A state dict with the keys and shapes of `<name>_keys.json`; by default the weights behind `<name>_io.npz`."""
    seed, state = int(np.load(DATA / f"{name}_io.npz")["seed"]) if seed is None else seed, {}
    for key, shape in json.loads((DATA / f"{name}_keys.json").read_text()).items():
        w = rng((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF, *shape)
        if "rope" in key:  # a rotary table, which is no weight
            state[key] = torch.from_numpy(
                10000.0 ** (-2 * np.arange(shape[0], dtype="float32") / (2 * shape[0]))
            ).float()
        elif key.endswith("gamma"):
            state[key] = 1 + np.float32(0.1) * w
        else:
            state[key] = w * (np.float32(1 / np.sqrt(np.prod(shape[1:]))) if len(shape) > 1 else np.float32(0.1))
    return state
