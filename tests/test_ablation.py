"""The ablation of paths: same data and seed for every subset, and a run that goes on where it stopped."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from unasdiff_teach import data
from unasdiff_teach.training import ablation
from unasdiff_teach.training.ablation import LABELS, LEVELS, SUBSETS, examples, name_of, network, run


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(ablation, "EXAMPLES", 6)
    monkeypatch.setattr(ablation, "SECONDS", 0.25)


def test_all_subsets_of_the_paths_are_there_once():
    names = [name_of(subset) for subset in SUBSETS]
    assert len(set(names)) == len(names) == 8
    assert names[0] == "none" and names[-1] == "global+frame+frequency"


def test_the_networks_differ_in_their_paths_alone():
    assert {network(subset).replace(paths=()) for subset in SUBSETS} == {network(())}


def test_every_class_and_speech_are_drawn():
    _, label = examples("validation")(400, torch.Generator().manual_seed(0))
    assert set(label.tolist()) == set(range(len(LABELS))) and len(LABELS) == 13


def test_a_run_measures_every_subset_on_the_same_examples(tmp_path, short):
    subsets = ((), ("global",), ("frame", "frequency"))
    table = run(tmp_path, steps=2, subsets=subsets, progress=False)
    assert list(table["paths"].unique()) == ["none", "global", "frame+frequency"]
    assert len(table) == 3 * 6 * len(LEVELS) and table["error_db"].notna().all()
    by_subset = [
        part.drop(columns=["paths", "parameters", "train_loss", "error_db"]).reset_index(drop=True)
        for _, part in table.groupby("paths")
    ]
    assert all(part.equals(by_subset[0]) for part in by_subset)
    assert (table["corpus"] == data.pocket_hash()).all() and (table["steps"] == 2).all()
    parameters = table.groupby("paths")["parameters"].first()
    assert parameters["none"] < parameters["global"] < parameters["frame+frequency"]


def test_a_second_run_trains_nothing_and_gives_the_same(tmp_path, short, monkeypatch):
    first = run(tmp_path, steps=2, subsets=(("frame",),), progress=False)
    monkeypatch.setattr(ablation.PriorTrainer, "_train_step", lambda self: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run(tmp_path, steps=2, subsets=(("frame",),), progress=False), first)


def test_the_error_is_that_of_the_averaged_weights(tmp_path, short):
    """With an idle network the estimate is the preconditioning's, which no training step is needed to know."""
    prior = ablation.trainer(("frame",), tmp_path, 1, 0, examples("validation")).prior
    torch.nn.init.zeros_(prior.net.head.out.weight)
    x0, label = (
        0.13 * torch.randn(4, 2000, generator=torch.Generator().manual_seed(1)),
        torch.zeros(4, dtype=torch.long),
    )
    table = ablation.errors(prior, x0, label, seed=0)
    for t in LEVELS:
        alpha_bar = float(prior.schedule.alpha_bar[t])
        wiener = (1 - alpha_bar) / (alpha_bar * 0.13**2 + 1 - alpha_bar)
        assert table[table["t"] == t]["error_db"].mean() == pytest.approx(
            10 * torch.tensor(wiener).log10().item(), abs=0.3
        )
