"""One meaning of a recipe: whatever command trains by it, the same seed gives the same weights."""

from __future__ import annotations

import sys

import pytest
from safetensors.torch import load_file

from unasdiff_teach.training import pocket
from unasdiff_teach.training.plan import plan


@pytest.mark.slow
def test_the_priors_made_alone_and_in_a_reproduction_are_the_same(tmp_path, monkeypatch):
    """`make priors` and `reproduce --scale pocket`, in one step of two examples a stage; the branch starts from the
    joint stage.
    """
    stages = ("joint", "speech")
    monkeypatch.setattr(pocket, "WEIGHTS", tmp_path / "made")
    monkeypatch.setattr(pocket, "BATCH", dict.fromkeys(pocket.STAGES, 2))
    monkeypatch.setattr(pocket, "SECONDS", dict.fromkeys(pocket.STAGES, 0.25))
    monkeypatch.setattr(sys, "argv", ["pocket", *stages, "--steps", "1", "--folder", str(tmp_path / "states")])
    pocket.main()
    for training in plan("pocket", steps=1):
        if training.name in stages:
            training.run(tmp_path / "reproduced")
    for stage in stages:
        made, reproduced = (
            load_file(tmp_path / "made" / f"pocket-{stage}.safetensors"),
            load_file(tmp_path / "reproduced" / f"{stage}.safetensors"),
        )
        assert made.keys() == reproduced.keys() and all(made[key].equal(reproduced[key]) for key in made)
