"""Chapter 14's measurements: one change at a time on the way to `recommended()`, and a choice among hypotheses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_ablations_command import changed

import unasdiff_teach as ut
from unasdiff_teach import SeparationConfig, data
from unasdiff_teach.evaluation import beyond
from unasdiff_teach.evaluation.beyond import BLOCKS, choice, configurations, methods, prior_error
from unasdiff_teach.networks import TriplePathConfig
from unasdiff_teach.priors.neural import PriorConfig


@pytest.fixture(scope="module")
def tiny():
    """Untrained priors, which know no label."""
    network = TriplePathConfig.pocket().replace(channels=8, embedding=16, heads=2, depths=(1, 1, 1, 1, 1), patch=(8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {kind: PriorConfig(8000, network=network, target="preconditioned").build() for kind in ("speech", "sound")}


@pytest.fixture
def mixtures():
    """Two mixtures of half a second."""
    return [
        replace(m, mixture=m.mixture[:4000], sources=m.sources[:, :4000], labels=(None, None))
        for m in data.mixtures("1 speech + 1 sound", "validation", 2)
    ]


def test_each_step_of_the_way_is_one_change_and_the_last_is_recommended():
    gradients, shares = configurations()["gradients"], configurations()["shares"]
    short = gradients.pop("short")
    assert short == SeparationConfig.short()
    expected = [{"project"}, {"start"}, {"spacing"}, {"init_step"}]
    assert [changed(short, config) for config in gradients.values()] == expected
    steps = list(shares.values())
    assert [changed(a, b) for a, b in zip(steps, steps[1:], strict=False)] == [{"init_step"}, {"renoise"}, {"steps"}, {"hypotheses"}]
    assert steps[-1] == SeparationConfig.recommended()
    for name, config in configurations()["around"].items():
        assert 1 <= len(changed(steps[-1], config)) <= 2, name


def test_around_costs_what_recommended_costs():
    for name, config in configurations()["around"].items():
        assert config.steps * config.hypotheses == 40, name


def test_prior_error_is_least_for_what_the_prior_knows():
    """A prior that is sure of a shape denoises it better than another one."""
    n = torch.arange(2000)
    known, other = torch.sin(0.3 * n), torch.sin(1.1 * n)

    class Knows:
        schedule, labels, unconditional, sigma_data = ut.NoiseSchedule.linear(), (), 0, 1.0

        def __call__(self, x_t, t, label):
            """The noise, if the clean signal is `known` at power 1."""
            alpha_bar = self.schedule.at(self.schedule.alpha_bar, t, x_t)
            x0 = known / known.square().mean().sqrt()
            return (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()

    sources = 0.05 * torch.stack([torch.stack([known, known]), torch.stack([known, other])])  # [B, K, N]
    errors = prior_error([Knows(), Knows()], sources, [[None, None], [None, None]], seed=0)
    assert errors[0] < 1e-6 < 0.01 < errors[1]


def test_the_choice_in_hindsight_is_never_worse_and_the_first_is_one_run(tiny, mixtures):
    config = SeparationConfig.recommended().replace(steps=2, hypotheses=3)
    first, blind, hindsight = choice(config, tiny)
    truth, seeds = torch.stack([m.sources for m in mixtures]), [3, 4]
    scores = {}
    for method in (first, blind, hindsight):
        estimates, calls = method.separate(mixtures, seeds)
        assert calls == 6
        scores[method.name] = ut.si_sdr(estimates, truth).mean(-1)
    assert (scores[hindsight.name] >= torch.maximum(scores[first.name], scores[blind.name])).all()
    assert scores[hindsight.name].sum() > scores[first.name].sum(), "three runs are alike"
    y, labels = torch.stack([m.mixture for m in mixtures]), [[None, None]] * 2
    alone = ut.separate(y, list(tiny.values()), labels, config=config.replace(hypotheses=1), noise=seeds).sources
    torch.testing.assert_close(first.separate(mixtures, seeds)[0], alone)


def test_blocks_name_their_methods(monkeypatch, tiny):
    monkeypatch.setattr(beyond, "pocket_priors", lambda: tiny)
    names = [m.name for block in BLOCKS for m in methods(block)]
    assert len(set(names)) == len(names)
    presets = {m.name: m.preset for block in BLOCKS for m in methods(block)}
    assert presets["short"] == "short" and presets["recommended"] == "recommended"
    assert set(presets.values()) == {"short", "recommended", ""}
