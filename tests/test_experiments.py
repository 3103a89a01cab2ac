"""The experiments behind the book's tables: what they name, that stored results are theirs, and that they can be made
again.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from helpers import TASNET
from typer.testing import CliRunner

import unasdiff_teach as ut
from unasdiff_teach import NoiseSchedule, SeparationConfig, data, evaluation, priors, separate, separators
from unasdiff_teach.cli import app
from unasdiff_teach.data.mixing import SPEECH_SOUND, TASKS
from unasdiff_teach.data.pocket_corpus import LABELS
from unasdiff_teach.evaluation import choice, experiments, lists, methods, systems
from unasdiff_teach.evaluation.experiments import (
    EXPERIMENTS,
    GRID,
    SEEDS,
    Trained,
    ablations,
    best,
    beyond,
    measure,
    plans,
    shipped,
)
from unasdiff_teach.evaluation.settings import BASE, TUNED, TWO_VOICES, tried
from unasdiff_teach.evaluation.systems import SHORT, T_STARS, Systems
from unasdiff_teach.networks import TriplePathConfig
from unasdiff_teach.priors.neural import PriorConfig

ROWS = ablations()
PAPER = set(evaluation.paper_table(4)["method"])
CHECKSUM = re.compile(r"(?:prior|separator) (\w{8})")
MADE = [name for name in EXPERIMENTS if name != "real"]


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


# --------------------------------------------------------------------------------------------------- stored results


def words(settings):
    """What settings say before they come to networks: the configuration."""
    return re.split(r"(?:, )?(?:\w+ prior|separator) \w{8}", settings)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_stored_results_are_those_of_the_experiment_and_of_the_shipped_weights(name):
    """Every method, task and seed that it names, and no other; the configuration in words; the checksums of the
    networks.
    """
    stored, named = shipped(name), set()
    for job in plans(name, "nowhere"):
        loaded = job.systems()
        for task in job.tasks or lists.sizes(job.mixtures):
            for method in (job.method(loaded, method, task) for method in job.methods):
                where = task if job.seconds is None else f"{task}, {job.seconds:g} s"
                key = {"method": method.name, "preset": method.preset, "task": where, "seed": job.seed}
                rows = stored[(stored[list(key)] == pd.Series(key)).all(axis=1)]
                if job.known and rows.empty:
                    continue  # no mixture of this task has known classes alone
                named.add(tuple(key.values()))
                (settings,) = rows["settings"].unique()
                # older results name all priors, and say less of them in brackets
                assert set(CHECKSUM.findall(settings)) >= set(CHECKSUM.findall(method.settings)), key
                assert words(settings) == words(method.settings), key
                assert rows["mixture"].nunique() == len(rows) // len(TASKS[task]), key
                whole = job.count or lists.sizes(job.mixtures)[task]
                assert job.known or rows["mixture"].nunique() == whole, key
    assert named == set(stored[["method", "preset", "task", "seed"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("task", TASKS)
def test_tuned_rules_are_the_best_of_the_shipped_grid_on_equal_mixtures(task):
    scores = shipped("tuning").query("task == @task")
    assert best(scores, task) == TUNED[task]
    table = scores.groupby(["mixture", "method"])["si_sdr"].mean().unstack()
    assert table.notna().all().all() and len(table) == 12
    for rule, grid in GRID.items():
        names = [tried(rule, guidance)[0] for guidance in grid]
        assert table[names].mean().idxmax() == tried(rule, TUNED[task][rule])[0]
        assert len(names) == 9
    with pytest.raises(ValueError, match=f"no mixture of '{re.escape(task)}' was scored with all 9 settings of 'dsg'"):
        best(scores[scores["method"] != str(TUNED[task]["dsg"])], task)


def test_short_rules_are_those_of_one_voice_and_one_sound():
    assert {rule: TUNED[SPEECH_SOUND][rule] for rule in SHORT} == SHORT and set(SHORT) == set(systems.RULES)
    for rule, guidance in SHORT.items():
        assert systems.setting(rule, "short").config == SeparationConfig.short(guidance)


def test_all_settings_are_tuned_on_the_same_mixtures():
    jobs = plans("tuning", "nowhere")
    names = [tried(rule, guidance)[0] for rule, grid in GRID.items() for guidance in grid]
    assert [job.tasks for job in jobs] == [(task,) for task in TASKS] and len(set(names)) == 5 * 9
    assert all(list(job.methods) == names and job.mixtures == "pocket validation" for job in jobs)


def test_the_rule_of_dps_divides_by_the_norm_of_the_residual():
    """`tried("dps, time")` against the rule as it was published: zeta / ||r|| times the gradient of ||r||^2."""
    zeta, y = 0.5, torch.randn(1, 256, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 2, 256, generator=torch.Generator().manual_seed(1)).requires_grad_()
    _, config = tried("dps, time", ut.DPS(scale=2 * zeta))
    residual = y - x.sin().sum(1)
    (gradient,) = torch.autograd.grad(residual.square().sum(), x, retain_graph=True)
    estimates = ut.guidance.Estimates(y, x, x.sin(), 1, NoiseSchedule.linear(), 1.0, config.loss)
    direction = config.guidance.direction(estimates)
    moved, gamma = config.guidance.step(0 * x, 0 * x, direction, direction.norm(dim=-1), 1, NoiseSchedule.linear())
    torch.testing.assert_close(moved, -zeta / residual.norm() * gradient)


def test_six_runs_are_the_best_of_the_shares_on_equal_mixtures():
    table = evaluation.per_mixture(shipped("recorded-tuning"))["value"].unstack("method")
    assert set(table) == set(experiments.SHARES) and table.notna().all().all() and len(table) == 5 * 12
    assert table.mean().idxmax() == experiments.SIX


def test_sources_of_one_kind_have_the_best_of_the_starts_on_equal_mixtures():
    """And not by chance: clearly above `recommended()` after Holm's correction."""
    whole = shipped("two-voices").query("task == '2 speech'")
    table = evaluation.per_mixture(whole, by=("method",))["value"].unstack("method")[list(TWO_VOICES)]
    assert table.notna().all().all() and len(table) == 24
    chosen = table.mean().idxmax()
    assert TWO_VOICES[chosen] == SeparationConfig.recommended(alike=True)
    apart = {name: evaluation.differences(whole, name, "recommended") for name in TWO_VOICES if name != "recommended"}
    assert evaluation.evidence(apart, 0.5).loc[chosen, "verdict"] == "higher"


def test_new_results_do_not_change_what_is_computed(monkeypatch, tmp_path):
    before = systems.setting("hybrid", "short")
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    assert systems.setting("hybrid", "short") == before
    empty = shipped("table-3")
    assert len(empty) == 0 and list(empty.columns) == list(evaluation.run.COLUMNS)


# --------------------------------------------------------------------------------------------- Table 4 and chapter 14


def test_every_row_of_the_papers_table_is_there_under_its_name():
    assert PAPER <= set(ROWS)
    assert ROWS["hybrid"] == BASE and ROWS["hybrid, s_floor=0.004"] == SeparationConfig.short()
    assert BASE.guidance.s_floor == ut.Hybrid.paper().s_floor, "the paper's floor"
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
    job, *_ = plans("table-4", "nowhere")
    rows = {name: own.config for name, own in job.own.items() if name.startswith("recommended, ")}
    base = job.own["recommended"].config
    assert base == SeparationConfig.recommended()
    assert {name.removeprefix("recommended, t*=") for name in rows} == {
        str(t) for t in (200, *T_STARS) if t != base.init_step
    }
    assert all(changed(base, config) <= {"init", "init_step"} for config in rows.values())


def test_all_rows_of_table_4_have_three_seeds():
    jobs = plans("table-4", "nowhere")
    assert [job.seed for job in jobs] == [0, 1, 2] and len({job.methods for job in jobs}) == 1


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


def test_each_step_of_the_way_is_one_change_and_the_last_is_recommended():
    gradients, shares = beyond()["gradients"], beyond()["shares"]
    short = gradients.pop("short")
    assert short == SeparationConfig.short()
    expected = [{"project"}, {"start"}, {"spacing"}, {"init_step"}]
    assert [changed(short, config) for config in gradients.values()] == expected
    steps = list(shares.values())
    assert [changed(a, b) for a, b in zip(steps, steps[1:], strict=False)] == [
        {"init_step"},
        {"renoise"},
        {"steps"},
        {"hypotheses"},
    ]
    assert steps[-1] == SeparationConfig.recommended()
    for name, config in beyond()["around"].items():
        assert 1 <= len(changed(steps[-1], config)) <= 2, name
        assert config.steps * config.hypotheses == 40, "it costs what recommended() costs"


# ------------------------------------------------------------------------------------------------- choice, clips, NMF


@pytest.fixture(scope="module")
def tiny():
    """Untrained priors, which know no label."""
    network = TriplePathConfig.pocket().replace(channels=8, embedding=16, heads=2, depths=(1, 1, 1, 1, 1), patch=(8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            kind: PriorConfig(8000, network=network, target="preconditioned").build() for kind in ("speech", "sound")
        }


def test_prior_error_is_least_for_what_the_prior_knows():
    """A prior that is sure of a shape denoises it better than another one."""
    n = torch.arange(2000)
    known, other = torch.sin(0.3 * n), torch.sin(1.1 * n)

    class Knows:
        schedule, labels, unconditional, sigma_data = NoiseSchedule.linear(), (), 0, 1.0

        def __call__(self, x_t, t, label):
            """The noise, if the clean signal is `known` at power 1."""
            alpha_bar = self.schedule.at(self.schedule.alpha_bar, t, x_t)
            x0 = known / known.square().mean().sqrt()
            return (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()

    sources = 0.05 * torch.stack([torch.stack([known, known]), torch.stack([known, other])])  # [B, K, N]
    errors = choice.prior_error([Knows(), Knows()], sources, [[None, None], [None, None]], seed=0)
    assert errors[0] < 1e-6 < 0.01 < errors[1]


def test_the_choice_in_hindsight_is_never_worse_and_the_first_is_one_run(tiny):
    mixtures = [
        dataclasses.replace(m, mixture=m.mixture[:4000], sources=m.sources[:, :4000], labels=(None, None))
        for m in data.mixtures(SPEECH_SOUND, "validation", 2)
    ]
    config = SeparationConfig.recommended().replace(steps=2, hypotheses=3)
    first, blind, hindsight = (make(name, tiny, config) for name, make in choice.HYPOTHESES.items())
    truth, seeds = torch.stack([m.sources for m in mixtures]), [3, 4]
    scores = {}
    for method in (first, blind, hindsight):
        estimates, calls = method.separate(mixtures, seeds)
        assert calls == 6
        scores[method.name] = ut.si_sdr(estimates, truth).mean(-1)
    assert (scores[hindsight.name] >= torch.maximum(scores[first.name], scores[blind.name])).all()
    assert scores[hindsight.name].sum() > scores[first.name].sum(), "three runs are alike"
    y, labels = torch.stack([m.mixture for m in mixtures]), [[None, None]] * 2
    alone = separate(y, list(tiny.values()), labels, config=config.replace(hypotheses=1), noise=seeds).sources
    torch.testing.assert_close(first.separate(mixtures, seeds)[0], alone)


def test_the_best_orders_mend_what_was_exchanged_and_nothing_else(tiny, monkeypatch):
    """Sources that change places from frame to frame are found again; an error that stays in its place is kept."""
    mixtures = data.mixtures("2 speech", "validation", 2)
    truth = torch.stack([m.sources for m in mixtures])
    size = round(choice.FRAME * mixtures[0].sample_rate)
    frames = list(truth.split(size, -1))
    frames[1::2] = [frame.flip(1) for frame in frames[1::2]]
    exchanged = torch.cat(frames, -1)
    error = 0.01 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(methods, "separate", lambda *_, **__: SimpleNamespace(sources=exchanged + error, calls=40))
    estimates, calls = choice.in_the_best_orders("orders", tiny).separate(mixtures, [0, 1])
    assert calls == 40
    torch.testing.assert_close((estimates - truth).square().sum(), error.square().sum(), rtol=1e-3, atol=0)


def test_clips_of_table_3_are_the_middle_of_the_mixtures():
    whole, one, two = (lists.load("pocket", "2 speech", count=20, seconds=seconds) for seconds in (None, 1.0, 2.0))
    for w, a, b in zip(whole, one, two, strict=True):
        assert torch.equal(a.sources, w.sources[:, 4000:12000]) and torch.equal(b.mixture, w.mixture)
        assert torch.allclose(a.sources.sum(0), a.mixture, atol=1e-6)
        assert a.sources.square().mean(-1).min() > 1e-5, "a silent speaker cannot be scored"
    assert len({m.id for m in [*whole, *one, *two]}) == 60


def test_lists_of_the_package_are_told_apart():
    assert len({lists.fingerprint(name) for name in lists.NAMED}) == len(lists.NAMED)
    assert lists.sizes("recorded") == dict.fromkeys(TASKS, 40) and lists.sizes("recorded validation") == dict.fromkeys(
        TASKS, 24
    )
    assert lists.sizes("pocket")[SPEECH_SOUND] == 40 and lists.corpus("recorded validation") == "recorded"
    assert lists.corpus("recorded-mine/lists") == lists.corpus("recorded/") == "rendered"


def test_nmf_separates_by_spectrum_and_refuses_sources_alike():
    from unasdiff_teach.evaluation.nmf import Dictionaries, nmf

    n = torch.arange(16000)
    low, high = (0.1 * torch.sin(w * n) for w in (0.3, 1.4))
    dictionaries = Dictionaries({"low": [low], "high": [high]}, {"low": 2, "high": 2})
    found = dictionaries.separate(0.7 * low + high, ["low", "high"])
    assert ut.si_sdr(found, torch.stack([low, high])).min() > 20
    assert ut.si_sdr(dictionaries.separate(low + high, ["high", "low"])[0], high) > 20
    with pytest.raises(ValueError, match="low, low"):
        dictionaries.separate(low, ["low", "low"])
    with pytest.raises(ValueError, match="no dictionary of 'owl'; there are low, high"):
        dictionaries.separate(low, ["low", "owl"])
    (mixture,) = lists.load("pocket", "2 sounds", count=1)
    with pytest.raises(ValueError, match="is at 16000 Hz; the dictionaries are at 8000 Hz"):
        nmf(lambda: dictionaries).separate([dataclasses.replace(mixture, sample_rate=16_000)], [0])
    with pytest.raises(ValueError, match="tells no two speakers of '2 speech' apart"):
        Systems({}).method("nmf", "2 speech")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    systems.dictionaries.cache_clear()
    with pytest.raises(ImportError, match="scikit-learn"):
        Systems({}).method("nmf", "2 sounds")


# ------------------------------------------------------------------------------------------------ networks, measuring


class Tilted:
    """A Gaussian prior of low (speech) or high (sound) frequencies for whatever N, with the labels of the pocket
    prior.
    """

    def __init__(self, kind):
        self.labels = () if kind == "speech" else LABELS["sound"]
        self.unconditional, self.sample_rate, self.kind = len(self.labels), 8000, kind
        self.schedule, self._known = NoiseSchedule.linear(), {}

    def __call__(self, x_t, t, label=None):
        N = x_t.shape[-1]
        if N not in self._known:
            k = torch.linspace(0, 1, N // 2 + 1)
            power = 1e-5 + 0.05 * torch.exp(-20 * (k if self.kind == "speech" else 1 - k))
            self._known[N] = priors.StationaryGaussian(power, N, self.schedule)
        return self._known[N](x_t, t)


@pytest.fixture
def exact(monkeypatch):
    """Closed-form priors for the shipped ones, and few steps."""
    closed = {kind: Tilted(kind) for kind in ("speech", "sound")}
    monkeypatch.setattr(Systems, "load", classmethod(lambda cls, *_, **__: cls(closed)))
    short, recommended = SeparationConfig.short, SeparationConfig.recommended
    monkeypatch.setattr(SeparationConfig, "short", lambda guidance=None: short(guidance).replace(steps=6))
    monkeypatch.setattr(SeparationConfig, "recommended", lambda: recommended().replace(steps=3, hypotheses=2))
    return Trained(diffwave=None, separators=())


@pytest.mark.slow
def test_table_2_can_be_made_again(tmp_path, exact):
    """Every sampler on its tasks; the 200-step defaults, experts and NMF have tests of their own."""
    names = {m for job in plans("table-2", tmp_path, exact) for m in job.methods} - {"hybrid", "dsg", "dps", "nmf"}
    found = measure("table-2", tmp_path, None, sorted(names - set(systems.NETWORKS)), 1, progress=False)
    everywhere = {
        "unprocessed", "oracle binary", "oracle ratio", "oracle wiener", "recommended", "dirac", "analytical",
        "analytical 1/K", *(f"{rule} tuned" for rule in GRID),
    }  # fmt: skip
    for task in TASKS:
        assert set(found[found["task"] == task]["method"]) == everywhere, task
    calls = found.groupby("method")["network_calls"].first()
    assert calls["dirac"] == 200 and calls["analytical"] == 349 and calls["recommended"] == 6
    again = {"recommended": set(TASKS), "hybrid tuned": set(experiments.WITH_SEEDS)}
    for seed in SEEDS[1:]:
        assert {name: set(x) for name, x in found[found["seed"] == seed].groupby("method")["task"]} == again
    mean = found[found["seed"] == 0].groupby(["task", "method"])["si_sdr"].mean().unstack()
    assert mean["oracle ratio"].min() > 3 and mean["unprocessed"].loc["2 sounds"] == pytest.approx(0, abs=3.5)
    # 1/K and the authors' constants are the same for two sources, and not for three.
    same = (mean["analytical 1/K"] - mean["analytical"]).abs() < 0.2
    assert same["2 sounds"] and same[SPEECH_SOUND] and not same["3 sounds"]
    same_table = pd.read_parquet(tmp_path / "results.parquet")
    pd.testing.assert_frame_equal(same_table, found)


@pytest.mark.slow
def test_table_4_goes_on_and_stands_beside_the_papers(tmp_path, exact, monkeypatch):
    chosen = ["hybrid", "hybrid, time", "hybrid, time+group", "hybrid, time+stft"]
    assert set(measure("table-4", tmp_path, exact, chosen[:1], 1, progress=False)["method"]) == {"hybrid"}
    table = measure("table-4", tmp_path, exact, chosen, 2, progress=False)
    assert set(table["method"]) == set(chosen) and table.groupby("method")["mixture"].nunique().eq(2).all()
    assert (table.groupby(["mixture", "seed"])["noise_seed"].nunique() == 1).all(), "one noise for all methods"
    assert set(table["seed"]) == set(SEEDS) and table["noise_seed"].nunique() == 2 * len(SEEDS)
    assert evaluation.compare(table, "hybrid, time", "hybrid")["n"].iloc[0] == 2
    beside = evaluation.beside_paper(table, 4).sort_index().xs((SPEECH_SOUND, "si_sdr"))
    assert beside["mean"].notna().sum() == 4 and len(beside) == 10
    monkeypatch.setattr(methods, "separate", lambda *_, **__: pytest.fail("measured again"))
    assert measure("table-4", tmp_path, exact, chosen, 2, progress=False).equals(table)


def test_other_networks_are_tuned_first(tmp_path, exact, monkeypatch):
    """Where an experiment has tuned rules, and with what that finds."""
    asked = []
    monkeypatch.setattr(
        experiments, "best", lambda scores, *which: asked.append(which) or {"hybrid": ut.Hybrid(s_floor=0.3)}
    )
    monkeypatch.setattr(experiments, "GRID", {rule: grid[:1] for rule, grid in GRID.items()})
    found = measure("table-2", tmp_path, exact, ["hybrid tuned"], 1, progress=False)
    assert asked == [(task, ["hybrid"]) for task in TASKS] and found["settings"].str.contains("s_floor=0.3").all()
    assert len(pd.read_parquet(tmp_path / "tuning" / "results.parquet")) == 12 * sum(map(len, TASKS.values()))
    measure("table-2", tmp_path / "more", exact, ["unprocessed"], 1, progress=False)
    assert len(asked) == len(TASKS)


class Expert(torch.nn.Module):
    """Gives the mixture back."""

    kinds, sample_rate = ("sound", "sound"), 8000

    def __init__(self):
        super().__init__()
        self.net = ut.networks.ConvTasNet(TASNET)

    def forward(self, mixture):
        return torch.stack([mixture, mixture], 1)


def test_experts_are_those_that_were_trained():
    trained = Systems({}, [Expert()])
    method = trained.method("conv-tasnet", "2 sounds")
    estimates, _ = method.separate(lists.load("pocket", "2 sounds", count=2), [0, 0])
    assert method.name == "conv-tasnet" and estimates.shape == (2, 2, 16000)
    with pytest.raises(ValueError, match="no separators are conv-tasnet for '2 speech'"):
        trained.method("conv-tasnet", "2 speech")
    names = [
        (m, task)
        for job in plans("table-2", "nowhere")
        for m in job.methods
        if m in systems.NETWORKS
        for task in job.tasks
    ]
    assert names == [(n, task) for n in systems.NETWORKS for task in TASKS]
    assert not [
        job for job in plans("table-2", "nowhere", Trained(separators=())) if set(job.methods) & set(systems.NETWORKS)
    ]


def test_networks_of_a_folder(tmp_path):
    """What chapter 12 trains is read by its names; a folder without a prior of sounds is refused."""
    for name in ("speech", "sound", "diffwave-speech", "conv-tasnet-sound-sound"):
        folder = separators.shipped.WEIGHTS if "tasnet" in name else priors.shipped.WEIGHTS
        shutil.copy(folder / f"pocket-{name}.safetensors", tmp_path / f"{name}.safetensors")
    (tmp_path / "joint.safetensors").write_bytes(b"")
    found, ours = Trained.folder(tmp_path), Trained()
    own, theirs = (
        Systems.load(t.priors, [w for w in t.separators if "tasnet-sound-sound" in w]) for t in (found, ours)
    )
    wave = [Systems.load([t.diffwave]).priors["speech"] for t in (found, ours)]
    for one, other in ((own.priors["sound"], theirs.priors["sound"]), (own.separators[0], theirs.separators[0]), wave):
        assert methods.fingerprint(one) == methods.fingerprint(other), "the same weights"
    assert len(found.separators) == 1 and own.priors["sound"].labels == LABELS["sound"]
    assert [job.priors for job in plans("table-3", "nowhere", found)][:2] == [found.priors, (found.diffwave,)]
    (tmp_path / "sound.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no sound.safetensors"):
        Trained.folder(tmp_path)


def test_the_sampler_follows_the_type_of_the_configuration():
    mixtures = lists.load("pocket", "2 sounds", count=1)
    prior = Tilted("sound")
    made = methods.sampling("dirac", {"sound": prior}, ut.DiracConfig(steps=5), schedule=None).separate(mixtures, [7])
    own = ut.separate_dirac(
        mixtures[0].mixture[None], prior, [list(mixtures[0].labels)], None, ut.DiracConfig(steps=5), [7]
    )
    assert torch.equal(made[0], own.sources) and made[1] == 5


# ---------------------------------------------------------------------------------------------------------- command


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command(tmp_path):
    options = ("--experiment", "table-2", "--method", "unprocessed", "--count", 1, "--out", tmp_path / "out")
    shown = command(*options, "--dry-run")
    assert (
        shown.exit_code == 0 and "5 separations, 0 of them stored" in shown.stdout and not (tmp_path / "out").exists()
    )
    done = command(*options)
    assert (
        done.exit_code == 0
        and done.stdout.splitlines()[-1] == f"5 separations are in {tmp_path / 'out' / 'results.parquet'}"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--experiment", "table-5"), "experiment is 'table-5'; accepted: tuning, table-2"),
        (("--experiment", "table-4", "--method", "hybird"), "table-4 has no method 'hybird'"),
        (("--experiment", "conflict", "--method", "cqt"), "conflict has no rule 'cqt'"),
        (("--experiment", "table-2", "--trained", "{tmp}"), "no speech.safetensors in"),
        (("--method", "hybrid", "--trained", "{tmp}"), "--trained goes with an experiment"),
        ((), "no method is given"),
        (("--experiment", "table-2", "--seed", 3, "--task", "2 sounds"), "'table-2' has its own --task, --seed"),
        (("--experiment", "conflict", "--device", "cuda"), "'conflict' has its own --device"),
    ],
)
def test_wrong_words_are_named(arguments, message, tmp_path):
    failed = command(*(str(a).format(tmp=tmp_path) for a in arguments), "--out", tmp_path / "out")
    assert failed.exit_code == 1 and message in failed.stderr and not (tmp_path / "out").exists()


def test_help_names_every_experiment():
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "400"}).stdout
    assert all(name in shown for name in (*EXPERIMENTS, "conflict"))
