"""The benchmark: its forms compute the same, and its numbers are what they say."""

from __future__ import annotations

import json
import math
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from unasdiff_teach import bench, cost
from unasdiff_teach.evaluation.experiments import RESULTS
from unasdiff_teach.networks import TriplePathConfig
from unasdiff_teach.networks.budget import flops
from unasdiff_teach.precision import PRECISIONS
from unasdiff_teach.separation import SeparationConfig, separate

TINY = TriplePathConfig(
    n_fft=62, hop=31, channels=8, embedding=16, heads=2, depths=(1, 1, 1, 1, 1), sub_bands=2, squeezed=4, patch=(2, 2)
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(bench.NETWORKS, "pocket", (lambda: TINY, 8000))


def drawn(kind, i, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(17 * i + len(kind)))


@pytest.mark.parametrize("K", [1, 2, 3])
def test_the_plain_form_is_algorithm_1(K):
    plain, fast, checkpointed = (bench._prior(TINY, form) for form in ("plain", "fast", "checkpointed"))
    mixture = 0.1 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    schedule = fast.schedule.respace(6)
    slow = bench.plain_separate(mixture, plain, K, schedule, drawn)
    for prior in (fast, checkpointed):
        sources = separate(mixture, prior, [None] * K, schedule, SeparationConfig.authors(), drawn).sources
        assert torch.allclose(slow, sources, atol=1e-4), (slow - sources).abs().max()
    assert slow.std() > 0.05


def test_the_plain_form_keeps_the_weights_of_its_attention():
    """They are tensors of their own there, for every pair of frames, and in the fused form none is."""
    x, t = torch.randn(1, 1000), torch.tensor([50])
    kept = {}
    for form in ("plain", "fast"):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda a, sizes=sizes: sizes.append(tuple(a.shape)) or a, lambda a: a
        ):
            bench._prior(TINY, form)(x.clone().requires_grad_(), t)
        kept[form] = sizes.count((16, 2, 20, 20))  # bins, heads, frames of the first and the last level
    assert kept == {"plain": 2, "fast": 0}


@pytest.mark.slow
def test_a_step_of_training_learns_and_leaves_the_prior_as_it_was_made(tiny):
    config = bench.BenchConfig(
        "pocket", 0.2, (3,), modes=("training",), forms=("fast",), repeats=1
    )  # no mixtures: any number
    prior = bench._prior(TINY, "fast")
    step = bench._work(prior, "fast", "training", 3, config, torch.device("cpu"))
    losses = [float(step()) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert not any(p.requires_grad or p.grad is not None for p in prior.parameters())
    table = bench.measure(config)
    assert list(table["form"]) == ["fast"] and (table["gflop"] * 1e9 == flops(TINY, 1600, "training")).all()
    with pytest.raises(ValueError, match="a batch of 3"):
        bench.BenchConfig(batches=(3,), modes=("guided",))


@pytest.mark.slow
def test_rows_say_what_they_measure(tiny, tmp_path):
    config = bench.BenchConfig("pocket", 0.5, (1, 2), modes=("forward", "guided"), repeats=2)
    seen = []
    table = bench.measure(config, report=seen.append)
    assert [(r["mode"], r["batch"], r["form"]) for r in seen] == [
        (mode, batch, form)
        for mode, forms in (("forward", ("plain", "fast")), ("guided", ("plain", "fast", "checkpointed")))
        for batch in (1, 2)
        for form in forms
    ]
    assert (table["source_steps_per_second"] * table["seconds"]).to_numpy() == pytest.approx(table["batch"].to_numpy())
    facts = table.attrs["facts"]
    given = table["cpu_seconds"] / torch.get_num_threads()
    peak = table["gflop"] * table["batch"] / given / table["mfu"] / 1e3
    assert peak.to_numpy() == pytest.approx([facts["peak_tflops"]] * len(table))
    roofline = cost.Roofline(1e12 * facts["peak_tflops"], 1e9 * facts["copy_gb_per_second"])
    for row, seconds in zip(seen, given, strict=True):
        costs = {kind: cost.Cost(1e9 * row[f"gflop_{kind}"], 1e9 * row[f"gb_{kind}"]) for kind in cost.KINDS}
        assert row["limit_seconds"] == pytest.approx(roofline.limit(costs.values()))
        assert row["roofline"] == pytest.approx(row["limit_seconds"] / seconds)
        assert max(roofline.alone(costs[row["dominant"]])) == max(max(roofline.alone(c)) for c in costs.values())
        executed = sum(c.flop for c in costs.values()) / row["batch"] / row["gflop"] / 1e9
        assert (
            0.9 < executed < (2 if row["form"] == "checkpointed" else 1.5)
        )  # attention's weights are computed again, too
    assert table["gflop"].iloc[0] * 1e9 == flops(TINY, 4000, "forward")
    plain = table[table["form"] == "plain"].set_index(["mode", "batch"])["seconds"]
    for row in seen:
        assert row["speedup"] == pytest.approx(plain[row["mode"], row["batch"]] / row["seconds"])
    peak = table.set_index(["mode", "batch", "form"])["peak_gb"]
    assert 0 < peak["guided", 1, "checkpointed"] < peak["guided", 1, "fast"] < peak["guided", 1, "plain"] < 1
    alone = bench.measure(replace(config, forms=("fast",), repeats=1)).set_index(["mode", "batch", "form"])["peak_gb"]
    assert all(peak[case] == size for case, size in alone.items()), (
        "the memory of a form depends on what else is measured"
    )
    for name in ("t.json", "t.parquet"):
        bench.write(table, tmp_path / name)
    stored = json.loads((tmp_path / "t.json").read_text())
    assert (
        len(stored["rows"]) == 10
        and {"processor", "threads", "load", "torch", "peak_tflops", "repeats"} <= stored["facts"].keys()
    )
    again = pd.read_parquet(tmp_path / "t.parquet")
    assert list(again["form"]) == list(table["form"]) and {"processor", "threads", "peak_tflops"} <= set(again.columns)
    with pytest.raises(ValueError, match=r"\.json or \.parquet"):
        bench.write(table, tmp_path / "t.csv")


def test_memory_is_that_of_the_call_alone():
    held = torch.ones(30_000_000)  # 120 MB that are there before do not count, nor do 200 MB that are gone again
    torch.ones(50_000_000).sum()
    peak = bench._peak(lambda: torch.ones(25_000_000).sum(), torch.device("cpu"))
    assert peak == 1e8 + 4 and len(held)
    assert math.isnan(bench._peak(lambda: None, torch.device("meta")))


@pytest.mark.slow
def test_a_process_that_ends_is_named(tiny):
    config = bench.BenchConfig("pocket", 0.2, (1,))
    case = bench._Case(config, TINY, "fast", "forward", 1, "cpu")
    with (
        ExitStack() as stack,
        pytest.raises(RuntimeError, match="the process of the form 'fast' ended in mode 'forward'"),
    ):
        bench._Processes(["fast"], stack)(_die, case)


def _die(case):
    os._exit(1)  # as when the system stops it


def test_the_usual_mfu_is_the_measured_one():
    table = pd.read_parquet(RESULTS / "gpu_bench.parquet")
    trained = table[(table["mode"] == "training") & (table["form"] == "fast")].set_index("precision")
    for precision, row in trained.iterrows():
        assert row["source_steps_per_second"] * row["gflop"] / 1e3 / row["peak_tflops"] == pytest.approx(
            row["mfu"], rel=1e-6
        )
        assert cost.usual_mfu("cuda", PRECISIONS[precision]) == pytest.approx(row["mfu"], abs=0.005)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "huge"}, "scale is 'huge'; accepted: paper, pocket"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"forms": ("fast", "magic")}, "forms has magic"),
        ({"modes": ("sideways",)}, "modes has sideways"),
        ({"batches": (1, 3)}, "a batch of 3 is not a number of mixtures of 2 sources"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        bench.BenchConfig(**change)


@pytest.mark.slow
def test_the_command_shows_its_cost_and_writes(tiny, tmp_path):
    from typer.testing import CliRunner

    from unasdiff_teach.cli import app

    words = [
        "bench",
        "--scale",
        "pocket",
        "--seconds",
        "0.2",
        "--batch",
        "2",
        "--mode",
        "guided",
        "--form",
        "fast",
        "--repeats",
        "1",
        "--profile",
    ]
    words += ["--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "b.json")])
    assert done.exit_code == 0, done.output
    config = bench.BenchConfig("pocket", 0.2, (2,), modes=("guided",), forms=("fast",), repeats=1, profile=True)
    total = (
        2 * bench.STEPS * 4 * flops(TINY, 1600, "guided")
    )  # sources, steps; calls for operations, memory, time, kernels
    assert config.total_flops() == total and f"{total / 1e12:.3g} TFLOP to do" in done.output
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    fast = rows[0]["kernels"]
    assert len(rows) == 1 and len(fast) == bench.TOP
    assert fast == sorted(fast, key=lambda kernel: -kernel["seconds"]) and 0.2 < sum(k["fraction"] for k in fast) <= 1
    assert "a step of fast, guided, batch 2" in done.output and f"most of it {rows[0]['dominant']}" in done.output
    assert f"{fast[0]['calls']} x {fast[0]['name']}" in done.output
    for wrong, message in ((["--out", "b.csv"], "must end in .json or .parquet"), (["--batch", "3"], "batch of 3")):
        done = CliRunner().invoke(app, [*words, *wrong])
        assert done.exit_code == 1 and message in done.output
    assert Path("b.csv").exists() is False
    assert "unasdiff-teach bench --device cuda" in CliRunner().invoke(app, ["bench", "--help"]).output


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    table = pd.DataFrame({"seconds": [1.0]})
    table.attrs["facts"] = {"device": "cpu"}
    for name in ("bench.json", "bench.parquet"):
        bench.write(table, tmp_path / name)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]

    def full(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    monkeypatch.setattr(Path, "write_text", lambda self, *words, **more: full(None, self))
    for name in ("bench.json", "bench.parquet"):
        with pytest.raises(OSError, match="disk full"):
            bench.write(table, tmp_path / name)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before
