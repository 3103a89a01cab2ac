"""The sounds of the welcome page are the mixture and the sources of the fixed test list that it speaks of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import unasdiff_teach as ut

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
INDEX = 15  # a heard voice and a chime that overlap for most of the two seconds


@pytest.mark.parametrize("name", ["mixture", "speech", "chime"])
def test_sound_of_the_welcome_page(name):
    mixture = ut.data.mixtures(split="test")[INDEX]
    assert mixture.labels == (None, "Chime")
    wanted = {"mixture": mixture.mixture, "speech": mixture.sources[0], "chime": mixture.sources[1]}[name]
    stored, rate = ut.data.read(STATIC / f"welcome_{name}.flac")
    assert rate == mixture.sample_rate
    assert torch.allclose(stored, wanted, atol=2**-15), (
        f"rewrite welcome_{name}.flac with ut.data.write: the list has changed"
    )
