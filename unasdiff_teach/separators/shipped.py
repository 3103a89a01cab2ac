"""The separators that come with the package."""

from __future__ import annotations

from pathlib import Path

from .separator import Separator, read

WEIGHTS = Path(__file__).parent / "weights"


def available() -> list[str]:
    """Names of the shipped separators."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load(name: str) -> Separator:
    """A shipped separator, ready to use: "pocket-conv-tasnet-speech-sound", "pocket-tf-locoformer-sound-sound" and so
    on.

    Raises:
        ValueError: no separator of this name is shipped.
    """
    if name not in available():
        raise ValueError(f"no shipped separator is called {name!r}; there are {', '.join(available()) or 'none'}")
    return read(WEIGHTS / f"{name}.safetensors")
