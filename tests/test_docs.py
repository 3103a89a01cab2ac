"""The appendices tell the truth: names, presets, numbers and translations on their pages are those of the library."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import code_spans, is_literal, resolve, rows, sections, text

import unasdiff_teach as ut
from unasdiff_teach import evaluation as ev
from unasdiff_teach.data.mixing import TASKS
from unasdiff_teach.evaluation import experiments
from unasdiff_teach.priors.neural import preconditioning

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PAGES = ["appendix_notation", "appendix_paper_map", "appendix_paper_vs_code", "appendix_glossary"]

# code spans that are no names of the library
PLAIN = {
    "code",
    "tests",
    "upright",
    "italics",
    "None",
    "paper()",
    "authors()",
    "short()",
    "recommended()",
    "torch.autocast",
}

ITEMS = [f"Eq. {n}" for n in range(1, 13)] + ["Algorithm 1"]
ITEMS += [f"{kind} {n}" for kind in ("Table", "Figure") for n in range(1, 5)]


# ------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("page", PAGES)
def test_every_code_name_exists(page):
    missing = []
    for span in code_spans(page):
        if span in PLAIN or is_literal(span) or ".py::" in span:
            continue
        try:
            # a call with values, such as DSG(sigma_scale=1.0), must run
            eval(span, dict(vars(ut))) if "=" in span else resolve(span)
        except (AttributeError, NameError, SyntaxError, TypeError, ValueError) as error:
            missing.append(f"{span}: {error}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("page", PAGES)
def test_every_test_exists(page):
    for span in (s for s in code_spans(page) if ".py::" in s):
        file, name = span.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, span


@pytest.mark.parametrize("name", ["NoiseSchedule.gamma", "separate(colour)", "nowhere.to_be_found", "Hybrid.floor"])
def test_a_wrong_name_is_found(name):
    with pytest.raises(AttributeError):
        resolve(name)


# --------------------------------------------------------------------------------------------------- paper map


def test_the_map_has_every_item_of_the_paper_once():
    page = "appendix_paper_map"
    titles = [title.partition(":")[0] for title in sections(page)]
    assert [t for t in titles if re.match(r"(Eq\.|Algorithm|Table|Figure) ", t)] == ITEMS
    assert [re.match(r"\{ref\}`(.*?) <", row[0])[1] for row in rows(page, "at-a-glance")] == ITEMS


def test_every_item_says_where_it_is_taught_coded_tested_and_whether_it_was_reproduced():
    for title, body in sections("appendix_paper_map").items():
        lines = re.findall(r"^- \*\*(\w+)\.\*\* ", body, flags=re.M)
        assert lines == ["Taught", "Coded", "Tested", "Reproduced"], title


def test_the_table_of_the_map_agrees_with_its_sections():
    found = {title.partition(":")[0]: body for title, body in sections("appendix_paper_map").items()}
    for (_, _, chapter, reproduced), item in zip(rows("appendix_paper_map", "at-a-glance"), ITEMS):
        taught = found[item].partition("**Taught.**")[2].partition("- **")[0]
        assert set(re.findall(r"\d+", chapter)) <= set(re.findall(r"\d+", taught)), item
        assert "to come" in taught or "to come" not in chapter, item
        verdict = found[item].partition("**Reproduced.** ")[2]
        assert verdict.lower().startswith(reproduced), item


def test_the_chapters_of_the_map_are_here():
    here = {int(path.name[:2]) for path in BOOK.glob("[0-9][0-9]_*.ipynb")}
    taught = [
        set(map(int, re.findall(r"\d+", chapter))) for _, _, chapter, _ in rows("appendix_paper_map", "at-a-glance")
    ]
    assert len(taught) > 10 and all(taught) and not set().union(*taught) - here


def test_numbers_quoted_from_the_papers_tables():
    tables = {n: ut.evaluation.paper_table(n) for n in (2, 3, 4)}

    def value(table, task, method, metric, length=""):
        t = tables[table].fillna("")
        row = t[(t["task"] == task) & (t["method"] == method) & (t["metric"] == metric)]
        row = row[row["length"] == length] if length else row
        return float(row["value"].iloc[0])

    claims = text("appendix_paper_map").partition("(claims)=")[2]
    mixed = "1 speech + 1 sound"
    for quoted, expected in [
        ("DPS has 1.87 dB", value(2, "2 speech", "dps", "si_sdr")),
        ("46.5 % failures", value(2, "2 speech", "dps", "failure")),
        ("analytical sampling 2.17 dB", value(2, "2 speech", "analytical", "si_sdr")),
        ("42.3 %", value(2, "2 speech", "analytical", "failure")),
        ("it fails in 42 %", value(3, "2 speech", "analytical", "failure", "4 s")),
        ("DiffWave in 41 %", value(3, "2 speech", "diffwave analytical", "failure", "4 s")),
        ("best PESQ (2.24)", value(4, mixed, "hybrid, time+stft", "pesq")),
        ("13.03 dB", value(4, mixed, "hybrid, time+stft", "si_sdr")),
        ("13.65 dB", value(4, mixed, "hybrid, time", "si_sdr")),
        ("same 14.31 dB", value(4, mixed, "hybrid, t*=125", "si_sdr")),
        ("same 14.31 dB", value(4, mixed, "hybrid", "si_sdr")),
        ("PESQ 2.11", value(4, mixed, "hybrid, t*=125", "pesq")),
        ("against 2.12", value(4, mixed, "hybrid", "pesq")),
        ("29.8 %", value(2, "2 speech", "hybrid", "failure")),
        ("30 %", value(3, "2 speech", "hybrid", "failure", "4 s")),
    ]:
        assert quoted in claims
        assert float(re.search(r"\d+\.?\d*", quoted)[0]) == expected, quoted


# ---------------------------------------------------------------------------------------------- paper and code


def test_all_30_places_are_there_once():
    page = "appendix_paper_vs_code"
    numbered = [int(m[1]) for title in sections(page) if (m := re.match(r"(\d+)\. ", title))]
    assert sorted(numbered) == list(range(1, 31))
    targets = [int(n) for n in re.findall(r"^\(difference-(\d+)\)=$", text(page), flags=re.M)]
    assert targets == numbered
    listed = [int(re.search(r"<difference-(\d+)>", row[0])[1]) for row in rows(page, "overview")]
    assert set(listed) == set(range(1, 31)) and listed == sorted(listed)
    for title, body in sections(page).items():
        if re.match(r"\d+\. ", title):
            lines = re.findall(r"^- \*\*(\w+)\.\*\* ", body, flags=re.M)
            assert lines == ["Text", "Code", "Here"], title


def test_fields_of_the_table_stand_in_their_section():
    found = {int(t.partition(".")[0]): body for t, body in sections("appendix_paper_vs_code").items() if t[0].isdigit()}
    for row in rows("appendix_paper_vs_code", "overview"):
        number = int(re.search(r"<difference-(\d+)>", row[0])[1])
        if row[1] == "no field":
            assert re.search(r"\*\*Here\.\*\*[^*]*No field", found[number]), number
        else:
            assert row[1].strip("`") in found[number], f"{number}: {row[1]}"


PRESETS = ("paper", "authors", "recommended")
INSIDE = {"Hybrid": "guidance", "ReconstructionLoss": "loss"}  # parts of SeparationConfig, whose presets set them


def preset_value(owner: str, field: str, preset: str):
    """What a preset holds, or the default for the classes without presets; LookupError if there is no such preset."""
    if owner in INSIDE:
        preset = "short" if preset == "recommended" else preset  # which has neither
        return getattr(getattr(getattr(ut.SeparationConfig, preset)(), INSIDE[owner]), field)
    cls = resolve(owner)
    if hasattr(cls, preset):
        return getattr(getattr(cls, preset)(), field)
    if preset == "authors" and not any(hasattr(cls, p) for p in PRESETS):
        return inspect.signature(cls).parameters[field].default
    raise LookupError(f"{owner} has no preset {preset}()")


def overview_cells():
    for row in rows("appendix_paper_vs_code", "overview"):
        if row[1] != "no field":
            owner, _, field = row[1].strip("`").rpartition(".")
            for preset, cell in zip(PRESETS, row[2:], strict=True):
                yield pytest.param(owner, field, preset, cell.strip(), id=f"{owner}.{field}-{preset}")


@pytest.mark.parametrize(("owner", "field", "preset", "cell"), list(overview_cells()))
def test_the_table_shows_what_the_presets_hold(owner, field, preset, cell):
    if cell == "—":
        return
    value = ast.literal_eval(cell.strip("*`"))
    if not cell.startswith("*"):
        assert preset_value(owner, field, preset) == value
        return
    with pytest.raises(LookupError):  # italics: no preset of this name, to be passed by hand
        preset_value(owner, field, preset)
    cls = resolve(owner)
    if dataclasses.is_dataclass(cls):
        needed = {
            f.name: 8000 for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING
        }
        assert getattr(cls(**needed | {field: value}), field) == value


S = ut.NoiseSchedule.linear()


def test_numbers_of_the_guided_step():
    page = text("appendix_paper_vs_code")
    first, floor = float(S.sigma[-1]), ut.Hybrid().s_floor
    assert round(first, 3) == 0.141 and "$\\sigma$ = 0.141" in page
    assert round(0.09 * first, 4) == 0.0127 and "0.0127 in the code" in " ".join(page.split())
    levels = [10 ** (level / 20) for level in ut.data.MixtureRules.paper().level_db]
    assert [round(level, 3) for level in levels] == [0.056, 0.1] and "RMS of 0.056 to 0.1" in page
    assert int((0.09 * S.sigma < floor).sum()) == 6 and int((S.sigma < floor).sum()) == 1
    assert ut.SeparationConfig.paper(ut.DSG).guidance == ut.DSG.paper()


def test_numbers_of_the_initial_state():
    page, t = text("appendix_paper_vs_code"), S.index_of(150)
    assert t == 149
    for index, gains in ((149, "gain of the noise 0.824, of the signal 0.566"), (199, "0.932 and 0.364")):
        noise, signal = (1 - S.alpha_bar[index]).sqrt(), S.alpha_bar[index].sqrt()
        assert re.findall(r"0\.\d+", gains) == [f"{noise:.3f}", f"{signal:.3f}"] and gains in " ".join(page.split())


def test_numbers_of_the_group_term():
    loss = ut.ReconstructionLoss(n_groups=512)
    for N, segments in ((64000, 512), (32000, 508), (16000, 500)):
        ones = loss.group_term(torch.ones(1, N), torch.zeros(1, N)) / math.sqrt(-(-N // 512))
        assert math.ceil(float(ones) - 1e-3) == segments  # the last segment may be shorter
    # by the text it is the time term over N_g: with a normalised gradient it changes nothing
    y, y_hat = torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(0)).double()
    paper = ut.ReconstructionLoss.paper()
    torch.testing.assert_close(paper.group_term(y, y_hat), paper.time_term(y, y_hat) / 512)
    released = ut.ReconstructionLoss()
    assert not torch.allclose(released.group_term(y, y_hat), released.time_term(y, y_hat) / 512, rtol=0.1)


def test_numbers_of_the_scaled_time():
    def differing(T):
        t = torch.arange(T)
        return int(((t.float() * (1000 / T)).trunc() != (t.double() * (1000 / T)).trunc()).sum())

    assert [differing(T) for T in (60, 50, 100, 200)] == [6, 0, 0, 0]


def test_numbers_of_the_network():
    page = text("appendix_paper_vs_code")
    for classes, count in ((1, 37_212_016), (50, 37_243_376)):
        with torch.device("meta"):
            net = ut.networks.TriplePathUNet(ut.networks.TriplePathConfig.paper(classes))
        assert sum(p.numel() for p in net.parameters()) == count and f"{count:,}" in page
    hop = net.config.hop
    assert (16065 // hop + 1) % 4 == 0 and (64000 // hop + 1) % 4, "lengths whose frames the released code pads"


def test_numbers_of_the_mixture_lists():
    assert {len(ut.data.mixtures(task, "test")) for task in TASKS} == {40}


# ---------------------------------------------------------------------------------------------------- notation


@pytest.mark.parametrize("t", [0, 50, 149, 199])
def test_translations_hold(t):
    """Each row of the translation table that is an equation, in float64."""
    alpha_bar, sigma_data = S.alpha_bar[t], 0.13
    sigma = S.noise_to_signal[t]  # EDM
    torch.testing.assert_close(alpha_bar, 1 / (1 + sigma**2))
    torch.testing.assert_close(S.log_snr[t], -2 * sigma.log())
    x0, noise = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(t)).double()
    x_t = ut.forward_noise(x0, t, noise, S)
    x = x_t / alpha_bar.sqrt()
    torch.testing.assert_close(x, x0 + sigma * noise)

    prior = ut.priors.Gaussian(std=sigma_data)
    eps, score = prior(x_t, t), prior.score(x_t, t)
    D = ut.tweedie(x_t, eps, t, S)
    torch.testing.assert_close(eps, (x - D) / sigma)
    torch.testing.assert_close(score, -eps / (1 - alpha_bar).sqrt())
    torch.testing.assert_close((D - x) / sigma**2, alpha_bar.sqrt() * score)

    factors = preconditioning(S, torch.tensor([t]), x_t, sigma_data)
    total = sigma**2 + sigma_data**2
    c_in, c_skip, c_out = 1 / total.sqrt(), sigma_data**2 / total, sigma * sigma_data / total.sqrt()
    for factor, edm in (
        (factors.c_in, c_in / alpha_bar.sqrt()),
        (factors.c_skip, c_skip / alpha_bar.sqrt()),
        (factors.c_out, c_out),
    ):
        torch.testing.assert_close(factor.squeeze(), edm)


def test_numbers_of_the_notation():
    page = " ".join(text("appendix_notation").split())
    rates = S.T_train * S.beta[[0, -1]]
    assert [round(float(r), 2) for r in rates] == [0.02, 4.0] and "from 0.02 to 4" in page
    assert round(float(S.sigma[-1]), 2) == 0.14 and "0 to 0.14" in page
    assert [round(float(v), 2) for v in S.noise_to_signal[[0, -1]]] == [0.01, 2.56] and "0.01 to 2.56" in page
    # the integral of score-SDE and the product of DDPM agree to about a per cent at the end of the chain
    assert math.exp(-float(S.beta.sum())) == pytest.approx(float(S.alpha_bar[-1]), rel=0.02)


def test_the_constant_of_dps_belongs_to_the_form_of_the_loss():
    """The gradient of a squared norm over the norm is twice the gradient of the norm."""
    y, x = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).double()
    x.requires_grad_()
    norm = (y - x).norm()
    (squared,) = torch.autograd.grad((y - x).square().sum(), x)
    (plain,) = torch.autograd.grad(norm, x)
    torch.testing.assert_close(squared / norm.detach(), 2 * plain)


def test_bars_of_the_glossary():
    assert ut.task.PEAK == 0.95 and "largest sample is 0.95" in text("appendix_glossary")


def test_numbers_of_the_readme():
    page, results = (
        " ".join((ROOT / "README.md").read_text(encoding="utf-8").split()),
        experiments.shipped("table-2").query("seed == 0 and task == '1 speech + 1 sound'"),
    )
    row = ev.summary(results, by=("method",)).xs("recommended", level="method").iloc[0]
    assert (
        f"{row['n']:.0f} test mixtures of one voice and one sound come apart with a mean SI-SDR of {row['mean']:.1f} dB"
        in page
    )
    assert f"(95 % interval {row['low']:.1f} to {row['high']:.1f};" in page
    calls = results[results["method"] == "recommended"]["network_calls"].unique()
    assert len(calls) == 1 and f"in {calls[0]} calls of each network" in page


@pytest.mark.slow
def test_numbers_of_the_readme_on_real_recordings():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    results = experiments.shipped("recorded-test")
    floors = [ev.floor_and_mask(task, corpus="recorded") for task in TASKS]
    found = ev.summary(pd.concat([results, *floors]), by=("method", "task"))
    header = next(line for line in page.splitlines() if line.startswith("| | 1 speech"))
    assert header.strip("| ").split(" | ") == list(TASKS)
    for words, method in (
        ("the mixture as it is", "unprocessed"),
        ("one fixed filter for each kind", "one spectrum"),
        ("NMF, a dictionary for each kind", "nmf"),
        ("recorded priors", "recorded priors, six runs"),
        ("Conv-TasNet, trained with the sources shown", "conv-tasnet"),
        ("TF-LoCoformer, trained with the sources shown", "tf-locoformer"),
        ("ratio mask, which knows the sources", "oracle ratio"),
    ):
        line = next(line for line in page.splitlines() if line.startswith(f"| {words} |"))
        for task, said in zip(TASKS, line.split(" |")[1:-1], strict=True):
            if (method, task) not in found.index:
                assert said.strip() == ""
                continue
            row = found.loc[(method, task)]
            shown = [float(x) for x in re.findall(r"-?\d+\.\d", said)]
            wanted = [row["mean"]] if method == "unprocessed" else [row["mean"], row["low"], row["high"]]
            assert row["n"] == 40 and shown == pytest.approx(wanted, abs=0.051)
    pairs = [("one spectrum", task) for task in TASKS]
    pairs += [(expert, task) for expert in ("conv-tasnet", "tf-locoformer") for task in TASKS]
    whole = pd.concat([results, *floors])
    apart = {p: ev.differences(whole[whole["task"] == p[1]], "recorded priors, six runs", p[0]) for p in pairs}
    words = ev.evidence(apart, 0.5)["verdict"]
    below = [("conv-tasnet", "2 speech"), ("tf-locoformer", "2 speech"), ("tf-locoformer", "1 speech + 1 sound")]
    assert (words[: len(TASKS)] == "higher").all() and set(words.index[words == "lower"]) == set(below)
    assert (words.drop(below)[len(TASKS) :] == "no clear difference").all()


def test_measured_differences_are_the_stored_ones():
    results = experiments.shipped("table-4")
    listed = rows("appendix_paper_vs_code", "measured")
    assert len(listed) >= 7
    for _, _, method, *shown in listed:
        for text_, metric in zip(shown, ("si_sdr", "pesq"), strict=True):
            row = ev.compare(results, f"hybrid, {method.strip()}", "hybrid", metric).iloc[0]
            values = [float(v) for v in re.findall(r"[+-]\d+\.\d+", text_.replace("\N{MINUS SIGN}", "-"))]
            assert row["n"] == 40 and values == pytest.approx([row["mean"], row["low"], row["high"]], abs=0.0051), (
                method
            )
