"""Table 4 at pocket scale: one change for each row, the paper's names, one noise for all, and a run that goes on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unasdiff_teach import NoiseSchedule, SeparationConfig, data, evaluation, priors, separate
from unasdiff_teach.evaluation import ablations
from unasdiff_teach.evaluation.ablations import BASE, BLOCKS, T_STARS, configurations

ROWS = {name: config for block in BLOCKS if block != "recommended" for name, config in configurations(block).items()}
PAPER = set(evaluation.paper_table(4)["method"])


def changed(a, b, path: str = "") -> set[str]:
    """Dotted names of the fields in which two configurations differ."""
    found = set()
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if dataclasses.is_dataclass(x) and type(x) is type(y):
            found |= changed(x, y, f"{path}{field.name}.")
        elif x != y:
            found.add(path + field.name)
    return found


def test_every_row_of_the_papers_table_is_there_under_its_name():
    assert PAPER <= set(ROWS)
    assert ROWS["hybrid"] == BASE == SeparationConfig.short()
    assert BASE.init_step == 150 and BASE.start == "init_step"


@pytest.mark.parametrize("name", [name for name in ROWS if name != "hybrid"])
def test_a_row_differs_in_the_thing_that_names_it(name):
    what = name.removeprefix("hybrid, ")
    expected = {
        "t*=200": {"init", "init_step"},
        "time": {"loss.group", "loss.stft"},
        "time+group": {"loss.stft"},
        "time+stft": {"loss.group"},
        "independent noise": {"init_noise"},
        "loss as printed": {"loss.group_reduce", "loss.squared"},
        "sigma as printed": {"guidance.sigma_scale"},
        "norm of all sources": {"grad_norm"},
        "no clamp": {"clamp"},
        "mixture as it is": {"normalize"},
        "t*=150, from T": {"start"},
    }.get(what)
    if expected is None and what.startswith("t*="):
        expected = {"init_step", "start"} if "from T" in what else {"init_step"}
    assert changed(BASE, ROWS[name]) == (expected or {"guidance.s_floor"})
    for word in what.replace(",", "").split():
        kind, _, value = word.partition("=")
        if kind == "t*":
            assert ROWS[name].init_step == int(value)
        if kind == "s_floor":
            assert ROWS[name].guidance.s_floor == float(value)


def test_the_recommended_configuration_varies_in_t_star_alone():
    rows = configurations("recommended")
    base = rows.pop("recommended")
    assert base == SeparationConfig.recommended()
    assert {name.removeprefix("recommended, t*=") for name in rows} == {
        str(t) for t in (200, *T_STARS) if t != base.init_step
    }
    assert all(changed(base, config) <= {"init", "init_step"} for config in rows.values())


def no_noise(kind, i, shape):
    return torch.zeros(shape)


def test_every_t_star_takes_the_same_calls_and_begins_at_its_own_noise():
    """The state of Eq. 12 has the noise that the prior is told; with the loop of Algorithm 1 it has less."""
    s = NoiseSchedule.linear()
    y, prior = 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(0)), priors.Gaussian(std=0.1)
    time_loss = dataclasses.replace(BASE.loss, group=0.0, stft=0.0)
    for name in ("hybrid", *(f"hybrid, t*={t}" for t in T_STARS if t != 150), "hybrid, t*=150, from T"):
        first = []
        config = ROWS[name].replace(loss=time_loss, normalize="none")
        out = separate(y, [prior, prior], [None, None], s, config, no_noise, first.append)
        t = first[0].t
        gain = float((first[0].x_t[0] @ y) / (y @ y))
        assert out.calls == BASE.steps
        told = float(s.alpha_bar[t].sqrt())
        if "from T" in name:
            assert t == 199 and gain > told + 0.1
        else:
            assert t == config.init_step - 1 and gain == pytest.approx(told, abs=1e-5)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command with exact priors and few steps: calls it with arguments."""
    gaussians = {"speech": priors.Gaussian(std=0.1), "sound": priors.Gaussian(std=0.05)}
    monkeypatch.setattr(ablations, "pocket_priors", lambda: gaussians)
    monkeypatch.setattr(ablations, "BASE", BASE.replace(steps=4))
    monkeypatch.setattr(ablations, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ablations, "TABLE", tmp_path / "results" / "table.parquet")
    unlabelled = [dataclasses.replace(m, labels=(None, None)) for m in data.mixtures(ablations.TASK, "test", 2)]
    monkeypatch.setattr(ablations.data, "mixtures", lambda task, split, count: unlabelled[:count])

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["ablations", *arguments, "--folder", str(tmp_path / "run")])
        ablations.main()

    return run


def test_measure_goes_on_and_collect_writes_what_is_there(command, tmp_path, monkeypatch):
    command("measure", "hybrid", "--count", "1")
    command("collect")
    assert set(evaluation.load_results(ablations.TABLE)["method"]) == {"hybrid"}
    command("measure", "hybrid", "loss", "--count", "2")
    command("collect")
    table = evaluation.load_results(ablations.TABLE)
    assert set(table["method"]) == {"hybrid", "hybrid, time", "hybrid, time+group", "hybrid, time+stft"}
    assert table.groupby("method")["mixture"].nunique().eq(2).all()
    seeds = table.groupby("mixture")["noise_seed"].nunique()
    assert (seeds == 1).all(), "one noise for all methods"
    difference = evaluation.compare(table, "hybrid, time", "hybrid")
    assert difference["n"].iloc[0] == 2
    beside = evaluation.beside_paper(table, 4).sort_index().xs((ablations.TASK, "si_sdr"))
    assert beside["mean"].notna().sum() == 4 and len(beside) == 10

    monkeypatch.setattr("unasdiff_teach.evaluation.methods.separate", lambda *_, **__: pytest.fail("measured again"))
    command("measure", "hybrid", "loss", "--count", "2")


def test_an_unknown_block_is_named(command, capsys):
    with pytest.raises(SystemExit):
        command("measure", "loss", "colour")
    assert "colour" in capsys.readouterr().err
