"""One meaning of a recipe: whatever command trains by it, the same seed gives the same weights."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from unasdiff_teach.cli import app
from unasdiff_teach.data.pocket_corpus import pocket_hash
from unasdiff_teach.training import Crops, PriorTrainer, SeparatorTrainer, pocket, recipes, separators
from unasdiff_teach.training.plan import plan
from unasdiff_teach.training.prior import ValidationConfig

STAGES = ("joint", "speech")
FREE = ("prefetch", "save_minutes", "precision")  # what no weight depends on


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """One step of two examples of a quarter of a second."""
    monkeypatch.setattr(pocket, "WEIGHTS", tmp_path / "made")
    monkeypatch.setattr(recipes, "BATCH", dict.fromkeys(recipes.STAGES, 2))
    monkeypatch.setattr(recipes, "SECONDS", dict.fromkeys(recipes.STAGES, 0.25))
    small = replace(
        recipes.SCALES["pocket"],
        seconds=0.25,
        validation_config=ValidationConfig(examples=1, levels=(10,), sample_every=None),
    )
    monkeypatch.setitem(recipes.SCALES, "pocket", small)


def make(folder, monkeypatch, *words):
    """`make priors`, which has --ship among its words"""
    monkeypatch.setattr(sys, "argv", ["pocket", *STAGES, "--steps", "1", "--folder", str(folder / "states"), *words])
    pocket.main()


def train(folder, *words, exit_code=0):
    """`unasdiff-teach train prior --scale pocket`"""
    command = f"train prior --scale pocket --data pocket-speech --device cpu --threads 1 --no-board --out {folder}"
    done = CliRunner().invoke(app, [*command.split(), "--steps", "1", *words], catch_exceptions=False)
    assert done.exit_code == exit_code, done.output
    return done


def reproduce(folder):
    """What chapter 12 does for `reproduce --scale pocket`"""
    for training in plan("pocket", steps=1, seed=0):
        if training.name in STAGES:
            training.run(folder)


@pytest.mark.slow
def test_the_priors_of_three_commands_are_the_same(tmp_path, tiny, monkeypatch):
    make(tmp_path, monkeypatch, "--ship")
    reproduce(tmp_path / "reproduced")
    train(tmp_path / "trained")
    places = {"joint": tmp_path / "trained" / "joint", "speech": tmp_path / "trained"}
    for stage in STAGES:
        made = load_file(tmp_path / "made" / f"pocket-{stage}.safetensors")
        assert (tmp_path / "states" / f"pocket-{stage}.safetensors").is_file()
        for path in (tmp_path / "reproduced" / f"{stage}.safetensors", places[stage] / "prior.safetensors"):
            other = load_file(path)
            assert made.keys() == other.keys() and all(made[key].equal(other[key]) for key in made), path


@pytest.mark.slow
def test_the_priors_of_the_package_stay_unless_asked(tmp_path, tiny, monkeypatch, capsys):
    make(tmp_path, monkeypatch)
    assert (tmp_path / "states" / "pocket-joint.safetensors").is_file() and not (tmp_path / "made").exists()
    with pytest.raises(SystemExit):
        make(tmp_path, monkeypatch, "--ship", "--recordings", str(tmp_path))
    assert "--ship is for priors of the package's corpora" in capsys.readouterr().err
    assert "training.pocket --ship" in (Path(__file__).parent.parent / "Makefile").read_text()


@pytest.mark.slow
def test_priors_of_recordings_are_called_so_and_an_old_folder_is_named(tmp_path, tiny, monkeypatch, capsys):
    corpus = replace(pocket.Corpus.shipped(), sha256="theirs")
    monkeypatch.setattr(pocket.Corpus, "recorded", lambda folder: corpus)
    states, words = tmp_path / "states", ("--recordings", str(tmp_path))
    make(tmp_path, monkeypatch)  # of another corpus, and so not in the way
    make(tmp_path, monkeypatch, *words)
    assert (states / "recorded-joint.safetensors").is_file() and not (tmp_path / "made").exists()
    for stage in STAGES:
        shutil.rmtree(states / f"pocket-{stage}")
        (states / f"recorded-{stage}").rename(states / f"pocket-{stage}")
    with pytest.raises(SystemExit):
        make(tmp_path, monkeypatch, *words)
    assert "is called recorded-joint now; rename it to" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_one_stage_is_refused_before_any_work(tmp_path, tiny):
    """As `train prior --scale pocket` made them once, with steps and batch of one's own."""
    draw, stage = Crops([torch.ones(8000)], [0], recipes.crop(0.25)), recipes.stage_config("speech", steps=2)
    old = PriorTrainer(tmp_path, recipes.prior_config("speech"), stage, draw, {"sha256": pocket_hash()})
    old.fit(progress=False, seconds=0)
    before = (tmp_path / "state.pt").read_bytes()
    done = train(tmp_path, "--steps", "2", exit_code=1)
    assert "start was 'random weights', is now 'weights" in done.output and not (tmp_path / "joint").exists()
    assert (tmp_path / "state.pt").read_bytes() == before


@pytest.mark.slow
def test_three_commands_have_one_plan(tmp_path, monkeypatch):
    """The recipe's own lengths, batches, seeds, networks, data and initial weights, of every command."""
    found = []

    def fit(self: PriorTrainer, *_, **__) -> bool:
        weights = sum(float(value.double().abs().sum()) for value in self.net.state_dict().values())
        config = {name: value for name, value in vars(self.config).items() if name not in FREE}
        example = self.draw(1, torch.Generator().manual_seed(0))[0]
        found.append((config, self.model_config, self.data, weights, example.tolist()))
        self.step = self.config.steps
        return True

    monkeypatch.setattr(PriorTrainer, "fit", fit)
    monkeypatch.setattr(PriorTrainer, "export", lambda self, path, **_: None)
    ready = pocket.trainer

    def trained(stage: str, folder: Path, *arguments, **named) -> PriorTrainer:
        trainer = ready(stage, folder, *arguments, **named)
        trainer.step = trainer.config.steps if stage == "joint" and found else 0  # it has been trained by then
        return trainer

    monkeypatch.setattr(pocket, "trainer", trained)
    make(tmp_path, monkeypatch)
    made = found.copy()
    found.clear()
    reproduce(tmp_path)
    reproduced = found.copy()
    found.clear()
    train(tmp_path / "trained")
    assert len(made) == 2 and made == reproduced == found
    assert [config["steps"] for config, *_ in made] == [1, 1] and made[0][0]["batch"] == 16 != made[1][0]["batch"]


@pytest.mark.slow
def test_a_separator_of_the_pocket_scale_is_the_shipped_one(tmp_path, monkeypatch):
    """`train separator --scale pocket`, `reproduce --scale pocket` and what made the shipped files have one plan."""
    found = []
    monkeypatch.setattr(SeparatorTrainer, "fit", lambda self, *_, **__: found.append(self) or True)
    monkeypatch.setattr(SeparatorTrainer, "export", lambda self, path, **_: None)
    words = "train separator --scale pocket --data pocket-speech --data pocket-sound --network conv-tasnet --out"
    done = CliRunner().invoke(app, [*words.split(), str(tmp_path / "a"), "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    next(t for t in plan("pocket", experts=["conv-tasnet"]) if t.name == "conv-tasnet-speech-sound").run(tmp_path)
    found.append(separators.trainer("pocket-conv-tasnet-speech-sound", tmp_path / "b"))
    plans = [(t.identity(), t.config.steps, t.data, t.examples(torch.Generator().manual_seed(0))[0]) for t in found]
    assert plans[0][1] == recipes.CONFIGS["conv-tasnet"].steps
    for other in plans[1:]:
        assert plans[0][:3] == other[:3] and plans[0][3].equal(other[3])


def test_the_length_of_a_stage_is_said_once():
    for training in plan("pocket"):
        assert training.config == recipes.stage_config(training.name)
        assert training.samples == recipes.SECONDS[training.name] * recipes.SAMPLE_RATE


def test_a_plan_without_data_does_not_train(tmp_path):
    with pytest.raises(ValueError, match="planned without data"):
        plan("paper")[0].run(tmp_path)


def test_a_dry_run_shows_both_stages_and_writes_nothing(tmp_path):
    done = train(tmp_path / "run", "--dry-run", "--precision", "float32")
    assert done.stdout.count("million parameters") == 2 and "together" in done.stdout
    assert not (tmp_path / "run").exists()


def test_old_homes_of_the_recipe_warn():
    with pytest.warns(DeprecationWarning, match="training.recipes.STEPS"):
        assert pocket.STEPS is recipes.STEPS
