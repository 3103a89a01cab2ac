"""`unasdiff-teach evaluate`: any number of processes, killed and gone on with, torchrun, every method, wrong inputs."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import LOCOFORMER, TASNET, TINY, journal
from typer.testing import CliRunner

import unasdiff_teach as ut
from unasdiff_teach._files import locked
from unasdiff_teach.cli import app
from unasdiff_teach.data import full_mixtures, write
from unasdiff_teach.data.mixing import TASKS, MixtureRules, synthesise
from unasdiff_teach.evaluation import evaluate, jobs, lists, load_results, systems
from unasdiff_teach.evaluation.job import device_of
from unasdiff_teach.evaluation.jobs import Job, check, plan, run
from unasdiff_teach.evaluation.run import ITEM, stored
from unasdiff_teach.networks import DiffWaveConfig
from unasdiff_teach.networks.budget import flops
from unasdiff_teach.priors import PriorConfig
from unasdiff_teach.separators import SeparatorConfig

RATE, LENGTH, COUNT = 8000, 1600, 5
BOTH = ("1 speech + 1 sound", "2 speech")


def clip(kind, index):
    """Noise that comes and goes; PESQ finds speech in it or not."""
    n = torch.arange(LENGTH)
    noise = torch.randn(LENGTH, generator=torch.Generator().manual_seed(index))
    return noise * (1.1 + torch.sin(2 * torch.pi * (3 if kind == "speech" else 7) * n / LENGTH))


def written(folder, rate=RATE, labels=("low", "high")):
    """A list as `unasdiff-teach data mixtures` writes it: `COUNT` mixtures of 0.2 s of two tasks."""
    rows = []
    for task in BOTH:
        for i in range(COUNT):
            kinds, slug = TASKS[task], full_mixtures.slug(task)
            made = synthesise([clip(kind, 10 * i + k) for k, kind in enumerate(kinds)], MixtureRules(LENGTH, rate), i)
            total, sources, gain = full_mixtures.to_files(made.sources)
            place = Path("paper", slug)
            (folder / place).mkdir(parents=True, exist_ok=True)
            files = [(place / f"{i:03d}_{k + 1}.flac").as_posix() for k in range(len(kinds))]
            for name, audio in zip(files, sources):
                write(folder / name, audio, rate)
            for k, kind in enumerate(kinds):
                part = made.parts[k]
                rows.append({
                    "id": f"{slug}_paper_{i:03d}", "task": task, "placement": "paper", "split": "test", "source": k,
                    "kind": kind, "label": labels[i % 2] if kind == "sound" else None,
                    "speaker": f"p{i}{k}" if kind == "speech" else None, "clip": f"clip{i}{k}", "clip_sha256": "",
                    "start": part.start, "length": part.length, "offset": part.offset, "level_db": part.level_db,
                    "file": files[k], "mixture_file": "", "file_gain": gain,
                })  # fmt: skip
    pd.DataFrame(rows, columns=list(full_mixtures.COLUMNS)).astype(full_mixtures.COLUMNS).to_parquet(
        folder / full_mixtures.TABLE
    )
    return folder


def saved_prior(path, labels=(), rate=RATE, network=None, seed=0):
    """A DiffWave that takes milliseconds, if no other network is given."""
    torch.manual_seed(seed)
    network = network or DiffWaveConfig(layers=2, channels=8, embedding=8, features=4, reduction=2, classes=len(labels))
    config = PriorConfig(rate, labels, target="preconditioned", sigma_data=0.06, network=network)
    ut.priors.neural.save(path, config.build().net.state_dict(), config, {})
    return str(path)


def saved_separator(path, kinds, network=TASNET):
    torch.manual_seed(0)
    config = SeparatorConfig(RATE, kinds, network)
    ut.separators.save(path, config.build().net.state_dict(), config, {})
    return str(path)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A list of mixtures and what was trained for it."""
    folder = tmp_path_factory.mktemp("room")
    written(folder / "list")
    saved_prior(folder / "speech.safetensors")
    saved_prior(folder / "sound.safetensors", ("low", "high"), seed=1)
    saved_separator(folder / "tasnet.safetensors", ("speech", "sound"))
    saved_separator(folder / "locoformer.safetensors", ("speech", "sound"), LOCOFORMER)
    return folder


def job(room, out, methods=("unprocessed", "recommended", "hybrid"), **options):
    base = {"preset": "short", "priors": (f"{room}/speech.safetensors", f"{room}/sound.safetensors"), "batch": 2}
    return Job(str(room / "list"), out, methods, **(base | options))


@pytest.fixture(scope="module")
def straight(room, tmp_path_factory):
    """All results of one process that nothing disturbs."""
    return run(job(room, tmp_path_factory.mktemp("straight")), progress=False)


def same(found, expected):
    assert found[[*ITEM, "source"]].equals(expected[[*ITEM, "source"]])
    assert float((found["si_sdr"] - expected["si_sdr"]).abs().max()) < 1e-3
    assert found["network_calls"].equals(expected["network_calls"])


# ------------------------------------------------------------------------------------------------ processes, shares


def test_one_process_gives_what_evaluate_gives(room, straight, tmp_path):
    assert len(straight) == 2 * COUNT * 3 * 2 and set(straight["task"]) == set(BOTH)
    todo = job(room, tmp_path)
    loaded = todo.systems()
    for task in BOTH:
        mixtures = full_mixtures.load(room / "list", task)
        found = evaluate(
            [todo.method(loaded, name, task) for name in ("recommended", "hybrid")], mixtures, tmp_path / task
        )
        same(found, straight[(straight["task"] == task) & (straight["method"] != "unprocessed")].reset_index(drop=True))
    one = straight[straight["method"] == "diffwave hybrid"].drop_duplicates(["mixture", "source"])
    assert one["si_sdr"].nunique() == len(one) and one["si_sdr"].std() > 0.1, "there is something to agree on"


@pytest.mark.slow
def test_any_number_of_processes_agrees_and_goes_on_with_what_is_there(room, straight, tmp_path):
    """Three here, one in `straight`, and two in the tests below."""
    processes = 3
    run(job(room, tmp_path, count=2, batch=2), progress=False)
    before = journal(tmp_path)
    assert len(before) == 2 * 2 * 3
    whole = job(room, tmp_path, processes=processes)
    (told,) = [line for line in check(whole) if "stored" in line]
    assert told == f"30 separations, 12 of them stored in {tmp_path}; 18 to do in {len(plan(whole).batches)} batches"
    same(run(whole, progress=False), straight)
    assert len(list(tmp_path.glob("shards/*/results.jsonl"))) == processes, "every process did something"
    done = journal(tmp_path)
    assert len(done) == len(set(done)) == 30 and set(before) < set(done)
    assert not list(tmp_path.glob("**/*.partial"))
    same(pd.read_parquet(tmp_path / "results.parquet"), straight)
    assert pd.read_parquet(tmp_path / "results.parquet").attrs["sample_rate"] == RATE
    (tmp_path / "results.parquet").unlink()
    same(load_results(tmp_path), straight)  # as of a run that is not finished


@pytest.mark.slow
def test_a_process_that_fails_stops_all_and_what_is_finished_stays(room, straight, tmp_path):
    shutil.copytree(room / "list", tmp_path / "list")
    last = tmp_path / "list" / "paper" / "2speech" / "004_2.flac"
    ready = plan(Job(str(tmp_path / "list"), tmp_path / "out", ("unprocessed", "oracle ratio"), batch=1, processes=2))
    last.rename(tmp_path / "away.flac")
    with pytest.raises(RuntimeError, match=r"004_2.flac.* \(process [12]; what is finished is kept\)$") as raised:
        ready.run(progress=False)
    assert "\n" not in str(raised.value)
    kept = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert 0 < len(kept) < 40 and len(journal(tmp_path / "out")) == len(kept) // 2
    (tmp_path / "away.flac").rename(last)
    found = run(ready.job, progress=False)
    done = journal(tmp_path / "out")
    assert len(found) == 40 and len(done) == len(set(done)) == 20
    plain = found[found["method"] == "unprocessed"].reset_index(drop=True)
    same(plain, straight[straight["method"] == "unprocessed"].reset_index(drop=True))


@pytest.mark.slow
def test_ranks_of_torchrun_share_and_the_last_one_writes(room, straight, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    part = run(job(room, tmp_path), progress=False)
    assert 0 < len(part) < len(straight) and not (tmp_path / "results.parquet").exists()
    monkeypatch.setenv("RANK", "0")
    same(run(job(room, tmp_path), progress=False), straight)
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"0", "1"} and len(journal(tmp_path)) == 30
    same(pd.read_parquet(tmp_path / "results.parquet"), straight)


def test_a_folder_has_one_worker_for_each_share(room, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    with (
        locked(tmp_path / "shards" / "0", "evaluation"),
        pytest.raises(BlockingIOError, match="another evaluation is running"),
    ):
        run(job(room, tmp_path, ("unprocessed",)), progress=False)
    assert len(run(job(room, tmp_path, ("unprocessed",)), progress=False)) == 20


# ------------------------------------------------------------------------------------------------ killed at any moment


def lives(folder, todo):
    torch.set_num_threads(1)
    run(todo, progress=False)


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_and_repeats_nothing(room, straight, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "unasdiff_teach.evaluation.jobs", "pandas", "pesq", "tqdm"])
    chance, todo = random.Random(0), job(room, tmp_path, batch=1)
    path, reached = tmp_path / "shards" / "0" / "results.jsonl", []
    for life in range(5):
        process = context.Process(target=lives, args=(tmp_path, todo))
        process.start()
        size = path.stat().st_size if path.is_file() else 0
        while life < 4 and process.is_alive() and (not path.is_file() or path.stat().st_size <= size):
            time.sleep(0.005)
        if life < 4:
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
        process.join(60)
        reached.append(len(journal(tmp_path) if life == 4 else stored(tmp_path).drop_duplicates(ITEM)))
        if life == 2:  # as if it had been writing
            with open(path, "a") as file:
                file.write('[{"task": "2 sp')
    assert reached == sorted(reached) and 4 <= reached[3] < 30 and process.exitcode == 0
    done = journal(tmp_path)
    assert len(done) == len(set(done)) == 30
    same(pd.read_parquet(tmp_path / "results.parquet"), straight)


@pytest.mark.slow
def test_workers_end_with_the_command_that_is_killed(room, tmp_path):
    out = tmp_path / "out"
    options = ["--mixtures", room / "list", "--out", out, "--method", "dirac", "--batch", "1", "--processes", "2"]
    options += ["--prior", room / "speech.safetensors", "--prior", room / "sound.safetensors"]
    command = [sys.executable, "-m", "unasdiff_teach.cli", "evaluate", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 50
        while len(list(out.glob("shards/*/results.jsonl"))) < 2 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = children.read_text().split() if children.is_file() else []
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    time.sleep(0.5)
    count = len(stored(out))
    time.sleep(0.5)
    assert 0 < count < 20 and len(stored(out)) == count, "nobody goes on"
    assert not [
        pid
        for pid in workers
        if Path(f"/proc/{pid}/status").is_file() and "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    ]
    found = run(job(room, out, ("dirac",), batch=1), progress=False)
    assert len(found) == 20 and len(journal(out)) == len(set(journal(out))) == 10


# ------------------------------------------------------------------------------------------------------------ methods


@pytest.mark.slow
def test_every_method_runs_and_costs_what_was_said(room, tmp_path):
    names = (*(name for name in systems.METHODS if name != "nmf"), "hybrid, t*=175", "hybrid, time")
    todo = job(
        room,
        tmp_path,
        names,
        tasks=BOTH[:1],
        count=1,
        separators=(f"{room}/tasnet.safetensors", f"{room}/locoformer.safetensors"),
    )
    ready = plan(todo)
    found = ready.run(progress=False)
    found["method"] = found["method"].str.removeprefix("diffwave ")
    assert set(found["method"]) == set(names)
    presets = found.drop_duplicates("method").set_index("method")["preset"]
    assert presets["dsg"] == presets["hybrid, time"] == "short" and presets["recommended"] == "recommended"
    assert presets["analytical"] == "authors" and presets["unprocessed"] == presets["conv-tasnet"] == ""
    counted = found.groupby("method")["network_calls"].first()
    assert counted["recommended"] == 40 and counted["hybrid, t*=175"] == 33 and counted["dirac"] == 200
    experts = counted[["conv-tasnet", "tf-locoformer"]]
    assert (experts == 1).all()  # for both sources together
    (cost,) = [line for line in ready.lines if line.startswith("to do")]
    assert f"to do: {2 * counted.sum() - experts.sum():,} network calls, " in cost


def test_nmf_refuses_lists_that_it_has_no_dictionaries_for(room, tmp_path):
    whole = {"tasks": BOTH[:1], "count": 1}
    with pytest.raises(ValueError, match="holds 'low'; 'nmf' has dictionaries of .*Flute"):
        check(job(room, tmp_path / "out", ("nmf",), **whole))
    written(tmp_path / "fast", 16_000, ("Flute", "Trumpet"))
    with pytest.raises(ValueError, match="learned at 8000 Hz; .* is at 16000 Hz"):
        check(Job(str(tmp_path / "fast"), tmp_path / "out", ("nmf",), **whole))
    assert "stored" in check(Job("pocket", tmp_path / "out", ("nmf",), **whole))[2]


def test_a_triple_path_prior_and_its_cost(room, tmp_path):
    """FLOP are those of the steps of Algorithm 1; the name is the paper's."""
    network = TINY.replace(classes=0, zero_init=False)
    prior = saved_prior(tmp_path / "speech.safetensors", network=network)
    todo = job(room, tmp_path / "out", ("recommended", "hybrid"), priors=(prior,), tasks=BOTH[1:], count=1)
    work = 2 * (33 * flops(network, LENGTH, "guided") + 40 * flops(network, LENGTH, "forward"))
    assert f"{2 * 73} network calls, {work:.2g} FLOP; 1 x cpu" in check(todo)[-1]
    found = run(Job(**vars(todo) | {"methods": ("recommended",)}), progress=False)
    assert set(found["method"]) == {"recommended"} and set(found["network_calls"]) == {40}


@pytest.mark.slow
def test_bfloat16_and_compiled_networks(room, tmp_path, monkeypatch):
    """Products in bfloat16 give nearly the same scores, under settings of their own; a compiled network gives the
    same.
    """
    monkeypatch.setattr(
        systems.TriplePathUNet, "compile_core", partialmethod(systems.TriplePathUNet.compile_core, backend="aot_eager")
    )
    prior = saved_prior(tmp_path / "speech.safetensors", network=TINY.replace(classes=0, zero_init=False))
    todo = job(room, tmp_path / "plain", ("recommended",), priors=(prior,), tasks=BOTH[1:], count=1)
    plain = run(todo, progress=False)
    compiled = run(replace(todo, out=tmp_path / "compiled", compile=True), progress=False)
    assert compiled["si_sdr"].to_numpy() == pytest.approx(plain["si_sdr"].to_numpy(), abs=1e-3)
    coarse = run(replace(todo, out=tmp_path / "coarse", precision="bfloat16"), progress=False)
    apart = (coarse["si_sdr"] - plain["si_sdr"]).abs()
    assert (
        (apart > 0).all()
        and (apart < 1).all()
        and (coarse["settings"] == plain["settings"] + ", products in bfloat16").all()
    )
    with pytest.raises(ValueError, match="products in bfloat16"):
        check(replace(todo, precision="bfloat16"))


def test_settings():
    for name, preset, config in (
        ("dsg", "paper", ut.SeparationConfig.paper(ut.DSG.paper())),
        ("dps", "authors", ut.SeparationConfig.authors(ut.DPS())),
        ("cqt", "short", ut.SeparationConfig.short(ut.CQT(xi=7e-4))),
        ("analytical", "recommended", ut.AnalyticalConfig.recommended()),
    ):
        assert systems.setting(name, preset) == systems.Setting(config, preset)
    assert systems.setting("hybrid, t*=200", "authors").config.init == "noise"
    schedule, corrector = ut.NoiseSchedule.linear(), ut.AnalyticalConfig.authors()
    assert corrector.calls(schedule) == 200 + 149 and corrector.replace(corrector=False).calls(schedule) == 200
    assert ut.SeparationConfig.authors().replace(start="init_step").calls(schedule) == 150


def test_a_configuration_of_ones_own_has_its_own_name(room, tmp_path):
    own = {"two steps": systems.Setting(ut.SeparationConfig.recommended().replace(steps=2, hypotheses=1))}
    todo = job(room, tmp_path, ("recommended", "two steps"), own=own, tasks=BOTH[1:], count=1)
    found = run(todo, progress=False).groupby("method")["network_calls"].first()
    assert found.to_dict() == {"diffwave recommended": 40, "diffwave two steps": 2}
    with pytest.raises(ValueError, match="method is 'two steps'"):
        check(replace(todo, own={}))


def test_mixtures_of_unknown_classes_are_left_out_where_that_is_said(room, tmp_path):
    low = saved_prior(tmp_path / "low.safetensors", ("low",), seed=1)
    todo = job(room, tmp_path / "out", ("recommended",), priors=(f"{room}/speech.safetensors", low), tasks=BOTH[:1])
    with pytest.raises(ValueError, match="holds 'high'; the prior of sound knows low"):
        check(todo)
    assert "left out: 2 mixtures with a class that the priors do not know" in check(replace(todo, known=True))
    assert run(replace(todo, known=True), progress=False)["mixture"].nunique() == 3


def test_diffwave_and_short_clips_are_named_as_in_table_3(room, tmp_path):
    found = run(
        job(
            room,
            tmp_path,
            ("recommended",),
            priors=(f"speech={room}/speech.safetensors",),
            tasks=BOTH[1:],
            count=2,
            seconds=0.1,
        ),
        False,
    )
    assert set(found["method"]) == {"diffwave recommended"} and set(found["task"]) == {"2 speech, 0.1 s"}
    assert set(found["mixture"]) == {"2speech_paper_000_0.1s", "2speech_paper_001_0.1s"}
    whole = full_mixtures.load(room / "list", "2 speech", count=1)[0]
    middle = lists.middle(whole, 0.1)
    assert torch.equal(middle.sources, whole.sources[:, 400:1200]) and torch.equal(
        middle.mixture, middle.sources.sum(0)
    )


def test_scoring_is_a_choice(room, tmp_path):
    found = run(job(room, tmp_path, ("unprocessed",), scoring="authors"), progress=False)
    assert set(found["permute"]) == {"all"} and found["zero_mean"].all()
    with pytest.raises(ValueError, match="is for scoring = 'authors', now 'paper'; use another folder"):
        check(job(room, tmp_path, ("oracle ratio",), scoring="paper"))


def test_the_shipped_lists_are_a_word(tmp_path):
    lines = check(Job("pocket", tmp_path / "out", ("unprocessed", "hybrid"), tasks=("3 sounds",)))
    assert lines[0] == "40 x '3 sounds' of pocket, 2 s at 8000 Hz" and "24,000 network calls" in lines[-1]
    assert not (tmp_path / "out").exists(), "to check writes nothing"


# -------------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(("device", "chosen"), [("cpu", ["cpu"] * 3), ("cuda", ["cuda:0", "cuda:1", "cuda:0"])])
def test_processes_take_the_gpus_in_turn(monkeypatch, device, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("unasdiff_teach.evaluation.job.check_device", lambda _: None)
    own = Job("pocket", Path("out"), ("unprocessed",), device=device)
    assert [device_of(own, i) for i in range(3)] == chosen
    assert device_of(replace(own, device="cuda:1"), 0) == "cuda:1", "a GPU that is named is taken"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("hybird",)}, "method is 'hybird'; accepted: 'unprocessed', 'dps'"),
        ({"methods": ()}, "no method is given"),
        ({"tasks": ("4 sounds",)}, "task is '4 sounds'; accepted: '1 speech"),
        ({"tasks": ("3 sounds",)}, "has no task '3 sounds'; there are '1 speech"),
        ({"preset": "best"}, "preset is 'best'"),
        ({"preset": "recommended"}, "the preset 'recommended' has no gradients, and 'hybrid'"),
        ({"scoring": "fair"}, "scoring is 'fair'"),
        ({"placement": "authors"}, "has no mixtures of placement 'authors'"),
        ({"mixtures": "nowhere"}, "no list of mixtures at nowhere"),
        ({"mixtures": "pocket"}, "holds 'Violin_or_fiddle'; the prior of sound knows low, high|knows low, high"),
        ({"count": 6}, "count is 6; .* has 5 mixtures"),
        ({"count": 0}, "count is 0; at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"processes": 0}, "processes is 0"),
        ({"device": "abacus"}, "device is 'abacus'"),
        ({"precision": "half"}, "precision is 'half'; accepted: 'auto', 'float32', 'bfloat16'"),
        ({"seconds": 0.4}, "seconds is 0.4; .* lasts 0.2 s"),
        ({"priors": ("{room}/speech.safetensors",)}, "'recommended' needs a prior of sound for '1 speech"),
        ({"priors": ("{room}/speech.safetensors", "{room}/speech.safetensors")}, "is the second one for speech"),
        ({"priors": ("whale={room}/speech.safetensors",)}, "KIND= must be speech or sound"),
        ({"priors": ("nowhere",)}, "no prior at 'nowhere'"),
        (
            {"priors": ("{room}/speech.safetensors", "{room}/fast.safetensors")},
            "the prior of sound works at 16000 Hz; '1speech.*' is at 8000 Hz",
        ),
        ({"separators": ("{room}/tasnet.safetensors",)}, "separators are given, but no method uses them"),
        (
            {"methods": ("conv-tasnet",), "separators": ("{room}/tasnet.safetensors",)},
            "no separators are conv-tasnet for '2 speech'",
        ),
        (
            {"methods": ("tf-locoformer",), "separators": ("{room}/tasnet.safetensors",)},
            "no separators are tf-locoformer for '1 speech",
        ),
        ({"methods": ("conv-tasnet",), "separators": ("{room}/nothing.safetensors",)}, "no separator at"),
        ({"out": "{room}/speech.safetensors"}, "is a file; the folder of a run is needed"),
    ],
)
def test_wrong_inputs_are_named_before_any_work(room, tmp_path, changes, message):
    if not (room / "fast.safetensors").is_file():
        saved_prior(room / "fast.safetensors", ("low", "high"), rate=16_000)
    named = {k: tuple(x.format(room=room) for x in v) if isinstance(v, tuple) else v.format(room=room) if isinstance(v,
    str) else v
             for k, v in changes.items()}  # fmt: skip
    good = job(room, tmp_path / "out")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check(Job(**vars(good) | named))
    assert not (tmp_path / "out").exists()


def test_results_that_were_made_otherwise_are_not_mixed(room, tmp_path):
    out = tmp_path / "out"
    run(job(room, out, ("unprocessed", "recommended"), count=1), progress=False)
    other = saved_prior(tmp_path / "other.safetensors", seed=5)
    with pytest.raises(
        ValueError, match="the run holds 'diffwave recommended' on '1speech_1sound_paper_000' with settings"
    ):
        check(job(room, out, ("recommended",), priors=(other, f"{room}/sound.safetensors")))
    check(job(room, out, ("recommended",), priors=(other, f"{room}/sound.safetensors"), seed=1))
    shutil.copytree(room / "list", tmp_path / "list")
    shutil.copyfile(tmp_path / "list/paper/2speech/001_1.flac", tmp_path / "list/paper/2speech/000_1.flac")
    changed = Job(str(tmp_path / "list"), out, ("oracle ratio",))
    with pytest.raises(ValueError, match="holds '2speech_paper_000' for another mixture"):
        check(changed)


def test_a_folder_is_for_one_list(room, tmp_path):
    out = tmp_path / "out"
    run(job(room, out, ("unprocessed",), tasks=BOTH[:1], count=1), progress=False)
    facts = (out / "run.json").read_text()
    other = written(tmp_path / "other", labels=("high", "low"))
    with pytest.raises(
        ValueError,
        match=r"is for the mixtures of .*list \(list \w{8}\), now .*other \(list \w{8}\); use another folder",
    ):
        check(Job(str(other), out, ("unprocessed",), tasks=BOTH[1:]))
    with pytest.raises(ValueError, match="now pocket"):
        check(Job("pocket", out, ("unprocessed",), tasks=BOTH[1:]))
    moved = Path(shutil.copytree(room / "list", tmp_path / "moved"))  # the same list elsewhere
    run(Job(str(moved), out, ("unprocessed",), tasks=BOTH[1:], count=1), progress=False)
    assert (out / "run.json").read_text() == facts and set(stored(out)["task"]) == set(BOTH)
    (out / "run.json").write_text(facts[:9])
    with pytest.raises(ValueError, match=r"run\.json is damaged: "):
        check(Job(str(moved), out, ("unprocessed",), tasks=BOTH[1:], count=1))


def test_two_lists_that_begin_at_once_do_not_share_a_folder(room, tmp_path):
    out, other = tmp_path / "out", written(tmp_path / "other", labels=("high", "low"))
    first, second = (plan(Job(str(mixtures), out, ("unprocessed",), count=1)) for mixtures in (room / "list", other))
    first.run(progress=False)
    with pytest.raises(ValueError, match="is for the mixtures of .*; use another folder"):
        second.run(progress=False)


# ------------------------------------------------------------------------------------------------------------ command


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command(room, tmp_path):
    options = (
        "--mixtures",
        room / "list",
        "--out",
        tmp_path / "out",
        "--method",
        "unprocessed",
        "--method",
        "oracle ratio",
        "--count",
        1,
    )
    shown = command(*options, "--dry-run")
    assert (
        shown.exit_code == 0 and "4 separations, 0 of them stored" in shown.stdout and not (tmp_path / "out").exists()
    )
    done = command(*options)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"4 separations are in {tmp_path / 'out' / 'results.parquet'}"
    again = command(*options)
    assert "4 of them stored" in again.stdout and "0 to do" in again.stdout and len(journal(tmp_path / "out")) == 4


def test_errors_of_the_command_are_one_line(tmp_path):
    failed = command("--mixtures", tmp_path, "--out", tmp_path / "out", "--method", "hybrid")
    assert failed.exit_code == 1 and isinstance(failed.exception, SystemExit)
    (line,) = failed.stderr.splitlines()
    assert line.startswith("error: no list of mixtures at ")


def test_help_has_examples():
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "300"}).stdout
    assert shown.count("unasdiff-teach evaluate ") >= 3 and "torchrun" in shown and "unasdiff-teach report" in shown
