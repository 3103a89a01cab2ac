"""The priors that come with the package."""

from __future__ import annotations

from pathlib import Path

from .neural import NeuralPrior, read

WEIGHTS = Path(__file__).parent / "weights"
# corpus -> first word of the names of the priors trained on it
FAMILIES = {"rendered": "pocket", "recorded": "recorded"}


def available() -> list[str]:
    """Names of the shipped priors."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load(name: str) -> NeuralPrior:
    """A shipped prior, ready to separate with; each call reads its file.

    "pocket-speech" and "pocket-sound" are the two of the book, "recorded-speech" and "recorded-sound" those of real
    speakers and real sounds. "pocket-joint", from which the first two were trained on, knows the classes of both;
    "pocket-diffwave-speech" is the DiffWave of the pocket form of Table 3. `available` says which are there.

    Raises:
        ValueError: no prior of this name is shipped.
    """
    if name not in available():
        raise ValueError(f"no shipped prior is called {name!r}; there are {', '.join(available()) or 'none'}")
    return read(WEIGHTS / f"{name}.safetensors")
