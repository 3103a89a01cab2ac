"""On a GPU the same: networks, samplers, training and commands give what a processor gives, within rounding."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from helpers import CONFIG, EXPERT_CONFIG, SEPARATOR, TINY, journal, trainer
from typer.testing import CliRunner

import unasdiff_teach as ut
from unasdiff_teach import bench
from unasdiff_teach.cli import app
from unasdiff_teach.data import write
from unasdiff_teach.evaluation.jobs import Job, run
from unasdiff_teach.training import Mixer, SeparatorTrainer
from unasdiff_teach.training.crops import CropConfig, Crops

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """Convolutions in float32 instead of TF32, so that only the order of sums differs."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def mixtures():
    """Two test mixtures of one voice and one sound, and their labels."""
    chosen = ut.data.mixtures("1 speech + 1 sound", "test")[:2]
    return torch.stack([m.mixture for m in chosen]), [list(m.labels) for m in chosen]


@pytest.fixture(scope="module")
def priors():
    """The shipped priors, here and there."""
    here = [ut.priors.load("pocket-speech"), ut.priors.load("pocket-sound")]
    return here, [copy.deepcopy(p).to(GPU) for p in here]


def apart(a, b):
    """Largest difference of two signals, as a share of the larger one's peak."""
    a, b = a.detach().cpu(), b.detach().cpu()
    return float((a - b).abs().max() / max(float(a.abs().max()), float(b.abs().max())))


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pocket-speech", "pocket-sound", "pocket-diffwave-speech"])
def test_priors_and_their_input_gradients(name, mixtures):
    prior = ut.priors.load(name)
    x, t = mixtures[0].clone().requires_grad_(), torch.tensor([20, 120])
    y = mixtures[0].to(GPU).requires_grad_()
    here, there = prior(x, t), copy.deepcopy(prior).to(GPU)(y, t.to(GPU))
    assert apart(here, there) < 1e-4
    assert apart(*(torch.autograd.grad(e.square().sum(), a)[0] for e, a in ((here, x), (there, y)))) < 1e-3


def test_experts(mixtures):
    for name in ut.separators.available():
        separator = ut.separators.load(name)
        assert apart(separator(mixtures[0]), copy.deepcopy(separator).to(GPU)(mixtures[0].to(GPU))) < 1e-3, name


def test_the_compiled_core(priors, mixtures):
    prior = copy.deepcopy(priors[1][0])
    plain = prior(mixtures[0].to(GPU), torch.tensor([20, 120], device=GPU))
    prior.net.compile_core()
    assert apart(plain, prior(mixtures[0].to(GPU), torch.tensor([20, 120], device=GPU))) < 1e-4


# --- separation ------------------------------------------------------------------------------------------------------

SAMPLERS = {
    "recommended": lambda *a: ut.separate(*a, config=ut.SeparationConfig.recommended()),
    "hybrid": lambda *a: ut.separate(*a, config=ut.SeparationConfig.authors().replace(steps=8)),
    "DSG": lambda *a: ut.separate(*a, config=ut.SeparationConfig.authors(ut.DSG(variant="original")).replace(steps=8)),
    "DPS": lambda *a: ut.separate(*a, config=ut.SeparationConfig.authors(ut.DPS()).replace(steps=8)),
    "CQT": lambda *a: ut.separate(*a, config=ut.SeparationConfig.authors(ut.CQT()).replace(steps=8)),
    "analytical": lambda *a: ut.separate_analytical(*a, config=ut.AnalyticalConfig.authors()),
    "Dirac": lambda *a: ut.separate_dirac(*a, config=ut.DiracConfig(steps=8, langevin=0.5)),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name, mixtures, priors):
    """The noise is drawn on the processor, so that a seed gives the same separation everywhere."""
    if name == "analytical":  # the shortest chain that it knows is the whole one
        mixtures = (mixtures[0][:, :2000], mixtures[1])
    here = SAMPLERS[name](mixtures[0], priors[0], mixtures[1]).sources
    there = SAMPLERS[name](mixtures[0].to(GPU), priors[1], mixtures[1]).sources
    assert there.device.type == GPU and torch.isfinite(there).all()
    assert apart(here, there) < 0.02, "rounding grows along a run, but not into another result"


def test_a_batch_is_its_single_runs_and_a_seed_gives_one_result(mixtures, priors):
    config = ut.SeparationConfig.recommended()
    y = mixtures[0].to(GPU)
    both, again = (ut.separate(y, priors[1], mixtures[1], config=config, noise=[3, 4]).sources for _ in range(2))
    assert torch.equal(both, again)
    for i in range(2):
        one = ut.separate(y[i], priors[1], mixtures[1][i], config=config, noise=3 + i).sources
        assert apart(one, both[i]) < 1e-3


def test_a_prior_dreams_the_same(priors):
    here, there = (
        ut.ancestral_sample(
            p[0], (1, 2000), p[0].schedule.respace(8), generator=torch.Generator().manual_seed(1), device=d
        )
        for p, d in zip(priors, ("cpu", GPU), strict=True)
    )
    assert apart(here, there) < 1e-3


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_stops_and_goes_on(tmp_path, precision):
    config = replace(CONFIG, precision=precision, cosine=False, prefetch=2)
    whole = trainer(tmp_path / "whole", config, device=GPU)
    whole.fit(progress=False)
    trainer(tmp_path / "parts", replace(config, steps=10), device=GPU).fit(progress=False)
    second = trainer(tmp_path / "parts", config, device=GPU)
    assert second.step == 10
    second.fit(progress=False)
    for key, value in whole.ema.items():
        assert value.device.type == GPU
        assert torch.allclose(second.ema[key], value, atol=2e-3 if precision == "bfloat16" else 1e-4), key
    assert (
        whole.log[-1]["loss"] == pytest.approx(second.log[-1]["loss"], rel=0.05) and "cuda" in whole.card()["machine"]
    )


def test_training_takes_the_steps_of_a_processor(tmp_path):
    here, there = (trainer(tmp_path / d, device=d) for d in ("cpu", GPU))
    here.fit(progress=False)
    there.fit(progress=False)
    assert [line["loss"] for line in there.log] == pytest.approx([line["loss"] for line in here.log], rel=1e-2)


def test_an_expert_trains(tmp_path):
    generator = torch.Generator().manual_seed(0)
    draw = Crops([0.1 * torch.randn(2000, generator=generator) for _ in range(2)], [0, 0], CropConfig(800))
    mixer = Mixer({"speech": draw, "sound": draw}, ("speech", "sound"))
    expert = SeparatorTrainer(tmp_path, SEPARATOR, EXPERT_CONFIG, mixer, {"sha256": "0"}, device=GPU)
    expert.fit(progress=False)
    expert.export(tmp_path / "expert.safetensors")
    assert ut.separators.read(tmp_path / "expert.safetensors").card["steps"] == EXPERT_CONFIG.steps


# --- commands --------------------------------------------------------------------------------------------------------


def test_evaluate(tmp_path):
    """Two processes share one GPU; scores are those of a processor; in bfloat16 they are close."""
    there = Job("pocket", tmp_path / "gpu", ("recommended", "conv-tasnet"), "recommended",
    tasks=("1 speech + 1 sound",), count=4, batch=2,
                device=GPU, processes=2)  # fmt: skip
    here = replace(there, out=tmp_path / "cpu", device="cpu", processes=1)
    found, expected = run(there, progress=False), run(here, progress=False)
    assert set(found["device"]) == {torch.cuda.get_device_name()} and len(journal(there.out)) == 8
    assert found["si_sdr"].to_numpy() == pytest.approx(expected["si_sdr"].to_numpy(), abs=0.05)
    coarse = run(
        replace(there, out=tmp_path / "coarse", methods=("recommended",), processes=1, precision="bfloat16"),
        progress=False,
    )
    exact = expected[expected["method"] == "recommended"]
    assert coarse["si_sdr"].mean() == pytest.approx(exact["si_sdr"].mean(), abs=1.0)


def test_separate_a_file(tmp_path, mixtures):
    write(tmp_path / "mixture.wav", mixtures[0][0], 8000)
    words = [
        "separate",
        str(tmp_path / "mixture.wav"),
        "--sources",
        f"speech,{mixtures[1][0][1]}",
        "--out",
        str(tmp_path / "out"),
        "--device",
        GPU,
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").rglob("*speech*"))) >= 1


def test_train_and_bench(tmp_path, monkeypatch):
    words = (
        "train prior --scale smoke --data pocket-speech --steps 4 --no-board --precision bfloat16 --no-compile --out"
    )
    done = CliRunner().invoke(app, [*words.split(), str(tmp_path / "prior")])
    assert done.exit_code == 0 and "1 x cuda, bfloat16" in done.output, done.output
    monkeypatch.setitem(bench.NETWORKS, "pocket", (lambda: TINY, 8000))
    words = (
        "bench --scale pocket --seconds 0.2 --batch 2 --mode forward --mode guided --mode training --repeats 1 --out"
    )
    done = CliRunner().invoke(app, [*words.split(), str(tmp_path / "b.json")])
    assert done.exit_code == 0, done.output
    wrote = json.loads((tmp_path / "b.json").read_text())
    assert wrote["facts"]["device"] == torch.cuda.get_device_name() and all(row["peak_gb"] > 0 for row in wrote["rows"])
