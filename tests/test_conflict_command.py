"""Runs followed step by step: what is measured, a folder that goes on where it stopped, what is shipped; and the
theorem of chapter 6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy
import pandas as pd
import pytest
import torch

import unasdiff_teach as ut
from unasdiff_teach._files import locked
from unasdiff_teach.data.mixing import Mixture
from unasdiff_teach.evaluation import conflict, noise_seed

N = 1024
FREQUENCY = torch.arange(N // 2 + 1) / (N // 2)
PRIORS = {
    "speech": ut.priors.StationaryGaussian(0.02 / (1 + (8 * FREQUENCY) ** 2) + 1e-4),
    "sound": ut.priors.StationaryGaussian(0.01 * FREQUENCY**2 + 1e-4),
}
SHORT = ut.NoiseSchedule.linear().respace(12)
CONFIG = ut.SeparationConfig.authors()


def mixture(name: str, kinds=("speech", "sound"), seed: int = 0) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    sources = torch.cat([PRIORS[kind].sample((1, N), generator) for kind in kinds])
    return Mixture(
        sources.sum(0), sources, (), 8000, id=name, task="test", split="test", clip_ids=("a", "b"), kinds=kinds,
        labels=(None, None), voices=(None, None), heard=(True, True),
    )  # fmt: skip


MIXTURES = [mixture("one"), mixture("two", seed=1)]


def run(folder, mixtures=MIXTURES, rules=("dps", "hybrid"), priors=PRIORS, base=CONFIG, keep=False):
    conflict.run(folder, mixtures, rules, priors, base, SHORT, keep=keep)


def stored(folder) -> dict[str, pd.DataFrame]:
    return {
        str(p.relative_to(folder)): pd.read_parquet(p).drop(columns="seconds")
        for p in sorted(folder.glob("*/*.parquet"))
    }


def test_a_run_is_measured_as_the_recorder_does():
    config = CONFIG.replace(guidance=ut.Hybrid())
    table, kept = conflict.follow(MIXTURES[0], PRIORS, "hybrid", config, SHORT, keep=True)
    recorder, records = ut.ConflictRecorder(), []

    def both(record):
        recorder(record)
        records.append(record)

    result = ut.separate(
        MIXTURES[0].mixture,
        list(PRIORS.values()),
        [None, None],
        SHORT,
        config,
        noise=noise_seed(0, "one"),
        on_step=both,
    )
    assert list(table["t"]) == [t for t in recorder.t for _ in range(2)] and list(table["source"]) == [0, 1] * 12
    known = recorder.table()
    for name in ("bound", "gamma"):
        assert torch.allclose(torch.tensor(table[name].to_numpy()).reshape(12, 2), known[name].double())
    # the three norms and the bound give the cosine, and with it <g_prior, g_cond>
    inner = torch.stack([(r.g_prior * r.g_cond).sum(-1) for r in records]).flatten().double()
    assert torch.allclose(
        torch.tensor(-(table["bound"] * table["g_cond"] ** 2).to_numpy()), inner, rtol=1e-4, atol=1e-7
    )
    assert numpy.allclose(table["g_prior"], torch.stack([r.g_prior.norm(dim=-1) for r in records]).flatten(), rtol=1e-5)
    assert numpy.allclose(table["loss"][::2], [float(r.loss) for r in records])
    last = table[table["step"] == 11]
    assert numpy.allclose(last["si_sdr_state"], ut.si_sdr(result.sources, MIXTURES[0].sources), atol=1e-4)
    assert numpy.allclose(last["si_sdr"], ut.si_sdr(records[-1].x0_hat, MIXTURES[0].sources), atol=1e-4)
    states, estimates = zip(*kept, strict=True)
    assert torch.equal(estimates[5], records[5].x0_hat.half()) and torch.equal(states[5], records[5].x_t.half())


def test_rules_start_from_one_state_and_take_one_noise(tmp_path):
    run(tmp_path, MIXTURES[:1], ("dps", "dsg", "hybrid"), keep=True)
    first = [numpy.load(tmp_path / rule / "one.npz")["states"][0] for rule in ("dps", "dsg", "hybrid")]
    assert numpy.array_equal(first[0], first[1]) and numpy.array_equal(first[0], first[2])
    tables = stored(tmp_path)
    start = [t[t["step"] == 0][["g_prior", "g_cond", "bound"]].to_numpy() for t in tables.values()]
    assert numpy.array_equal(start[0], start[1]) and numpy.array_equal(start[0], start[2])
    gamma = [set(t["config"]) for t in tables.values()]
    assert len(set.union(*gamma)) == 3


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    follow, calls = conflict.follow, []

    def stops(*args, **options):
        calls.append(args[0].id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return follow(*args, **options)

    monkeypatch.setattr(conflict, "follow", stops)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped")
    assert len(stored(tmp_path / "stopped")) == 2
    run(tmp_path / "stopped")
    assert calls == ["one", "one", "two", "two", "two"]  # nothing but the run in progress is repeated
    run(tmp_path / "stopped")
    assert len(calls) == 5
    whole, stopped = stored(tmp_path / "whole"), stored(tmp_path / "stopped")
    assert (
        whole.keys()
        == stopped.keys()
        == {f"{rule}/{name}.parquet" for rule in ("dps", "hybrid") for name in ("one", "two")}
    )
    for name in whole:
        pd.testing.assert_frame_equal(whole[name], stopped[name])


def test_a_folder_does_not_mix_settings_priors_or_mixtures(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="was made with config .*another folder"):
        run(tmp_path, base=CONFIG.replace(init_step=100))
    with pytest.raises(ValueError, match="was made with priors .*another folder"):
        run(tmp_path, priors=PRIORS | {"sound": ut.priors.Gaussian(std=0.1)})
    with pytest.raises(ValueError, match="was made with clips .*another folder"):
        run(tmp_path, [replace(MIXTURES[0], clip_ids=("a", "c"))])


def test_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(conflict, "figure_mixture", lambda: mixture("figure-2", ("sound", "sound")))
    folder, results = tmp_path / "runs", tmp_path / "results"
    run(folder, [conflict.figure_mixture()], conflict.FIGURE[:2], keep=True)
    run(folder)
    conflict.collect(folder, results)
    assert not (results / conflict.ESTIMATES).exists()  # one of the three is missing
    run(folder, [conflict.figure_mixture()], conflict.FIGURE, keep=True)
    conflict.collect(folder, results)
    table = conflict.curves(results)
    assert len(table) == (3 + 4) * 12 * 2 and not list(results.glob("*.partial"))
    run_of_one = table[(table["mixture"] == "one") & (table["rule"] == "dps")].reset_index(drop=True)
    exact = stored(folder)["dps/one.parquet"]
    for name in conflict.MEASURED:
        assert numpy.allclose(run_of_one[name], exact[name], rtol=6e-4, atol=0), name
    kept = conflict.estimates(results=results)
    assert list(kept) == list(conflict.FIGURE) and kept["dsg"].shape == (conflict.KEPT, 2, N)
    whole = torch.from_numpy(numpy.load(folder / "dsg" / "figure-2.npz")["estimates"]).float()
    assert (kept["dsg"] - whole[conflict.kept_steps(12)]).abs().max() <= 1 / conflict.GRID


def test_two_that_collect_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(conflict, "PATIENCE", 0.0)
    run(tmp_path, rules=("dps",))
    with locked(tmp_path, "test"), pytest.raises(BlockingIOError, match="another collection is running"):
        conflict.collect(tmp_path, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_runs_of_two_trainings_are_not_collected_together(tmp_path):
    run(tmp_path, rules=("dps",))
    run(tmp_path, rules=("hybrid",), priors=PRIORS | {"sound": ut.priors.Gaussian(std=0.1)})
    with pytest.raises(ValueError, match="2 different priors"):
        conflict.collect(tmp_path, tmp_path / "results")
    with pytest.raises(FileNotFoundError, match="no runs"):
        conflict.collect(tmp_path / "empty", tmp_path / "results")


def test_the_kept_steps_run_from_first_to_last():
    steps = conflict.kept_steps(200)
    assert steps[0] == 0 and steps[-1] == 199 and len(steps) == conflict.KEPT and sorted(set(steps)) == steps


def test_numbers_are_rounded_to_four_digits():
    values = numpy.array([0.0, 1234.56, -0.000123456, 99995.0], dtype="float32")
    assert numpy.allclose(conflict._rounded(values), [0, 1235, -0.0001235, 100000], rtol=1e-6, atol=0)


def test_the_mixture_of_figure_2():
    case = conflict.figure_mixture()
    assert case.labels == ("Violin_or_fiddle", "Chime") and case.kinds == ("sound", "sound")
    assert torch.allclose(case.sources.sum(0), case.mixture, atol=1e-6) and torch.equal(
        case.mixture, conflict.figure_mixture().mixture
    )
    both = case.sources.abs() > 1e-3
    assert both.all(0).double().mean() > 0.5, "they sound at the same time"


def test_an_unknown_rule_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="conflict has no rule 'cqt'; there are dps"):
        conflict.measure(tmp_path, ["cqt"])


def test_the_shipped_curves_are_whole():
    table = conflict.curves()
    assert table[list(conflict.MEASURED)].notna().all().all()
    assert (table.groupby(["mixture", "rule"]).size() == 200 * 2).all()
    measured = table[table["mixture"] != conflict.figure_mixture().id]
    sets = [set(part["mixture"]) for _, part in measured.groupby("rule")]
    assert len(sets) == len(conflict.RULES) and all(s == sets[0] for s in sets), "every rule on the same mixtures"
    for rule, part in table.groupby("rule"):
        assert part["config"].nunique() == 1 and f"guidance={conflict.RULES[rule]}," in part["config"].iloc[0]
    assert table["priors"].nunique() == 1
    assert sum((conflict.RESULTS / name).stat().st_size for name in (conflict.CURVES, conflict.ESTIMATES)) < 2_000_000
    assert conflict.estimates()["hybrid"].shape == (conflict.KEPT, 2, 16000)


@pytest.mark.parametrize("t", [20, 100])
def test_on_states_of_the_posterior_there_is_no_conflict_on_average(t):
    """With exact priors E[mixture - estimate | states] = 0, so that the inner product of the two gradients has mean
    zero.
    """
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[0.3, 0.0], [-0.3, 0.1]]), torch.tensor([[0.0, 0.4], [0.1, -0.2]])
    priors = [ut.priors.GaussianMixture(torch.tensor([0.3, 0.7]), mean, torch.tensor([0.05, 0.1])) for mean in means]
    s, M = priors[0].schedule, 40_000
    x0 = torch.stack([p.sample((M, 2), generator) for p in priors], 1)
    x_t = ut.forward_noise(x0, t, torch.randn(x0.shape, generator=generator), s)

    def inner(y):
        x = x_t.clone().requires_grad_()
        x0_hat = torch.stack([p.tweedie_mean(x[:, k], t) for k, p in enumerate(priors)], 1)
        (gradient,) = torch.autograd.grad((y - x0_hat.sum(1)).square().sum() / 2, x)
        g_prior = ut.posterior_mean(x, x0_hat, t, s) - x
        products = -(g_prior * gradient).sum(-1).detach()  # [M, 2]
        return products.mean(0) / (products.std(0) / M**0.5)  # in standard errors

    assert inner(x0.sum(1)).abs().max() < 4
    assert inner(x0.sum(1)[torch.randperm(M, generator=generator)]).abs().min() > 6, (
        "states that belong to another mixture"
    )
