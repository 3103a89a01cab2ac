"""The pocket benchmark with closed-form priors: order of work, budget, resuming, every block, Table 3's clips, NMF."""

import shutil
import sys

import pytest
import torch
from test_separator_training import TASNET

import unasdiff_teach as ut
from unasdiff_teach.data.mixing import TASKS
from unasdiff_teach.data.pocket_corpus import LABELS
from unasdiff_teach.evaluation import Run, benchmark, load_results, methods
from unasdiff_teach.evaluation.benchmark import NAMES, TABLE3, Block, Systems, block, measure, mixtures_of, order, table3_block


class Tilted:
    """A Gaussian prior of low (speech) or high (sound) frequencies for whatever N, with the labels of the pocket prior."""

    def __init__(self, kind):
        self.labels = () if kind == "speech" else LABELS["sound"]
        self.unconditional, self.sample_rate, self.kind = len(self.labels), 8000, kind
        self.schedule, self.known = ut.NoiseSchedule.linear(), {}

    def __call__(self, x_t, t, label=None):
        N = x_t.shape[-1]
        if N not in self.known:
            k = torch.linspace(0, 1, N // 2 + 1)
            power = 1e-5 + 0.05 * torch.exp(-20 * (k if self.kind == "speech" else 1 - k))
            self.known[N] = ut.priors.StationaryGaussian(power, N, self.schedule)
        return self.known[N](x_t, t)


@pytest.fixture
def exact(monkeypatch):
    """Closed-form priors and a fixed tuning instead of the shipped ones."""
    systems = Systems({kind: Tilted(kind) for kind in ("speech", "sound")}, Tilted("sound"), [])
    monkeypatch.setattr(Systems, "shipped", lambda: systems)
    monkeypatch.setattr(benchmark, "tune", lambda rule, folder, loaded: benchmark.DEFAULTS[rule])
    short, recommended = ut.SeparationConfig.short, ut.SeparationConfig.recommended
    monkeypatch.setattr(ut.SeparationConfig, "short", lambda guidance=None: short(guidance).replace(steps=6))
    monkeypatch.setattr(ut.SeparationConfig, "recommended", lambda: recommended().replace(steps=3, hypotheses=2))


def cheap(name="cheap", tasks=("2 sounds", "2 speech"), seeds=(0,)):
    return Block(name, lambda task: [methods.unprocessed()], tasks, seeds)


def test_a_few_mixtures_of_everything_come_before_more_of_anything():
    work = [(b.folder, task, last) for b, task, _, last in order([cheap("a"), cheap("b")], 6)]
    assert work[:4] == [("a", "2 sounds", 1), ("a", "2 speech", 1), ("b", "2 sounds", 1), ("b", "2 speech", 1)]
    assert [last for _, _, last in work] == [n for n in (1, 4, 6) for _ in range(4)]
    assert [last for *_, last in order([cheap(tasks=("2 speech",))], 1)] == [1]


def test_a_spent_budget_begins_nothing_and_the_same_command_goes_on(tmp_path, capsys):
    assert not measure([cheap()], tmp_path, count=2, budget=0)
    assert not (tmp_path / "cheap").exists() and "stopped before cheap, 2 sounds" in capsys.readouterr().out
    assert measure([cheap(seeds=(0, 3))], tmp_path, count=2)
    first = Run(tmp_path / "cheap").results()
    assert len(first) == 2 * 2 * 2 * 2 and set(first["seed"]) == {0, 3}  # tasks, mixtures, sources, seeds
    assert measure([Block("cheap", lambda task: [methods.Method("unprocessed", None)], cheap().tasks)], tmp_path, count=2)
    assert Run(tmp_path / "cheap").results().equals(first), "what is stored is not made again"


def test_what_is_missing_is_named_once_and_left_out(tmp_path, capsys):
    def absent(task):
        raise benchmark.Missing("no weights")

    assert measure([Block("absent", absent, ("2 speech",)), cheap()], tmp_path, count=2)
    assert capsys.readouterr().out.count("left out: absent, 2 speech: no weights") == 1
    assert len(Run(tmp_path / "cheap").results())


@pytest.mark.slow
def test_every_system_works_on_its_tasks(tmp_path, exact, monkeypatch):
    """All but the experts and NMF, which have tests of their own; the 200-step defaults on one task."""
    monkeypatch.setattr(benchmark, "ROUNDS", ())
    blocks = [block(name, tmp_path) for name in NAMES if name not in ("supervised", "nmf")]
    blocks = [Block(b.folder, b.methods, ("2 sounds",)) if b.folder in benchmark.DEFAULTS else b for b in blocks]
    assert measure(blocks, tmp_path, count=1)
    assert measure([table3_block(name, tmp_path) for name in TABLE3], tmp_path, count=1)
    written = benchmark.collect(tmp_path, tmp_path / "results")
    assert [path.name for path in written] == ["pocket_benchmark.parquet", "pocket_table3.parquet"]
    two, three = map(load_results, written)

    everywhere = {
        "unprocessed", "oracle binary", "oracle ratio", "oracle wiener", "recommended", "dirac", "hybrid tuned", "dsg tuned",
        "dps tuned", "analytical", "analytical 1/K",
    }  # fmt: skip
    for task in TASKS:
        assert everywhere <= set(two[two["task"] == task]["method"]), task
    assert {"hybrid", "dsg", "dps"} <= set(two[two["task"] == "2 sounds"]["method"])
    calls = two.groupby("method")["network_calls"].first()
    assert calls["hybrid"] == calls["dirac"] == 200 and calls["analytical"] == 349 and calls["recommended"] == 6
    assert set(two[two["seed"] == 1]["task"]) == set(two[two["seed"] == 2]["task"]) == set(benchmark.SEED_TASKS)
    mean = two[two["seed"] == 0].groupby(["task", "method"])["si_sdr"].mean().unstack()
    assert mean["oracle ratio"].min() > 3 and mean["unprocessed"].loc["2 sounds"] == pytest.approx(0, abs=3.5)
    # 1/K and the authors' constants are the same for two sources, and not for three.
    same = (mean["analytical 1/K"] - mean["analytical"]).abs() < 0.2
    assert same["2 sounds"] and same["1 speech + 1 sound"] and not same["3 sounds"]

    assert set(three["method"]) == set(TABLE3) and set(three["task"]) == set(benchmark.LENGTHS)
    assert (three[three["method"] == "analytical"]["network_calls"] == 200).all()
    score = three.groupby("method")["si_sdr"].mean()
    assert score["hybrid"] != score["diffwave hybrid"], "each reads its own prior"


def test_results_that_are_not_there_are_an_empty_table(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    assert measure([cheap("ceilings")], tmp_path / "runs", count=1)
    benchmark.collect(tmp_path / "runs", tmp_path)
    assert len(benchmark.stored("benchmark")) == 4 and len(benchmark.stored("table3")) == 0
    assert list(benchmark.stored("table3").columns) == list(benchmark.stored("benchmark").columns)


def test_clips_of_table_3_are_the_middle_of_the_mixtures():
    whole, one, two = (mixtures_of(task, 20) for task in ("2 speech", "2 speech, 1 s", "2 speech, 2 s"))
    for w, a, b in zip(whole, one, two, strict=True):
        assert torch.equal(a.sources, w.sources[:, 4000:12000]) and torch.equal(b.mixture, w.mixture)
        assert torch.allclose(a.sources.sum(0), a.mixture, atol=1e-6)
        assert a.sources.square().mean(-1).min() > 1e-5, "a silent speaker cannot be scored"
    assert len({m.id for m in [*whole, *one, *two]}) == 60


def test_the_sampler_follows_the_type_of_the_configuration():
    mixtures = mixtures_of("2 sounds", 1)
    prior = Tilted("sound")
    made = methods.sampling("dirac", {"sound": prior}, ut.DiracConfig(steps=5), schedule=None).separate(mixtures, [7])
    own = ut.separate_dirac(mixtures[0].mixture[None], prior, [list(mixtures[0].labels)], None, ut.DiracConfig(steps=5), [7])
    assert torch.equal(made[0], own.sources) and made[1] == 5


class Expert(torch.nn.Module):
    """Gives the mixture back."""

    kinds, sample_rate = ("sound", "sound"), 8000

    def __init__(self):
        super().__init__()
        self.net = ut.networks.ConvTasNet(TASNET)

    def forward(self, mixture):
        return torch.stack([mixture, mixture], 1)


@pytest.mark.parametrize("trained", [[], [Expert()]])
def test_experts_are_those_that_were_trained(trained):
    supervised = block("supervised", None, Systems({}, None, trained))
    with pytest.raises(benchmark.Missing, match="2 speech"):
        supervised.methods("2 speech")
    if trained:
        (method,) = supervised.methods("2 sounds")
        estimates, _ = method.separate(mixtures_of("2 sounds", 2), [0, 0])
        assert method.name == "conv-tasnet" and estimates.shape == (2, 2, 16000)


def test_a_missing_library_or_prior_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    benchmark.dictionary_method.cache_clear()
    with pytest.raises(benchmark.Missing, match="scikit-learn"):
        block("nmf", tmp_path).methods("2 sounds")
    with pytest.raises(benchmark.Missing, match="no DiffWave prior"):
        table3_block("diffwave hybrid", tmp_path, Systems({}, None, [])).methods("2 speech, 1 s")


def test_systems_of_a_folder(tmp_path, monkeypatch, capsys):
    """What chapter 12 trains is read by its names; a folder without a prior of sounds is refused."""
    for name in ("speech", "sound", "diffwave-speech", "conv-tasnet-sound-sound"):
        folder = benchmark.separators.shipped.WEIGHTS if "tasnet" in name else benchmark.shipped.WEIGHTS
        shutil.copy(folder / f"pocket-{name}.safetensors", tmp_path / f"{name}.safetensors")
    (tmp_path / "joint.safetensors").write_bytes(b"")
    found, shipped = Systems.read(tmp_path), Systems.shipped()
    assert found.priors["sound"].labels == LABELS["sound"] and [s.kinds for s in found.separators] == [("sound", "sound")]
    assert type(found.diffwave.net) is type(shipped.diffwave.net) and len(shipped.separators) == 4
    ours, theirs = (block("dirac", tmp_path, systems).methods("2 sounds")[0] for systems in (found, shipped))
    assert ours.settings == theirs.settings, "the same weights"
    (tmp_path / "sound.safetensors").unlink()
    monkeypatch.setattr(sys, "argv", ["benchmark", "measure", "--systems", str(tmp_path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "sound.safetensors" in capsys.readouterr().err


def test_nmf_separates_by_spectrum_and_refuses_sources_alike():
    from unasdiff_teach.evaluation.nmf import Dictionaries

    n = torch.arange(16000)
    low, high = (0.1 * torch.sin(w * n) for w in (0.3, 1.4))
    dictionaries = Dictionaries({"low": [low], "high": [high]}, {"low": 2, "high": 2})
    found = dictionaries.separate(0.7 * low + high, ["low", "high"])
    assert ut.si_sdr(found, torch.stack([low, high])).min() > 20
    assert ut.si_sdr(dictionaries.separate(low + high, ["high", "low"])[0], high) > 20
    with pytest.raises(ValueError, match="low, low"):
        dictionaries.separate(low, ["low", "low"])


def test_unknown_methods_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "measure", "hybird"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "unknown: hybird" in capsys.readouterr().err
