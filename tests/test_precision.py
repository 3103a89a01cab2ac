"""float32 or bfloat16, and how many threads: one vocabulary, measured once, said in a line."""

from __future__ import annotations

import time

import pytest
import torch

from unasdiff_teach import _machine, precision


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(_machine, "cache", lambda file: tmp_path / "cache" / "unasdiff-teach" / file)
    monkeypatch.setattr(precision, "_native", lambda device: True)
    monkeypatch.setattr(precision, "_SECONDS", 0.0)
    return tmp_path / "cache"


def work(seconds: dict[torch.dtype, float], calls: list):
    """Takes the given processor time in either precision."""

    def run() -> None:
        kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        calls.append(kind)
        end = time.process_time() + seconds[kind]
        while time.process_time() < end:
            pass

    return run


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.01, "bfloat16"), (0.1, "float32")])
def test_auto_takes_the_faster_one_and_remembers(cache, bfloat16, chosen):
    calls: list = []
    run = work({torch.float32: 0.04, torch.bfloat16: bfloat16}, calls)
    choice = precision.choose("auto", "cpu", "net", run)
    assert choice.precision == chosen and set(calls) == {torch.float32, torch.bfloat16}
    assert "times as fast as float32 on this machine (measured 20" in choice.why and "cached" not in choice.why
    before = len(calls)
    again = precision.choose("auto", "cpu", "net", run)
    assert again.precision == chosen and again.why.endswith(", cached)") and len(calls) == before
    precision.choose("auto", "cpu", "another net", run)
    assert len(calls) > before, "what is measured belongs to one network"


def test_a_damaged_cache_is_measured_again(cache):
    (cache / "unasdiff-teach").mkdir(parents=True)
    (cache / "unasdiff-teach" / "precision.json").write_text("torn {")
    calls: list = []
    assert (
        precision.choose("auto", "cpu", "net", work({torch.float32: 0.02, torch.bfloat16: 0.001}, calls)).precision
        == "bfloat16"
    )
    assert calls


@pytest.mark.parametrize("content", [b"torn {", b"[]", b"\xff\xfe"])
def test_a_damaged_cache_is_replaced(cache, content):
    path = _machine.cache("speed.json")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert _machine.recall("speed.json", "a") is None
    _machine.remember("speed.json", "a", {"x": 1})
    _machine.remember("speed.json", "b", {"x": 2})
    assert _machine.recall("speed.json", "a") == {"x": 1} and _machine.recall("speed.json", "b") == {"x": 2}


def test_what_is_asked_for_is_not_measured():
    calls: list = []
    for word, meant in {
        "float32": "float32",
        "32-true": "float32",
        "bf16-mixed": "bfloat16",
        "bfloat16": "bfloat16",
    }.items():
        assert precision.choose(word, "cpu", "net", lambda: calls.append(1)).precision == meant
    assert not calls
    with pytest.raises(ValueError, match="precision is 'half'; accepted: 'auto', 'float32', 'bfloat16'"):
        precision.choose("half", "cpu", "net", lambda: None)
    with pytest.raises(ValueError, match="accepted: 'float32', 'bfloat16'"):
        precision.canonical("auto")


def test_a_precision_that_a_device_cannot_do(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(torch, "autocast", refuse)
    with pytest.raises(ValueError, match="precision is 'bfloat16', which cpu cannot do here; use float32"):
        precision.check("bfloat16", "cpu")


def test_without_bfloat16_units_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "_native", lambda device: False)
    assert precision.choose("auto", "cpu", "net", None).precision == "float32"


# ------------------------------------------------------------------------------------------------------- threads


@pytest.fixture
def threads(monkeypatch):
    """Four processors; which number of threads is asked for shows in the list."""
    counts = [torch.get_num_threads()]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(_machine, "cores", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    return counts


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [({1: 1.0, 2: 0.6, 4: 0.35}, 4), ({1: 1.0, 2: 4.0, 4: 9.0}, 1), ({1: 1.0, 2: 0.6, 4: 0.55}, 2)],
)
def test_as_many_threads_as_help(threads, monkeypatch, seconds, chosen):
    """An idle machine, one that is busy, and one where half of the processors are busy."""
    monkeypatch.setattr(_machine, "_layers", lambda: seconds[threads[-1]])
    line = _machine.use_threads()
    assert threads[-1] == chosen and line.startswith(f"threads: {chosen} of 4")


def test_threads_that_were_asked_for(threads, monkeypatch):
    monkeypatch.setattr(_machine, "_layers", lambda: pytest.fail("measured"))
    assert _machine.use_threads(3) == "threads: 3, as asked" and threads[-1] == 3
    assert _machine.use_threads(device="cuda") == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "OMP_NUM_THREADS" in _machine.use_threads()
    with pytest.raises(ValueError, match="threads is 0"):
        _machine.use_threads(0)
