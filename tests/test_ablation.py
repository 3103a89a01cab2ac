"""The ablation of paths: same data and seeds for every network, controls that lack attention alone, and a run that goes
on where it stopped.
"""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from unasdiff_teach import data
from unasdiff_teach.networks import TriplePathUNet
from unasdiff_teach.networks.triple_path import AxialPath, GlobalPath
from unasdiff_teach.training import ablation
from unasdiff_teach.training.ablation import CONTROLS, LABELS, LEVELS, PATHS, SUBSETS, examples, name_of, network, run


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


def test_a_control_lacks_attention_alone():
    assert set(CONTROLS) <= set(SUBSETS) and CONTROLS[-1] == PATHS
    for subset in CONTROLS:
        assert network(subset, attention=False).replace(attention=True) == network(subset)
        whole, control = (
            {name: p.shape for name, p in TriplePathUNet(network(subset, attention)).named_parameters()}
            for attention in (True, False)
        )
        assert control == {name: shape for name, shape in whole.items() if ".attention." not in name} != whole
    assert name_of(("frame",), attention=False) == "frame without attention"


def sees(module, x, where, *modulation):
    """Positions of x [1, F, T, C] on which the output at one position depends, [F, T]."""
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(module(x, *modulation)[0, *where].square().sum(), x)
    return gradient[0].abs().sum(-1) > 0


def test_without_attention_no_position_of_an_axial_path_sees_another_and_no_frame_of_the_global_path():
    torch.manual_seed(0)
    x, where, modulation = torch.randn(1, 8, 6, 16), (3, 2), torch.randn(1, 1, 1, 96)
    alone = torch.zeros(8, 6, dtype=torch.bool)
    alone[where] = True
    assert sees(AxialPath(16, 2, "time", attention=False), x, where, modulation).equal(alone)
    assert sees(AxialPath(16, 2, "time"), x, where, modulation)[3].all()

    def frames(attention):
        config = network(PATHS, attention)
        path = GlobalPath(config, 16, 8)
        given = [torch.randn(1, 1, 1, size) for size in path.modulation_sizes]
        return sees(path, x, where, *given).any(0)

    assert frames(True).all() and frames(False).equal(alone.any(0))


def test_every_class_and_speech_are_drawn():
    _, label = examples("validation")(400, torch.Generator().manual_seed(0))
    assert set(label.tolist()) == set(range(len(LABELS))) and len(LABELS) == 13


def test_a_run_measures_every_subset_on_the_same_examples(tmp_path, short):
    subsets = ((), ("global",), ("frame", "frequency"))
    table = run(tmp_path, 2, seeds=(0,), subsets=subsets, controls=(("frame",),), progress=False)
    assert list(table["paths"].unique()) == ["none", "global", "frame+frequency", "frame without attention"]
    assert len(table) == 4 * 6 * len(LEVELS) and table["error_db"].notna().all()
    by_subset = [
        part.drop(columns=["paths", "parameters", "train_loss", "error_db"]).reset_index(drop=True)
        for _, part in table.groupby("paths")
    ]
    assert all(part.equals(by_subset[0]) for part in by_subset)
    assert (table["corpus"] == data.pocket_hash()).all() and (table["steps"] == 2).all()
    parameters = table.groupby("paths")["parameters"].first()
    assert parameters["none"] < parameters["global"] < parameters["frame+frequency"]
    assert parameters["none"] < parameters["frame without attention"] < parameters["frame+frequency"]


def test_seeds_train_other_networks_and_measure_the_same_examples(tmp_path, short):
    table = run(tmp_path, 2, seeds=(0, 1), subsets=(("global",),), controls=(), progress=False)
    first, second = (part.reset_index(drop=True) for _, part in table.groupby("seed"))
    same = ["example", "label", "t", "paths", "parameters", "steps"]
    pd.testing.assert_frame_equal(first[same], second[same])
    assert (first["error_db"] != second["error_db"]).all() and (first["train_loss"] != second["train_loss"]).all()


def test_a_second_run_trains_nothing_and_gives_the_same(tmp_path, short, monkeypatch):
    how = {"steps": 2, "seeds": (0,), "subsets": (("frame",),), "controls": (("frame",),), "progress": False}
    first = run(tmp_path, **how)
    monkeypatch.setattr(ablation.PriorTrainer, "_train_step", lambda self: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run(tmp_path, **how), first)


def test_the_errors_of_the_package_stay_unless_asked(tmp_path, short, monkeypatch):
    monkeypatch.setattr(ablation, "RESULTS", tmp_path / "shipped" / "errors.parquet")
    measured = run(tmp_path, 2, seeds=(0,), subsets=(("frame",),), controls=(), progress=False)
    monkeypatch.setattr(ablation, "run", lambda folder, steps, seeds: measured)
    for words, there in ((), False), (("--ship",), True):
        monkeypatch.setattr("sys.argv", ["ablation", "--steps", "2", "--folder", str(tmp_path), *words])
        ablation.main()
        assert (tmp_path / "errors.parquet").is_file() and (tmp_path / "shipped").exists() == there


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
