"""The script for a GPU that is lent for minutes, on a processor: limits, failing parts, parts of weights, going on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "gpu_campaign.sh"
# In the training's place: counts its calls in its state, which is too large for one part.
TRAIN = """#!/bin/bash
while (($#)); do [[ $1 == --folder ]] && folder=$2; [[ $1 == --recordings ]] && recordings=$2; shift; done
state=$folder/${NAME:-recorded-joint}; mkdir -p $state
calls=$(($(cat $state/calls 2>/dev/null || echo 0) + 1)); echo $calls > $state/calls
head -c 20000000 /dev/zero > $state/state.pt
echo '{"step": '$calls', "loss": 0.25, "seconds": 1.0}' >> $state/log.jsonl
echo "{\\"mixtures\\": $(grep -c wav $recordings/manifest.csv), \\"si_sdr\\": 7.5}" > $folder/validation.json
printf 'step 1\\rstep 2\\rtrained %d times' $calls
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")]


@pytest.fixture
def campaign(tmp_path):
    """campaign(NAME=value, ...) -> the finished call, with a stand-in for the training and a small folder of
    recordings.
    """
    recordings, train = tmp_path / "recordings", tmp_path / "train.sh"
    recordings.mkdir()
    (recordings / "manifest.csv").write_text("file,source\na.wav,x\nb.wav,x\n")
    train.write_text(TRAIN)
    train.chmod(0o755)

    def call(seconds=60, **settings):
        given = {
            "OUT": tmp_path / "out", "RECORDINGS": recordings, "DEVICE": "cpu", "PYTHON": sys.executable,
            "TRAIN": train, "SCORE": "true", "TEST_SECONDS": 0, "BENCH_SECONDS": 0, "SCORE_SECONDS": 1,
            "OMP_NUM_THREADS": 1,
        } | settings  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if k not in ("FROM", "WORK", "WHEELS")} | {
            k: str(v) for k, v in given.items()
        }
        return subprocess.run(
            ["bash", SCRIPT, str(seconds)], capture_output=True, text=True, timeout=120, env=environment
        )

    return call


def test_a_part_that_fails_or_runs_over_does_not_stop_the_next(tmp_path, campaign):
    done = campaign(WHEELS=tmp_path, TEST_SECONDS=1)  # there are no wheels
    assert done.returncode == 0, done.stderr
    page, log = (tmp_path / "out" / "summary.md").read_text(), (tmp_path / "out" / "campaign.log").read_text()
    assert re.search(r"\| tests \| \d+ \| stopped after its 1 s \|", page)
    assert "| wheels |" in page and "failed with status 1; its last lines in campaign.log say why" in page
    assert "| done |" in page and "| 1 | 0.25 | 1 |" in page and '"mixtures": 2' in page and "cat weights.tar.*" in page
    lines = log.splitlines()
    assert [line[9:] for line in lines if "trained" in line or "step " in line] == [
        "step 1",
        "step 2",
        "trained 1 times",
    ]
    assert all(line[2] == line[5] == ":" for line in lines), "each line has its time"


def test_a_second_call_goes_on_from_the_parts_of_the_first(tmp_path, campaign):
    first, out = campaign(), tmp_path / "out"
    assert first.returncode == 0 and sorted(p.name for p in out.glob("weights.tar.*")) == [
        "weights.tar.00",
        "weights.tar.01",
    ]
    assert max(p.stat().st_size for p in out.iterdir()) <= 16 * 2**20 and len(list(out.iterdir())) <= 8
    again = campaign(OUT=tmp_path / "other", FROM=out)
    assert (
        again.returncode == 0
        and "training: goes on from the parts" in again.stdout
        and "trained 2 times" in again.stdout
    )
    third = campaign()
    assert "trained 2 times" in third.stdout, "without FROM from OUT"
    # Damaged parts are neither used nor replaced.
    with open(out / "weights.tar.01", "r+b") as file:
        file.write(b"damage")
    before = (out / "weights.tar.01").read_bytes()
    damaged = campaign()
    assert (
        damaged.returncode == 0
        and "trained" not in damaged.stdout
        and "are not those of weights.sha256" in damaged.stdout
    )
    assert (out / "weights.tar.01").read_bytes() == before


def test_a_training_under_its_old_name_goes_on(campaign):
    assert "trained 1 times" in campaign(NAME="pocket-joint").stdout
    assert "trained 2 times" in campaign().stdout


def test_what_a_bare_machine_lacks_is_said(tmp_path, campaign):
    bare = tmp_path / "python"  # of an interpreter without site-packages
    bare.write_text(f'#!/bin/bash\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    done = campaign(PYTHON=bare, TEST_SECONDS=5)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "| tests | 0 | skipped: needs pytest torch" in page and "WHEELS" in page
    assert "| training | 0 | skipped: needs torch" in page


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(seconds="soon"), "SECONDS is 'soon'"),
        (dict(OUT=""), "OUT must name the folder"),
        (dict(DEVICE="tpu"), "DEVICE is 'tpu'; accepted are cuda and cpu"),
    ],
)
def test_impossible_settings_are_refused(campaign, settings, message):
    done = campaign(**settings)
    assert done.returncode == 1 and message in done.stderr
