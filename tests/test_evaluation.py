"""Scores, ceilings, intervals, runs and tables."""

import dataclasses
import json
import math
import multiprocessing
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from unasdiff_teach import evaluation as ev
from unasdiff_teach.data import mixtures
from unasdiff_teach.evaluation import experiments
from unasdiff_teach.evaluation import run as run_module

DATA = Path(__file__).parent / "data"


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# SI-SDR


def test_si_sdr_equals_the_released_code():
    file = np.load(DATA / "si_sdr.npz")
    ours = ev.si_sdr(torch.tensor(file["estimate"]), torch.tensor(file["reference"]))
    assert np.abs(ours.numpy() - file["si_snr_db"])[1:].max() < 1e-3
    assert ours[0] == pytest.approx(80)  # a perfect estimate


@pytest.mark.parametrize("zero_mean", [True, False])
def test_si_sdr_equals_torchmetrics(zero_mean):
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    reference = noise(7, 3, 4000) + 0.1
    level = torch.logspace(-2.9, 2, 7)[:, None, None]
    estimate = 0.3 * reference + 0.3 * level * noise(7, 3, 4000, seed=1)
    theirs = scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=zero_mean)
    assert theirs.min() < -35 and 50 < theirs.max() < 60
    torch.testing.assert_close(ev.si_sdr(estimate, reference, zero_mean), theirs, atol=1e-3, rtol=0)


def test_si_sdr_ignores_scale_and_with_zero_mean_offset():
    reference, other = noise(2, 1000)
    estimate = reference + 0.5 * other
    score = ev.si_sdr(estimate, reference)
    for gain in (-1.0, 1e-4, 1e4):
        torch.testing.assert_close(ev.si_sdr(gain * estimate, reference), score, atol=1e-3, rtol=0)
        torch.testing.assert_close(ev.si_sdr(estimate, gain * reference), score, atol=1e-3, rtol=0)
    torch.testing.assert_close(ev.si_sdr(estimate + 3, reference - 2), score, atol=1e-3, rtol=0)
    assert ev.si_sdr(estimate + 3, reference, zero_mean=False) < score - 5


def test_si_sdr_of_orthogonal_parts_is_the_ratio_of_their_energies():
    t = torch.arange(800) / 800
    target, rest = torch.sin(2 * torch.pi * 5 * t), torch.sin(2 * torch.pi * 9 * t)
    assert ev.si_sdr(target + 0.1 * rest, target).item() == pytest.approx(20, abs=1e-3)


def test_si_sdr_of_silence_is_the_lowest_value_and_gradients_stay_finite():
    signal, silence = noise(1000), torch.zeros(1000)
    estimate = silence.clone().requires_grad_()
    for e, r in ((silence, signal), (signal, silence), (silence, silence), (estimate, signal)):
        assert ev.si_sdr(e, r).item() == pytest.approx(-80)
    ev.si_sdr(estimate, signal).backward()
    assert torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize(
    ("estimate", "reference", "message"),
    [
        (torch.zeros(3), torch.zeros(4), "one shape"),
        (torch.tensor([math.nan, 1.0]), torch.ones(2), "estimate holds NaN"),
        (torch.ones(2), torch.tensor([math.inf, 1.0]), "reference holds NaN or inf"),
        (torch.ones(2, dtype=torch.int16), torch.ones(2), "int16"),
        (torch.zeros(0), torch.zeros(0), "N > 0"),
    ],
)
def test_si_sdr_refuses(estimate, reference, message):
    with pytest.raises(ValueError, match=message):
        ev.si_sdr(estimate, reference)


# permutations


def test_best_permutation_finds_each_source_in_a_batch():
    reference = noise(4, 3, 500)
    order = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0]])
    estimate = torch.empty_like(reference).scatter_(1, order[:, :, None].expand(-1, -1, 500), reference)
    estimate += 0.1 * noise(4, 3, 500, seed=1)
    index, scores = ev.best_permutation(estimate, reference)
    assert index.tolist() == order.tolist()
    matched = estimate.take_along_dim(index[..., None], 1)
    torch.testing.assert_close(scores, ev.si_sdr(matched, reference))
    for b in range(4):
        torch.testing.assert_close(ev.best_permutation(estimate[b], reference[b])[1], scores[b], atol=1e-4, rtol=0)


def test_only_sources_of_one_kind_are_permuted():
    reference = noise(3, 500)
    estimate = reference[[2, 0, 1]]
    speech = ("speech", None)
    assert ev.best_permutation(estimate, reference, "none")[0].tolist() == [0, 1, 2]
    assert ev.best_permutation(estimate, reference, "all")[0].tolist() == [1, 2, 0]
    kinds = [speech, speech, ("sound", "Chime")]
    assert ev.best_permutation(reference[[1, 0, 2]], reference, "kind", kinds)[0].tolist() == [1, 0, 2]
    assert ev.best_permutation(estimate, reference, "kind", kinds)[0].tolist() in ([0, 1, 2], [1, 0, 2])
    kinds = [speech, ("sound", "Chime"), ("sound", "Flute")]
    assert ev.best_permutation(estimate, reference, "kind", kinds)[0].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="one entry for each of 3"):
        ev.best_permutation(estimate, reference, "kind")
    with pytest.raises(ValueError, match="'any'"):
        ev.best_permutation(estimate, reference, "any")


def test_failure_is_a_mean_below_zero():
    assert ev.failure(torch.tensor([[5.0, -4.0], [3.0, -4.0]])).tolist() == [False, True]


# PESQ


@pytest.fixture(scope="module")
def pocket():
    try:
        return mixtures("1 speech + 1 sound", "test", count=3)
    except FileNotFoundError:
        pytest.skip("the pocket corpus is not there")


def test_pesq_of_speech(pocket):
    mixture, speech = pocket[0].mixture, pocket[0].sources[0]
    same = ev.pesq_score(speech, speech, 8000)
    assert same.mode == "nb" and same.score > 4.5
    mixed = ev.pesq_score(mixture, speech, 8000).score
    assert 1 <= mixed < 2.5
    for gain in (-1.0, 1e-3, 100.0):
        assert ev.pesq_score(gain * mixture, speech, 8000).score == pytest.approx(mixed, abs=1e-3)
    wide = ev.pesq_score(speech.repeat(2), speech.repeat(2), 16000)
    assert wide.mode == "wb" and wide.score > 4.5
    assert ev.pesq_score(speech.repeat(2), speech.repeat(2), 16000, "nb").mode == "nb"


@pytest.mark.slow
def test_pesq_of_minutes():
    """In a process of its own: with more utterances than its code has room for, PESQ takes the interpreter with it."""
    code = """
import torch
import unasdiff_teach as ut
from unasdiff_teach.metrics import PESQ_SECONDS, pesq_score
clips = [clip.audio for clip in ut.data.pocket("speech", "test")][:40]
speech = torch.cat([torch.cat([clip[:16000], torch.zeros(2400)]) for clip in clips])
short, rate = speech[: round(PESQ_SECONDS * 8000)], 8000
noisy = lambda x: x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
one = pesq_score(noisy(short), short, rate).score
repeated = short.repeat(22)  # seven minutes
many = pesq_score(noisy(repeated), repeated, rate).score
assert abs(one - many) < 0.1, (one, many)
pauses = torch.cat([short, torch.zeros(len(short))])  # a piece without an utterance does not count
assert abs(pesq_score(noisy(pauses), pauses, rate).score - one) < 0.1
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "alive", (done.returncode, done.stderr)


def test_pesq_without_an_utterance(pocket):
    speech = pocket[0].sources[0]
    silence = torch.zeros_like(speech)
    assert math.isnan(ev.pesq_score(speech, silence, 8000).score)
    assert math.isnan(ev.pesq_score(silence, silence, 8000).score)
    assert math.isnan(ev.pesq_score(speech[:1000], speech[:1000], 8000).score)
    assert ev.pesq_score(silence, speech, 8000) == (1.0, "nb")


@pytest.mark.parametrize(("rate", "mode"), [(44100, None), (8000, "wb"), (16000, "full")])
def test_pesq_refuses(rate, mode):
    with pytest.raises(ValueError, match=str(rate)):
        ev.pesq_score(noise(8000), noise(8000), rate, mode)


# oracle masks


@pytest.mark.parametrize("kind", ["ratio", "binary", "wiener"])
def test_oracle_masks_beat_the_mixture_and_sum_to_it(pocket, kind):
    mixture = torch.stack([m.mixture for m in pocket])
    sources = torch.stack([m.sources for m in pocket])
    estimate = ev.oracle_mask(mixture, sources, kind)
    torch.testing.assert_close(estimate.sum(1), mixture, atol=1e-5, rtol=0)
    before = ev.si_sdr(mixture[:, None].expand_as(sources), sources)
    assert (ev.si_sdr(estimate, sources) > before + 3).all()
    torch.testing.assert_close(ev.oracle_mask(mixture[0], sources[0], kind), estimate[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["ratio", "phase-sensitive"])
def test_oracle_mask_of_silence_is_finite(kind):
    assert torch.isfinite(ev.oracle_mask(torch.zeros(4000), torch.zeros(2, 4000), kind)).all()


def test_the_phase_sensitive_mask_is_the_real_part_and_reaches_more_than_wiener(pocket):
    m = pocket[0]
    window = torch.hann_window(512)
    Y, S = (torch.stft(x, 512, 128, window=window, return_complex=True) for x in (m.mixture, m.sources))
    by_hand = torch.istft((S / (Y + 1e-12)).real.clamp(0, 1) * Y, 512, 128, window=window, length=len(m.mixture))
    estimate = ev.oracle_mask(m.mixture, m.sources, "phase-sensitive")
    torch.testing.assert_close(estimate, by_hand, atol=1e-4, rtol=0)
    assert (
        ev.si_sdr(estimate, m.sources).mean()
        > ev.si_sdr(ev.oracle_mask(m.mixture, m.sources, "wiener"), m.sources).mean()
    )


def test_one_spectrum_is_one_filter_for_each_kind():
    first, other = mixtures(count=2)
    parts = ev.one_spectrum(first)
    torch.testing.assert_close(parts.sum(0), first.mixture, atol=1e-5, rtol=0)
    voices = mixtures("2 speech", count=1)[0]
    torch.testing.assert_close(ev.one_spectrum(voices)[0], voices.mixture / 2, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="Hz"):
        ev.one_spectrum(dataclasses.replace(other, sample_rate=16_000))
    with pytest.raises(ValueError, match="Kazoo"):
        ev.one_spectrum(dataclasses.replace(other, labels=(None, "Kazoo")))


def test_floor_and_mask_stand_beside_stored_results():
    rows = ev.floor_and_mask(count=4)
    means = rows.groupby("method")["si_sdr"].mean()
    assert rows["mixture"].nunique() == 4 and list(means.index) == ["one spectrum", "oracle phase-sensitive"]
    assert 0 < means["one spectrum"] < 10 < means["oracle phase-sensitive"]
    stored = rows.assign(method="other")  # as results of a run are
    assert set(ev.summary(pd.concat([rows, stored])).index.get_level_values("method")) == {*means.index, "other"}


def test_floor_and_mask_are_the_same_with_every_seed():
    once, rows = ev.floor_and_mask(count=1), ev.floor_and_mask(count=1, seeds=experiments.SEEDS)
    assert list(once["seed"].unique()) == [0] and tuple(rows["seed"].unique()) == experiments.SEEDS
    assert (rows.dtypes == once.dtypes).all() and len(rows) == len(experiments.SEEDS) * len(once)
    scores = ["mixture", "method", "source", "si_sdr", "pesq"]
    for _, of_seed in rows.groupby("seed"):
        pd.testing.assert_frame_equal(of_seed[scores].reset_index(drop=True), once[scores])
    with pytest.raises(ValueError, match="seeds"):
        ev.floor_and_mask(count=1, seeds=())


def test_floor_and_mask_of_cut_mixtures_stand_beside_table_3():
    stored = experiments.shipped("table-3")
    rows = ev.floor_and_mask("2 speech", 2, seconds=1.0)
    assert set(rows["task"]) == {"2 speech, 1 s"} and set(rows["mixture"]) <= set(stored["mixture"])
    before = ["mixture", "source", "si_sdr_unprocessed"]
    mine = rows[before].drop_duplicates().sort_values(before[:2])
    theirs = stored[stored["mixture"].isin(rows["mixture"])][before].drop_duplicates(before[:2]).sort_values(before[:2])
    np.testing.assert_allclose(mine["si_sdr_unprocessed"], theirs["si_sdr_unprocessed"], atol=1e-3)
    floor = rows[rows["method"] == "one spectrum"]  # of two voices, half of the mixture
    np.testing.assert_allclose(floor["si_sdr"], floor["si_sdr_unprocessed"], atol=1e-3)
    with pytest.raises(ValueError, match="lasts 2 s"):
        ev.floor_and_mask("2 speech", 1, seconds=3.0)


@pytest.mark.parametrize("arguments", [{"kind": "soft"}, {"hop": 400}, {"n_fft": 16384}])
def test_oracle_mask_refuses(arguments):
    with pytest.raises(ValueError):
        ev.oracle_mask(torch.zeros(4000), torch.zeros(2, 4000), **arguments)


# intervals


def test_bootstrap_agrees_with_the_normal_interval():
    values = np.random.default_rng(3).normal(5, 2, 400)
    mean, low, high, n, left_out = ev.mean_interval(values, "percentile")
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean()) and (n, left_out) == (400, 0)
    assert mean - low == pytest.approx(half, rel=0.08) and high - mean == pytest.approx(half, rel=0.08)
    assert ev.mean_interval(values, "percentile") == ev.mean_interval(values, "percentile")


def test_bootstrap_covers_the_true_mean():
    trials = np.random.default_rng(4).normal(1, 3, (400, 40))
    intervals = [ev.mean_interval(values, "percentile", resamples=400) for values in trials]
    coverage = np.mean([i.low <= 1 <= i.high for i in intervals])
    assert 0.90 <= coverage <= 0.98


def test_paired_difference_is_narrower_and_leaves_out_nan():
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 10, 50)
    a, b = shared + 1 + 0.1 * rng.normal(size=50), shared.copy()
    a[0] = np.nan
    paired = ev.paired_difference(a, b)
    assert paired.low < 1 < paired.high and paired.high - paired.low < 0.1
    assert (paired.n, paired.left_out) == (49, 1)


@pytest.mark.parametrize(("failed", "n"), [(0, 12), (3, 20), (13, 40), (40, 40)])
def test_a_rate_has_wilsons_interval(failed, n):
    found = ev.rate_interval([100.0] * failed + [0.0] * (n - failed) + [float("nan")])
    known = stats.binomtest(failed, n).proportion_ci(method="wilson")
    assert found[:3] == pytest.approx((100 * failed / n, 100 * known.low, 100 * known.high)) and found[3:] == (n, 1)
    with pytest.raises(ValueError, match="a rate has 0 to 100 %"):
        ev.rate_interval([0.0, 101.0])


def test_intervals_of_few_values():
    assert math.isnan(ev.mean_interval([], "percentile").mean)
    one = ev.mean_interval([2.0, math.nan], "percentile")
    assert one.mean == 2 and math.isnan(one.low) and (one.n, one.left_out) == (1, 1)
    with pytest.raises(ValueError, match="pairs"):
        ev.paired_difference([1.0], [1.0, 2.0])


def skewed(n, seed=6):
    return np.random.default_rng(seed).gamma(0.7, 3.0, n) - 2.0


def test_the_interval_of_student():
    values = skewed(12)
    expected = stats.t.interval(0.9, 11, values.mean(), stats.sem(values))
    got = ev.mean_interval([*values, math.nan], confidence=0.9)
    assert (got.low, got.high) == pytest.approx(expected) and (got.n, got.left_out) == (12, 1)
    assert got.mean == pytest.approx(values.mean())


def test_bca_is_scipys_and_leans_towards_the_tail():
    values = skewed(20)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    got = ev.mean_interval(values, "bca", seed=3)
    assert (got.low, got.high) == pytest.approx(tuple(expected))
    plain = ev.mean_interval(values, "percentile", seed=3)
    assert stats.skew(values) > 1 and got.low > plain.low and got.high > plain.high


@pytest.mark.parametrize("kind", ["t", "bca", "percentile"])
def test_the_interval_of_values_that_are_all_alike_is_a_point(kind, recwarn):
    assert ev.mean_interval([1.5] * 5, kind)[:4] == (1.5, 1.5, 1.5, 5)
    assert math.isnan(ev.mean_interval([2.0], kind).low) and not recwarn.list


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0]],), "shape"), (([1.0, math.inf],), "infinities"), (([1.0, 2.0], "normal"),
        "kind is 'normal'; accepted are 't'"), (([1.0, 2.0], "t", 95), "confidence is 95"), (([1.0, 2.0], "bca", 0.95,
        0), "resamples is 0"),
    ],
)  # fmt: skip
def test_intervals_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        ev.mean_interval(*arguments)


def test_p_is_that_of_the_t_test_and_agrees_with_its_interval():
    for seed in range(20):
        values = skewed(12, seed) - 0.5
        p, interval = ev.p_value([*values, math.nan]), ev.mean_interval(values)
        assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        assert (p < 0.05) == (interval.low > 0 or interval.high < 0)
    assert (ev.p_value([0.0, 0.0]), ev.p_value([2.0, 2.0])) == (1, 0) and math.isnan(ev.p_value([1.0]))


def test_holm_by_hand():
    assert ev.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # 4 x 0.005, 3 x 0.01, 2 x 0.03
    assert ev.holm([0.2, 0.9]).tolist() == pytest.approx([0.4, 0.9])
    assert ev.holm([0.6, 0.7]).tolist() == [1, 1] and ev.holm([0.03]).tolist() == [0.03] and ev.holm([]).tolist() == []
    missing = ev.holm([math.nan, 0.02, 0.04])
    assert math.isnan(missing[0]) and missing[1:].tolist() == [0.04, 0.04]
    with pytest.raises(ValueError, match="holds 1.2"):
        ev.holm([0.5, 1.2])


def test_power_of_the_t_test():
    """Cohen's table: half a standard deviation needs 34 pairs; without a difference, the level; for many pairs, the
    normal form.
    """
    assert ev.power(0.5, 1.0, 33) < 0.8 < ev.power(0.5, 1.0, 34) == pytest.approx(0.8078, abs=1e-4)
    assert ev.power(-1.0, 2.0, 34) == ev.power(0.5, 1.0, 34) and ev.power(0.0, 1.0, 20) == pytest.approx(0.05)
    normal = stats.norm.sf(1.96 - 0.05 * math.sqrt(4000)) + stats.norm.cdf(-1.96 - 0.05 * math.sqrt(4000))
    assert ev.power(0.05, 1.0, 4000) == pytest.approx(normal, abs=1e-3)
    draws = np.random.default_rng(7).normal(1.0, 2.0, (4000, 20))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(ev.power(1.0, 2.0, 20), abs=0.02)
    with pytest.raises(ValueError, match="spread is 0"):
        ev.power(1.0, 0.0, 20)


@pytest.mark.parametrize("n", [2, 3, 12, 20, 40, 400])
def test_the_resolvable_difference_is_seen_in_four_of_five_experiments(n):
    difference = ev.resolvable_difference(3.0, n)
    assert ev.power(difference, 3.0, n) == pytest.approx(0.8, abs=1e-6)
    assert ev.resolvable_difference(6.0, n) == pytest.approx(2 * difference)
    if n == 400:
        assert difference == pytest.approx((1.96 + 0.8416) * 3.0 / 20, rel=0.01)


@pytest.mark.parametrize(
    ("low", "high", "p", "words"),
    [
        (0.1, 3.0, 0.01, "higher"), (0.1, 3.0, 0.2, "no clear difference"), (-3.0, -0.1, 0.05, "lower"), (-0.4, 0.3,
        0.9, "equal within 0.5 dB"), (-0.4, 0.6, 0.9, "no clear difference"), (-2.0, 2.0, 0.0, "no clear difference"),
        (0.1, 0.3, 0.2, "equal within 0.5 dB"), (0.1, 0.3, 0.01, "higher"), (math.nan, math.nan, math.nan,
        "one mixture"),
    ],
)  # fmt: skip
def test_verdicts(low, high, p, words):
    assert ev.verdict(ev.Interval((low + high) / 2, low, high, 20), 0.5, p) == words


@pytest.mark.parametrize(
    ("low", "high", "p", "equal", "words"),
    [
        (0.1, 2, 0.05, False, "held"),
        (-2, -0.1, 0.05, False, "the opposite"),
        (0.1, 2, 0.06, False, "no clear difference"),
        (-0.4, 0.4, 0.5, False, "equal within 0.5 dB"),
        (math.nan, math.nan, 0.0, False, "not measured"),
        (-0.4, 0.4, 0.5, True, "held"),
        (0.1, 0.4, 0.001, True, "held"),  # clear, and too small to matter
        (0.1, 2, 0.001, True, "no clear difference"),  # clear; whether it matters is not
        (-2, -0.5, 0.05, True, "the opposite"),
        (0.6, 2, 0.06, True, "no clear difference"),
    ],
)
def test_what_a_difference_says_of_a_claim(low, high, p, equal, words):
    claim = ev.Claim(pd.Series([], dtype=float), equal=equal)
    assert ev.judge(ev.Interval((low + high) / 2, low, high, 20), claim, p) == words


def test_a_table_of_claims():
    noise = np.random.default_rng(0).standard_normal(40)
    tasks = pd.MultiIndex.from_product([["one", "two"], range(20)], names=["task", "mixture"])
    up, split = pd.Series(2 + noise, tasks), pd.Series(np.r_[6 + noise[:20], -2 + noise[20:]], tasks)
    table = ev.judged(
        {
            "up": ev.Claim(up, everywhere=True),
            "up in each task": ev.Claim(split, everywhere=True),
            "up on average": ev.Claim(split),
            "about alike": ev.Claim(up, equal=True),
            "points": ev.Claim(up.loc[["one"]], matters=5, unit="points", equal=True),
            "nothing": ev.Claim(pd.Series([], dtype=float)),
        }
    )
    assert table["verdict"].tolist() == ["held", "the opposite", "held", "the opposite", "held", "not measured"]
    assert table["tasks"].tolist()[:3] == ["2 held", "1 held, 1 the opposite", "1 held, 1 the opposite"]
    assert table["tasks"].tolist()[4:] == ["", ""] and table["n"].tolist() == [40, 40, 40, 40, 20, 0]
    alone = ev.p_value(up)
    assert table.loc["up", "p_holm"] > alone  # corrected over the rows
    needed = int(table.loc["up", "needed"])
    assert ev.resolvable_difference(up.std(), needed) <= 0.5 < ev.resolvable_difference(up.std(), needed - 1)
    with pytest.raises(ValueError, match="positive"):
        ev.mixtures_needed(1.0, 0.0)


def test_evidence_corrects_the_table_as_a_whole():
    rng = np.random.default_rng(8)
    base = rng.normal(0, 1, 20) - 0.0
    base = (base - base.mean()) / base.std(ddof=1)
    rows = {"clear": base + 2.0, "alone": base + 0.5, "same": 0.1 * base, "unclear": 3 * base, "one": [1.0]}
    table = ev.evidence(rows, matters=0.5)
    assert table["verdict"].tolist() == [
        "higher",
        "no clear difference",
        "equal within 0.5 dB",
        "no clear difference",
        "one mixture",
    ]
    assert table.loc["alone", "low"] > 0 and table.loc["alone", "p"] < 0.05 < table.loc["alone", "p_holm"], (
        "clear if it were the only one"
    )
    assert ev.evidence({"alone": rows["alone"]}, 0.5).loc["alone", "verdict"] == "higher"
    assert table.loc["unclear", "resolvable"] == pytest.approx(ev.resolvable_difference(3.0, 20))
    with pytest.raises(ValueError, match="matters is 0"):
        ev.evidence(rows, 0)


def test_coverage_of_student_is_nominal_where_it_must_be_and_the_bootstrap_is_too_narrow():
    normal = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    found = {c.kind: c for c in ev.coverage(normal, 12, trials=1000, resamples=400)}
    assert found["t"].coverage == pytest.approx(0.95, abs=0.02)  # three standard errors
    assert found["percentile"].coverage < 0.93 and found["bca"].coverage < 0.94
    assert found["percentile"].width < found["bca"].width < found["t"].width
    assert found["t"].width == pytest.approx(
        2 * 2.201 * 0.977 / math.sqrt(12), rel=0.02
    )  # E[s] = 0.977 sigma at n = 12
    assert found == {c.kind: c for c in ev.coverage(normal, 12, trials=1000, resamples=400)}
    with pytest.raises(ValueError, match="n is 1"):
        ev.coverage(normal, 1)


# runs


@dataclass(frozen=True)
class Clip:
    """A stand-in for `data.Mixture`, a tenth of a second long."""

    id: str
    sources: torch.Tensor
    task: str = "1 speech + 1 sound"
    kinds: tuple = ("speech", "sound")
    labels: tuple = (None, "Chime")
    heard: tuple = (True, True)
    split: str = "test"
    voices: tuple = ("a voice", None)
    sample_rate: int = 8000

    @property
    def mixture(self):
        return self.sources.sum(0)


def clips(count, k=2, **fields):
    return [Clip(f"clip {k} {i}", noise(k, 800, seed=100 * k + i), **fields) for i in range(count)]


class Noisy:
    """Adds the noise of each mixture's seed to its sources; stops at a call if told to, and remembers what it saw."""

    def __init__(self, level=0.3, stop_at=None):
        self.level, self.stop_at, self.seen, self.calls = level, stop_at, [], 0

    def __call__(self, mixtures, seeds):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.seen += [m.id for m in mixtures]
        return (
            torch.stack([m.sources + self.level * noise(*m.sources.shape, seed=s) for m, s in zip(mixtures, seeds)]),
            7,
        )


def numbers(frame):
    return frame.drop(columns=["seconds", "batch"])


def test_a_stopped_run_goes_on_and_equals_one_that_was_not_stopped(tmp_path):
    items = clips(7)
    whole = ev.evaluate([ev.Method("noisy", Noisy())], items, tmp_path / "whole", batch=3)

    stopped = Noisy(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        ev.evaluate([ev.Method("noisy", stopped)], items, tmp_path / "parts", batch=2)
    journal = tmp_path / "parts" / "results.jsonl"
    assert len(journal.read_text().splitlines()) == 4
    with open(journal, "a") as file:
        file.write('[{"mixture": "cli')  # torn by the stop
    rest = Noisy()
    resumed = ev.evaluate([ev.Method("noisy", rest)], items[::-1], tmp_path / "parts", batch=4)

    assert sorted(stopped.seen + rest.seen) == [m.id for m in items]
    pd.testing.assert_frame_equal(numbers(whole), numbers(resumed))
    assert not journal.exists() and (tmp_path / "parts" / "results.parquet").exists()

    again = Noisy()
    third = ev.evaluate([ev.Method("noisy", again)], items, tmp_path / "parts")
    assert again.calls == 0
    pd.testing.assert_frame_equal(third, resumed)


def test_a_stop_while_compacting_neither_loses_nor_doubles(tmp_path):
    run = ev.Run(tmp_path)
    first = ev.evaluate([ev.Method("noisy", Noisy())], clips(2), run)
    run.append([json.loads(first[first["mixture"] == "clip 2 0"].to_json(orient="records"))])
    assert len(run.results()) == 4
    assert len(ev.evaluate([ev.Method("noisy", Noisy())], clips(3), run)) == 6


def rows_of(*names):
    """Items as `Run.append` takes them, one row each."""
    blank = {
        column: {"string": "", "bool": False, "int64": 0, "float64": 0.0}[kind]
        for column, kind in run_module.COLUMNS.items()
    }
    return [[blank | {"mixture": name}] for name in names]


def test_rows_appended_while_another_process_compacts_stay(tmp_path, monkeypatch):
    """The interleaving that lost them: read, a row of another process, unlink."""
    run, written = ev.Run(tmp_path), pd.DataFrame.to_parquet
    run.append(rows_of("first"))

    def append_meanwhile(frame, *arguments, **options):
        thread = threading.Thread(target=run.append, args=(rows_of("second"),))
        thread.start()
        thread.join(0.3)  # without a lock it is done by now
        written(frame, *arguments, **options)
        append_meanwhile.thread = thread

    monkeypatch.setattr(pd.DataFrame, "to_parquet", append_meanwhile)
    run.compact()
    append_meanwhile.thread.join()
    assert run.results()["mixture"].tolist() == ["first", "second"]


def test_a_reader_misses_nothing_that_is_moved_meanwhile(tmp_path, monkeypatch):
    run, read = ev.Run(tmp_path), run_module.Journal.read
    run.append(rows_of("first", "second"))

    def compact_after(self):
        lines = read(self)
        monkeypatch.undo()
        ev.Run(tmp_path).compact()
        return lines

    monkeypatch.setattr(run_module.Journal, "read", compact_after)
    assert run.results()["mixture"].tolist() == ["first", "second"]
    assert not run.journal.exists()


def _append_and_compact(folder, name, count, compact_every):
    """What each process of the test below does."""
    run = ev.Run(folder)
    for i in range(count):
        run.append(rows_of(f"{name} {i:02d}"))
        if i % compact_every == 0:
            run.compact()


@pytest.mark.slow
def test_two_processes_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_and_compact, args=(tmp_path, name, 40, 2)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert ev.Run(tmp_path).compact()["mixture"].tolist() == [
        f"{name} {i:02d}" for name in ("a", "b") for i in range(40)
    ]


def test_seeds_depend_on_identifier_and_run_only(tmp_path):
    assert ev.noise_seed(0, "clip") == ev.noise_seed(0, "clip") != ev.noise_seed(1, "clip")
    assert ev.noise_seed(0, "clip") == 2051921312
    results = ev.evaluate([ev.Method("a", Noisy()), ev.Method("b", Noisy())], clips(2), tmp_path)
    results = ev.evaluate([ev.Method("a", Noisy())], clips(2), tmp_path, seed=1)
    assert len(results) == 12
    of = results.set_index(["method", "seed"])["si_sdr"]
    assert of["a", 0].tolist() == of["b", 0].tolist() != of["a", 1].tolist()


def test_a_run_refuses_to_mix(tmp_path):
    items = clips(2)
    ev.evaluate([ev.Method("noisy", Noisy(), settings="level 0.3")], items, tmp_path)
    with pytest.raises(ValueError, match="settings = 'level 0.3', now 'level 1'"):
        ev.evaluate([ev.Method("noisy", Noisy(1), settings="level 1")], items, tmp_path)
    method = ev.Method("noisy", Noisy(), settings="level 0.3")
    with pytest.raises(ValueError, match="permute = 'kind', now 'all'"):
        ev.evaluate([method], items, tmp_path, scoring=ev.Scoring.authors())
    other = [Clip(m.id, 2 * m.sources) for m in items]
    for name in ("noisy", "new"):  # of which nothing is stored yet
        with pytest.raises(ValueError, match="holds 'clip 2 0' for another mixture"):
            ev.evaluate([ev.Method(name, Noisy(), settings="level 0.3")], other, tmp_path)
    with pytest.raises(ValueError, match="more than once: clip 2 0"):
        ev.evaluate([method], items + items[:1], tmp_path)


def test_bad_estimates_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"'short' returned \[2, 2, 3\]"):
        ev.evaluate([ev.Method("short", lambda m, s: (torch.zeros(2, 2, 3), 0))], clips(2), tmp_path)
    with pytest.raises(ValueError, match="'wild' returned NaN or infinite samples for clip 2 0, clip 2 1"):
        ev.evaluate([ev.Method("wild", lambda m, s: (torch.full((2, 2, 800), math.nan), 0))], clips(2), tmp_path)

    def sampler(mixtures, seeds):
        raise FloatingPointError("the sources of mixture 1 have NaN or infinite samples")

    with pytest.raises(ValueError, match="'wild' on clip 2 0, clip 2 1: the sources of mixture 1 have NaN"):
        ev.evaluate([ev.Method("wild", sampler)], clips(2), tmp_path)


def test_results_of_the_pocket_corpus(pocket, tmp_path):
    methods = [ev.unprocessed(), ev.oracle("wiener")]
    results = ev.evaluate(methods, pocket, tmp_path).set_index("method")
    assert results.loc["unprocessed", "si_sdr"].tolist() == results.loc["unprocessed", "si_sdr_unprocessed"].tolist()
    speech = results[results["kind"] == "speech"]
    assert (speech["pesq_mode"] == "nb").all()
    assert speech.loc["oracle wiener", "pesq"].mean() > speech.loc["unprocessed", "pesq"].mean() + 0.5
    assert results[results["kind"] == "sound"]["pesq"].isna().all()
    assert results.loc["oracle wiener", "si_sdr"].mean() > 8


def test_swapped_speakers_are_found_and_labelled_sounds_are_not(tmp_path):
    def swap(mixtures, seeds):
        return torch.stack([m.sources.flip(0) for m in mixtures]), 0

    speakers = clips(1, kinds=("speech", "speech"), labels=(None, None), task="2 speech")
    sounds = [Clip("sounds", noise(2, 800), task="2 sounds", kinds=("sound", "sound"), labels=("Chime", "Flute"))]
    results = ev.evaluate([ev.Method("swap", swap)], speakers + sounds, tmp_path).set_index("task")
    assert results.loc["2 speech", "estimate"].tolist() == [1, 0] and (results.loc["2 speech", "si_sdr"] > 70).all()
    assert results.loc["2 sounds", "estimate"].tolist() == [0, 1] and (results.loc["2 sounds", "si_sdr"] < 0).all()


def test_sampling_does_not_depend_on_the_batch(tmp_path):
    from unasdiff_teach import AnalyticalConfig, NoiseSchedule, SeparationConfig, priors

    items = clips(3, labels=(None, None))
    schedule = NoiseSchedule.linear().respace(10)
    gaussians = {"speech": priors.Gaussian(std=0.3), "sound": priors.Gaussian(std=0.1)}
    methods = [
        ev.sampling("hybrid", gaussians, SeparationConfig.authors(), "authors", schedule),
        ev.sampling("analytical", gaussians, AnalyticalConfig.authors(), "authors", schedule),
    ]
    together = ev.evaluate(methods, items, tmp_path / "3", batch=3)
    alone = ev.evaluate(methods, items, tmp_path / "1", batch=1)
    pd.testing.assert_frame_equal(numbers(together), numbers(alone), atol=1e-3, rtol=0)
    assert (together[together["method"] == "hybrid"]["network_calls"] == 10).all()
    other = ev.sampling("hybrid", gaussians, SeparationConfig.paper(), "authors", schedule)
    with pytest.raises(ValueError, match="with settings"):
        ev.evaluate([other], items, tmp_path / "3")


def test_a_method_knows_the_weights_of_its_prior():
    prior = torch.nn.Linear(2, 2)
    before = ev.sampling("hybrid", {"speech": prior}, None).settings
    assert ev.sampling("hybrid", {"speech": prior}, None).settings == before
    torch.nn.init.zeros_(prior.bias)
    assert ev.sampling("hybrid", {"speech": prior}, None).settings != before


def neural_prior(network=None, **options):
    from unasdiff_teach.networks import DiffWaveConfig
    from unasdiff_teach.priors import PriorConfig

    torch.manual_seed(0)
    config = PriorConfig(
        8000,
        ("low", "high"),
        network=network or DiffWaveConfig(layers=2, channels=8, embedding=8, features=4, classes=2, reduction=2),
    )
    prior = config.build()
    for name, value in options.items():
        setattr(prior, name, value)
    return prior


def test_a_method_knows_all_else_that_changes_a_network():
    from unasdiff_teach import NoiseSchedule, WindowedPrior, Windows
    from unasdiff_teach.networks import DiffWaveConfig

    base = neural_prior()
    words = ev.fingerprint(base)
    assert ev.fingerprint(neural_prior(card={"steps": 7})) == ev.fingerprint(neural_prior().eval()) == words
    assert ev.fingerprint(neural_prior(sample_rate=np.int64(8000))) == words, "the same number in another type"
    two_cycles = DiffWaveConfig(layers=2, channels=8, embedding=8, features=4, classes=2, reduction=2, dilation_cycle=1)
    others = [
        neural_prior(cfg_scale=3.0), neural_prior(target="preconditioned"), neural_prior(sigma_data=0.2),
        neural_prior(time_scale=200.0), neural_prior(condition="time"), neural_prior(sample_rate=16_000),
        neural_prior(labels=("high", "low")), neural_prior(schedule=NoiseSchedule.linear(100)),
        neural_prior(two_cycles), WindowedPrior(base, Windows(8000, 800)),
    ]  # fmt: skip
    made = {words, *map(ev.fingerprint, others)}
    assert len(made) == 1 + len(others), "each differs in one thing"
    assert ev.fingerprint(neural_prior(two_cycles)).split()[0] == words.split()[0], "these very weights"
    respaced = NoiseSchedule.linear().respace(10)
    moved = NoiseSchedule(respaced.beta, respaced.alpha_bar, respaced.timesteps + 1, 200)
    settings = [ev.sampling("hybrid", {}, None, schedule=schedule).settings for schedule in (None, respaced, moved)]
    assert len(set(settings)) == 3


def test_a_method_knows_the_parameters_of_an_exact_prior():
    from unasdiff_teach import NoiseSchedule
    from unasdiff_teach.priors import Gaussian, GaussianMixture, StationaryGaussian

    def mixture(weight):
        return GaussianMixture(torch.tensor([weight, 1.0]), torch.zeros(2, 3), torch.ones(2))

    exact = [
        Gaussian(std=0.3), Gaussian(std=0.1), Gaussian(0.5, std=0.3), Gaussian(std=0.3,
        schedule=NoiseSchedule.linear(100)), Gaussian(covariance=torch.eye(3)), StationaryGaussian(torch.ones(5)),
        StationaryGaussian(torch.ones(5), N=9), StationaryGaussian(torch.arange(1.0, 6.0)), mixture(1.0), mixture(2.0),
    ]  # fmt: skip
    assert len({ev.fingerprint(prior) for prior in exact}) == len(exact)
    assert ev.fingerprint(Gaussian(std=0.3)) == ev.fingerprint(Gaussian(std=torch.tensor(0.3)))


LEVEL = 0.1


class Holder:
    """A prior with a private attribute."""

    def __init__(self, level):
        self._level = level

    def __call__(self, x_t, t, label=None):
        return self._level * x_t

    also = __call__


class Slotted:
    """A prior without a dictionary."""

    __slots__ = ("__level",)

    def __init__(self, level):
        self.__level = level

    def __call__(self, x_t, t, label=None):
        return self.__level * x_t


def enclosing(level):
    return lambda x_t, t, label=None: level * x_t


def scaled(level, x_t, t, label=None):
    return level * x_t


def of_global(x_t, t, label=None):
    return LEVEL * x_t


def of_global_within(x_t, t, label=None):
    return torch.stack([LEVEL * x for x in x_t])


def own_priors():
    """Pairs that differ in one thing."""

    def made(source):
        return eval(f"lambda x_t, t, label=None: {source}", {"torch": torch})

    return [
        (made("0.1 * x_t"), made("0.2 * x_t")),
        (made("torch.sin(x_t)"), made("torch.cos(x_t)")),
        (made("[v for v in (1, 2)]"), made("[v for v in (1, 3)]")),
        (made("x_t in {'a', 'b'}"), made("x_t in {'a', 'c'}")),
        (lambda x_t, t, label=None, level=0.1: x_t, lambda x_t, t, label=None, level=0.2: x_t),
        (lambda x_t, t, label=None, *, level=0.1: x_t, lambda x_t, t, label=None, *, level=0.2: x_t),
        (enclosing(torch.ones(2)), enclosing(torch.zeros(2))),
        (enclosing(Holder(0.1)), enclosing(Holder(0.2))),
        (partial(scaled, 0.1), partial(scaled, 0.2)),
        (partial(scaled, level=0.1), partial(scaled, level=0.2)),
        (Holder(0.1).also, Holder(0.2).also),
        (Holder(0.1), Holder(0.2)),
        (Slotted(0.1), Slotted(0.2)),
    ]


def test_a_method_knows_priors_of_ones_own(monkeypatch):
    for (one, other), (again, _) in zip(own_priors(), own_priors(), strict=True):
        assert ev.fingerprint(one) == ev.fingerprint(again) != ev.fingerprint(other)
    before = list(map(ev.fingerprint, (of_global, of_global_within)))
    monkeypatch.setitem(globals(), "LEVEL", 0.2)
    assert all(a != b for a, b in zip(before, map(ev.fingerprint, (of_global, of_global_within)), strict=True))


def test_what_a_prior_remembers_does_not_change_it():
    prior = Holder(0.5)
    prior._known = {}
    before = ev.fingerprint(prior)
    prior._known[1] = torch.ones(3)
    assert ev.fingerprint(prior) == before == "Holder (_level=0.5)"


def test_priors_that_hold_each_other_have_a_fingerprint():
    one, other = Holder(None), Holder(None)
    one._level, other._level = other, one
    assert ev.fingerprint(one) == "Holder (_level=Holder (_level=Holder))"


def test_settings_say_nothing_of_a_place_in_memory():
    from unasdiff_teach import SeparationConfig
    from unasdiff_teach.evaluation.methods import described

    authors = SeparationConfig.authors()
    assert described(authors) == str(authors)
    one, again, other = (authors.replace(loss=enclosing(level)) for level in (1.0, 1.0, 2.0))
    assert str(one) != str(again) and described(one) == described(again) != described(other)
    assert " at 0x" not in described(one) and str(authors.guidance) in described(one)


def test_results_of_another_class_guidance_are_refused_and_the_difference_is_named(tmp_path):
    from unasdiff_teach import SeparationConfig

    def method(scale):
        made = ev.sampling("recommended", {"sound": neural_prior(cfg_scale=scale)}, SeparationConfig.recommended())
        return ev.Method("recommended", Noisy(), settings=made.settings)

    ev.evaluate([method(None)], clips(1), tmp_path)
    with pytest.raises(ValueError, match=r"with settings = '[^,]*cfg_scale=None', now '[^,]*cfg_scale=3'; rename"):
        ev.evaluate([method(3)], clips(1), tmp_path)


def test_shipped_results_load_whatever_their_settings_say():
    from unasdiff_teach.evaluation.experiments import EXPERIMENTS, shipped

    for name in EXPERIMENTS:
        frame = shipped(name)
        assert list(frame.columns) == list(run_module.COLUMNS), name
        assert len(ev.summary(frame))


# tables


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    triples = clips(4, 3, task="1 speech + 2 sounds", kinds=("speech", "sound", "sound"), labels=(None, "Chime",
    "Flute"),
                    heard=(False, True, True), voices=("another", None, None))  # fmt: skip
    methods = [
        ev.unprocessed(),
        ev.Method("hybrid", Noisy(0.3), "recommended"),
        ev.Method("dps", Noisy(1.2), "recommended"),
    ]
    return ev.evaluate(methods, clips(6) + triples, tmp_path_factory.mktemp("run"))


def test_summary_counts_a_mixture_once(results):
    table = ev.summary(results)
    row = table.loc["1 speech + 1 sound", "hybrid", "recommended"]
    rows = results[(results["task"] == "1 speech + 1 sound") & (results["method"] == "hybrid")]
    assert len(rows) == 12 and row["n"] == 6
    assert row["mean"] == pytest.approx(rows["si_sdr"].mean()) and row["low"] < row["mean"] < row["high"]
    assert row["mean"] == pytest.approx(-20 * math.log10(0.3), abs=0.3)
    assert ev.as_text(table).unstack("task").shape == (3, 2)
    few = pd.DataFrame(
        {"mean": [1.25, 2.0, math.nan], "low": [1.0, math.nan, math.nan], "high": [1.5, math.nan, math.nan]}
    )
    assert list(ev.as_text(few, 1)) == ["1.2 [1.0, 1.5]", "2.0", "none"]


def test_pesq_that_found_no_utterance_is_counted(results):
    row = ev.summary(results, "pesq").loc["1 speech + 1 sound", "hybrid", "recommended"]
    assert (row["n"], row["left_out"]) == (0, 6)  # the stand-ins are shorter than PESQ accepts


def test_failure_and_success(results):
    failure = ev.summary(results, "failure").loc["1 speech + 1 sound"]["mean"]
    assert failure["hybrid", "recommended"] == 0 and failure["dps", "recommended"] == 100
    success = ev.summary(results, "si_sdr_success").loc["1 speech + 1 sound", "dps", "recommended"]
    assert (success["n"], success["left_out"]) == (0, 6)


def test_classes_voices_and_pairs(results):
    classes = ev.by_class(results).reset_index()
    assert set(classes["class"]) == {"speech", "Chime", "Flute"}
    heard = ev.by_heard(results).loc["1 speech + 2 sounds"].reset_index()
    assert not heard["heard"].any()
    gain = ev.compare(results, "hybrid", "dps").loc["1 speech + 1 sound"]
    assert gain["mean"] == pytest.approx(20 * math.log10(4), abs=0.3) and gain["n"] == 6
    assert gain["high"] - gain["low"] < 1
    with pytest.raises(ValueError, match="'dsg'"):
        ev.compare(results, "dsg", "dps")
    with pytest.raises(ValueError, match="'accent'"):
        ev.summary(results, by=["accent"])
    with pytest.raises(ValueError, match="'sdr'"):
        ev.summary(results, "sdr")


def test_differences_are_of_the_same_mixtures_with_the_same_noise(tmp_path):
    methods = [ev.Method("a", Noisy(0.3)), ev.Method("b", Noisy(0.6))]
    ev.evaluate(methods, clips(3), tmp_path)
    ev.evaluate(methods[:1], clips(3), tmp_path, seed=1)  # which "b" lacks
    ev.evaluate(methods[:1], clips(4), tmp_path)
    results = ev.evaluate(methods, clips(2), tmp_path, seed=2)
    found = ev.differences(results, "a", "b")
    assert list(found.index.get_level_values("mixture")) == [f"clip 2 {i}" for i in range(3)]
    scores = results.groupby(["method", "mixture", "seed"])["si_sdr"].mean()
    both = [scores["a", "clip 2 0", seed] - scores["b", "clip 2 0", seed] for seed in (0, 2)]
    assert found.iloc[0] == pytest.approx(np.mean(both)) and len(scores["a"]["clip 2 0"]) == 3
    table = ev.compare(results, "a", "b").iloc[0]
    assert (table["low"], table["high"]) == pytest.approx(ev.mean_interval(found)[1:3])


def test_beside_the_paper(results):
    table = ev.beside_paper(results)
    assert table.loc[("1 speech + 1 sound", "si_sdr", "hybrid"), ["paper", "preset"]].tolist() == [14.31, "recommended"]
    assert table.loc[("2 sounds", "si_sdr", "hybrid"), ["paper", "mean"]].isna().tolist() == [False, True]
    only_sounds = ev.beside_paper(results[results["kind"] == "sound"])
    assert only_sounds.xs("pesq", level="metric")["mean"].isna().all() and only_sounds["mean"].notna().any()
    assert len(ev.paper_table(3, "4 s")) == 13 and len(ev.paper_table(4)) == 20
    with pytest.raises(ValueError, match="two lengths"):
        ev.beside_paper(results, 3)


def test_results_load_from_folder_and_file(results, tmp_path):
    results.to_parquet(tmp_path / "results.parquet")
    both = ev.load_results(tmp_path, tmp_path / "results.parquet")
    assert len(both) == 2 * len(results)
    with pytest.raises(FileNotFoundError):
        ev.load_results(tmp_path / "nowhere")
