"""What goes wrong around a training: NaN, two at once, a budget of time, another number of steps, files in few bits."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import CONFIG, PRIOR, crops, equal, state, train, trainer
from safetensors.torch import load_file
from typer.testing import CliRunner

from unasdiff_teach._commands.train import app
from unasdiff_teach.networks import DiffWaveConfig
from unasdiff_teach.priors import PriorConfig
from unasdiff_teach.priors.neural import preconditioning, read, save
from unasdiff_teach.training import Crops, PriorTrainer, SeparatorTrainConfig, TrainConfig, scales
from unasdiff_teach.training.prior import ValidationConfig

RARE = replace(CONFIG, log_every=10, save_every=4)  # the state is saved more often than the loss is looked at
STEM = 60.87442  # sum of the magnitudes of the first layer's weights, of seed 0


def poisoned(folder, steps, config=RARE):
    """A trainer whose batches are NaN at some steps."""
    run = trainer(folder, config)
    clean = run.draw

    def draw(batch, generator):
        x0, label = clean(batch, generator)
        return (x0 * math.nan if run.step in steps else x0), label

    run.draw = draw
    return run


def finite(kept):
    return all(v.isfinite().all() for part in ("model", "average") for v in kept[part].values())


def after_each_step(run, look):
    """Let `look` see the trainer after each step, before its state is saved."""
    original = run.validate
    run.validate = lambda: (original(), look())
    return run


# --- NaN -------------------------------------------------------------------------------------------------------------


def test_a_batch_of_nan_changes_no_weight_and_is_counted(tmp_path):
    weights = {}
    run = poisoned(tmp_path, {6})
    after_each_step(
        run, lambda: weights.update({run.step: [v.clone() for v in (*run.net.parameters(), *run.ema.values())]})
    )
    assert run.fit(progress=False)
    assert equal(weights[6], weights[7]) and not equal(weights[7], weights[8])
    assert finite(state(tmp_path)) and run.skipped == run.card()["skipped"] == 1
    assert [(line["step"], line["skipped"]) for line in run.log] == [(10, 1), (20, 1)]
    assert all(math.isfinite(line["loss"]) for line in run.log)
    assert read(tmp_path / "step_000020.safetensors").card["skipped"] == 1


def test_a_gradient_that_overflows_is_skipped(tmp_path):
    run = trainer(tmp_path)
    next(run.net.parameters()).register_hook(lambda gradient: gradient * math.inf if run.step == 6 else gradient)
    assert run.fit(progress=False) and run.skipped == 1 and finite(state(tmp_path))


def test_nan_without_end_stops_and_the_last_good_state_stays(tmp_path):
    run = poisoned(tmp_path, range(6, 100))
    with pytest.raises(
        FloatingPointError,
        match=r"the last of them step 16: .* precision float32; the last good state, of step 12, is in",
    ):
        run.fit(progress=False)
    assert finite(state(tmp_path)) and state(tmp_path)["step"] == 12
    assert trainer(tmp_path, RARE).fit(progress=False), "with sound data it goes on"


@pytest.mark.slow
def test_skipped_steps_survive_a_stop(tmp_path):
    bad, short = {1, 2, 5}, replace(RARE, steps=7)
    poisoned(tmp_path / "straight", bad, short).fit(progress=False)
    while not (run := poisoned(tmp_path / "parts", bad, short)).fit(progress=False, seconds=0):
        assert run.skipped == len({step for step in bad if step < run.step})
    assert equal(state(tmp_path / "straight"), state(tmp_path / "parts"))


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    run = trainer(tmp_path, RARE)
    after_each_step(run, lambda: run.step == 5 and next(run.net.parameters()).data.fill_(math.inf))
    with pytest.raises(FloatingPointError, match="weights are not finite at step 8; the last good state, of step 4"):
        run.fit(progress=False)
    assert finite(state(tmp_path)) and state(tmp_path)["step"] == 4


# --- who writes, and who else ----------------------------------------------------------------------------------------


def test_making_a_trainer_writes_nothing(tmp_path):
    trainer(tmp_path / "new", board=True, validation=crops())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_dry_run_beside_a_training_leaves_its_files(tmp_path):
    words = [
        "prior",
        "--scale",
        "smoke",
        "--data",
        "pocket-speech",
        "--out",
        str(tmp_path),
        "--device",
        "cpu",
        "--batch",
        "2",
    ]
    run = scales.prior_trainer(scales.SCALES["smoke"], scales.Source.open("pocket-speech"), tmp_path, {"batch": 2})
    seen = []

    def look():
        if run.step == 15:  # logged; the state is that of step 10
            before = (tmp_path / "log.jsonl").read_bytes(), set(tmp_path.iterdir())
            dry, second = (CliRunner().invoke(app, [*words, "--no-board", *more]) for more in (["--dry-run"], []))
            assert dry.exit_code == 0 and "goes on at step 10" in dry.output, dry.output
            assert second.exit_code == 1 and "another training is running in" in second.output
            assert before == ((tmp_path / "log.jsonl").read_bytes(), set(tmp_path.iterdir()))
            seen.append(before)

    assert after_each_step(run, look).fit(progress=False) and len(seen) == 1
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]


def test_a_trainer_that_another_has_overtaken_is_refused(tmp_path):
    early = trainer(tmp_path)
    train(tmp_path)
    with pytest.raises(RuntimeError, match="another training has changed .*state.pt"):
        early.fit(progress=False)
    assert state(tmp_path)["step"] == 20


def test_a_training_leaves_the_global_generator_alone_and_has_the_weights_that_it_had(tmp_path):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    run = train(tmp_path, validation=crops(), validation_config=ValidationConfig(every=10, examples=4))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(0)  # as the caller's generator was seeded once
    expected = PRIOR.build().net.state_dict()
    fresh = trainer(tmp_path / "fresh").net.state_dict()
    assert equal(dict(fresh), dict(expected)) and run.step == 20
    assert float(fresh["stem.weight"].double().abs().sum()) == pytest.approx(STEM, rel=1e-5)


# --- a budget of time ------------------------------------------------------------------------------------------------


def test_a_training_in_parts_ends_with_the_bits_of_one_in_one_piece(tmp_path):
    short = replace(CONFIG, steps=8, log_every=3)
    whole, parts = train(tmp_path / "whole", short), trainer(tmp_path / "parts", short)
    assert not parts.fit(progress=False, seconds=0) and parts.step == state(parts.folder)["step"] == 1
    assert not parts.fit(progress=False, seconds=0) and parts.step == 2, "the same trainer can go on"
    calls = 2
    while not trainer(tmp_path / "parts", short).fit(progress=False, seconds=0):
        calls += 1
    assert calls == 7 and equal(state(whole.folder), state(parts.folder))
    logs = [
        [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()] for run in (whole, parts)
    ]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_the_state_is_saved_by_the_clock_as_well(tmp_path):
    steps = []
    run = trainer(tmp_path, replace(CONFIG, steps=6, save_every=100, save_minutes=1e-9))
    after_each_step(run, lambda: steps.append(state(tmp_path)["step"] if run.step > 1 else 0)).fit(progress=False)
    assert steps == [0, 1, 2, 3, 4, 5] and [p.name for p in tmp_path.glob("*.safetensors")] == [
        "step_000006.safetensors"
    ]


def test_the_command_stops_by_the_clock(tmp_path):
    words = [
        "prior",
        "--scale",
        "smoke",
        "--data",
        "pocket-speech",
        "--out",
        str(tmp_path),
        "--device",
        "cpu",
        "--batch",
        "1",
        "--no-board",
    ]
    done = CliRunner().invoke(app, [*words, "--steps", "2", "--minutes", "0.00001"])
    assert done.exit_code == 0 and "stopped at step 1 of 2; the same command goes on" in done.output, done.output
    assert not (tmp_path / "prior.safetensors").exists()
    done = CliRunner().invoke(app, [*words, "--steps", "2"])
    assert done.exit_code == 0 and (tmp_path / "prior.safetensors").exists(), done.output


# --- another number of steps -----------------------------------------------------------------------------------------


def test_other_steps_under_a_cosine_are_refused_unless_asked_for(tmp_path):
    train(tmp_path, replace(CONFIG, steps=10))
    longer = replace(CONFIG, steps=20, reschedule=True)
    with pytest.raises(ValueError, match="steps was 10, is now 20, .* jump from 0.01 to 0.505 of its peak.*reschedule"):
        trainer(tmp_path, replace(longer, reschedule=False))
    trainer(tmp_path, longer).fit(progress=False, seconds=0)
    run = train(tmp_path, replace(longer, reschedule=False))
    assert run.card()["rescheduled"] == [{"step": 10, "from": 10, "to": 20}]
    assert read(tmp_path / "step_000020.safetensors").card["rescheduled"] == run.card()["rescheduled"]


@pytest.mark.slow
def test_other_steps_at_a_constant_rate_change_nothing(tmp_path):
    constant = replace(CONFIG, cosine=False)
    train(tmp_path / "parts", replace(constant, steps=10))
    run, whole = train(tmp_path / "parts", constant), train(tmp_path / "whole", constant)
    assert equal(state(run.folder), state(whole.folder)) and "rescheduled" not in run.card()


# --- what a training is ----------------------------------------------------------------------------------------------


def test_a_training_goes_on_only_from_the_weights_that_it_started_from(tmp_path):
    first, other = (PRIOR.build().net.state_dict() for _ in range(2))
    trainer(tmp_path, start=first).fit(progress=False, seconds=0)
    for start, now in ((other, "weights [0-9a-f]+"), (None, "random weights")):
        with pytest.raises(ValueError, match=f"another training: start was 'weights [0-9a-f]+', is now '{now}'"):
            trainer(tmp_path, start=start)
    assert trainer(tmp_path, start={key: value.clone() for key, value in first.items()}).step == 1


def test_a_state_that_does_not_say_what_it_started_from_is_kept_for_random_weights_alone(tmp_path):
    trainer(tmp_path).fit(progress=False, seconds=0)
    old = state(tmp_path)
    del old["identity"]["start"], old["identity"]["examples"]
    torch.save(old, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="start was 'not noted', is now 'weights .*Use another folder"):
        trainer(tmp_path, start=PRIOR.build().net.state_dict())
    assert equal(state(tmp_path), old) and trainer(tmp_path).step == 1


def test_examples_cut_otherwise_are_of_another_training(tmp_path):
    trainer(tmp_path).fit(progress=False, seconds=0)
    again = trainer(tmp_path / "other")
    for config, shares, message in (
        (replace(again.draw.config, level_db=(-40.0, -20.0)), None, r"examples.level_db was \(-25.0, -20.0\), is now"),
        (again.draw.config, (3, 1), r"examples.shares was \(0.5, 0.5\), is now \(0.75, 0.25\)"),
    ):
        draw = Crops([torch.ones(500)] * 2, [0, 1], config, shares)
        with pytest.raises(ValueError, match=message):
            PriorTrainer(tmp_path, PRIOR, CONFIG, draw, again.data)


# --- files of weights ------------------------------------------------------------------------------------------------


def test_the_precision_of_a_file_is_chosen_and_said(tmp_path):
    run = trainer(tmp_path)
    for dtype, name in ((torch.float16, "float16"), (torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        path = tmp_path / f"{name}.safetensors"
        run.export(path, dtype=dtype)
        assert {v.dtype for v in load_file(path).values()} == {dtype} and read(path).card["dtype"] == name
    run.export(path)
    assert read(path).card["dtype"] == "float16", "the default"


def test_what_is_no_parameter_stays_exact(tmp_path):
    network = DiffWaveConfig(layers=2, channels=16, dilation_cycle=2, embedding=16, features=8, patch=32)
    config = PriorConfig(8000, network=network)
    weights = config.build().net.state_dict()
    save(tmp_path / "d.safetensors", weights, config, {})
    kept = load_file(tmp_path / "d.safetensors")
    assert kept["embed.frequencies"].dtype == torch.float32 and torch.equal(
        kept["embed.frequencies"], weights["embed.frequencies"]
    )
    assert {v.dtype for name, v in kept.items() if name != "embed.frequencies"} == {torch.float16}


def test_old_names_of_settings_serve_with_a_warning():
    for config in (TrainConfig.pocket(), SeparatorTrainConfig()):
        with pytest.warns(DeprecationWarning, match="milestone_every is now checkpoint_every"):
            changed = replace(config, milestone_every=7)
        with pytest.warns(DeprecationWarning, match="clip is now max_grad_norm"):
            assert changed.checkpoint_every == 7 and changed.clip == config.max_grad_norm
        assert replace(changed, checkpoint_every=config.checkpoint_every) == config
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            config.nothing  # noqa: B018


def test_old_names_of_what_is_looked_at_serve_with_a_warning(tmp_path):
    from unasdiff_teach.training import prior

    with pytest.warns(DeprecationWarning, match="Watch is now ValidationConfig"):
        looked_at = prior.Watch(every=3)
    assert looked_at == ValidationConfig(every=3)
    with pytest.warns(DeprecationWarning, match="PriorTrainer.watch is now validation_config"):
        run = trainer(tmp_path, watch=looked_at)
    assert run.validation_config == looked_at
    with pytest.warns(DeprecationWarning, match="Trainer.average is now ema"):
        assert run.average is run.ema  # of the class that it extends
    with pytest.warns(DeprecationWarning, match="ahead is now prefetch"):
        assert replace(TrainConfig.pocket(), ahead=2).prefetch == 2


def test_old_names_of_the_average_and_the_rate_serve_with_a_warning(tmp_path):
    run = trainer(tmp_path)
    with pytest.warns(DeprecationWarning, match="average is now ema"):
        assert run.average is run.ema
    with pytest.warns(DeprecationWarning, match="rate is now lr_scale"):
        assert run.config.rate(3) == run.config.lr_scale(3)
    factors = preconditioning(run.prior.schedule, torch.tensor([3]), torch.zeros(1, 10), 0.1)
    for old, new in (("enter", "c_in"), ("skip", "c_skip"), ("out", "c_out")):
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(factors, old) is getattr(factors, new)
