"""What is installed, what works, what to do: `unasdiff-teach doctor` or `python -m unasdiff_teach.doctor`.

Every check is a function that returns one `Finding`; none needs a network, and none changes anything outside a
temporary folder. The exit status is 1 when something that the library needs does not work.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)


@dataclass(frozen=True)
class Finding:
    """One line of the report. `level` is "ok", "note" (works without it) or "fail" (the library needs it)."""

    level: str
    subject: str
    what: str
    todo: str = ""


def check_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    where = f"{found} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Finding("ok", "Python", where)
    return Finding("fail", "Python", where, "use Python 3.11 or 3.12")


def _check_packages(subject: str, extra: str, level: str, todo: str) -> Finding:
    """The packages that this one asks for: `extra` is "" for the library itself, else "book" or "test"."""
    found, missing = [], []
    for line in requires("unasdiff-teach") or []:
        wanted, _, marker = line.partition(";")
        if (f'"{extra}"' in marker) if extra else not marker:
            name = re.match(r"[\w.-]+", wanted)[0]
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
    if missing:
        return Finding(level, subject, "missing: " + ", ".join(missing), todo)
    return Finding("ok", subject, ", ".join(found))


def check_library() -> Finding:
    return _check_packages("library", "", "fail", "pip install -r requirements.txt")


def check_book() -> Finding:
    finding = _check_packages("book", "book", "note", "pip install -r requirements.txt (needed to build the book)")
    if finding.level == "ok" and not version("jupyter-book").startswith("1."):
        return Finding("note", "book", finding.what, "jupyter-book 2 ignores _config.yml: install 1.0.4.post1")
    return finding


def check_tests() -> Finding:
    return _check_packages("tests", "test", "note", "pip install -r requirements.txt (needed to run the tests)")


def check_device() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("ok", "device", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        return Finding("ok", "device", "Apple GPU (mps)")
    threads = torch.get_num_threads()
    todo = "enough for pocket scale; the paper's scale wants a GPU (README, 'GPU')"
    return Finding("note", "device", f"CPU with {threads} thread{'s' * (threads != 1)}", todo)


def check_fft() -> Finding:
    """torch comes without FFTs on a few platforms, and the networks work on spectrograms."""
    import torch

    signal = torch.linspace(-1, 1, 1000)
    window = torch.hann_window(64)
    spectrum = torch.stft(signal, 64, 16, window=window, return_complex=True)
    back = torch.istft(spectrum, 64, 16, window=window, length=1000)
    error = float((back - signal).abs().max())
    if error < 1e-4:
        return Finding("ok", "spectrograms", f"STFT and back with an error of {error:.0e}")
    return Finding("fail", "spectrograms", f"STFT and back differs by {error:.0e}", "reinstall torch")


def check_sound_files() -> Finding:
    import numpy
    import soundfile

    signal = (0.5 * numpy.sin(numpy.arange(800) / 5)).astype("float32")
    formats = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "ogg"):
            path = os.path.join(folder, f"a.{suffix}")
            soundfile.write(path, signal, 8000)
            read, rate = soundfile.read(path)
            if rate == 8000 and len(read) == len(signal):
                formats.append(suffix)
    if len(formats) == 3:
        return Finding(
            "ok",
            "sound files",
            f"reads and writes {', '.join(formats)} (libsndfile {soundfile.__libsndfile_version__})",
        )
    return Finding("fail", "sound files", f"only {formats} work", "pip install --force-reinstall soundfile")


def check_pesq() -> Finding:
    import numpy
    from pesq import pesq

    rate = 8000
    time = numpy.arange(2 * rate) / rate
    # a buzz in syllables: PESQ scores only what it takes for an utterance
    clean = numpy.sign(numpy.sin(2 * numpy.pi * 120 * time)) * (numpy.sin(2 * numpy.pi * 3 * time) > 0) * 0.3
    noisy = clean + 0.05 * numpy.random.default_rng(0).standard_normal(len(clean))
    score = pesq(rate, clean, noisy, "nb")
    return Finding("ok", "PESQ", f"works (narrow band, {score:.2f} for a buzz in noise)")


def check_corpus() -> Finding:
    from .data.pocket_corpus import CORPORA

    found = []
    for name, folder in CORPORA.items():
        clips = sum(1 for path in folder.rglob("*") if path.suffix in (".flac", ".ogg", ".wav"))
        if not clips:
            make = "make corpus" + (" RECORDINGS=DIR" if name == "recorded" else "")
            todo = f"install the package from a full checkout, or run: {make}"
            return Finding("fail", "corpora", f"no sound in {folder}", todo)
        found.append(f"{clips} {name} sound files")
    return Finding("ok", "corpora", ", ".join(found))


def check_priors() -> Finding:
    import unasdiff_teach

    loaded = []
    for name in ("pocket-speech", "pocket-sound", "recorded-speech", "recorded-sound"):
        try:
            prior = unasdiff_teach.priors.load(name)
        except Exception as error:  # whatever it is, the report goes on
            todo = "use a full checkout" + (", or run: make priors" if name.startswith("pocket") else "")
            return Finding("fail", "priors", f"{name}: {error}", todo)
        loaded.append(f"{name} ({prior.sample_rate} Hz)")
    return Finding("ok", "priors", ", ".join(loaded))


def find_browser() -> str | None:
    """The Chromium-based browser that the page tests drive: UNASDIFF_BROWSER, or one found in the usual places."""
    if named := os.environ.get("UNASDIFF_BROWSER"):
        return shutil.which(named)
    on_path = (shutil.which(name) for name in BROWSERS)
    return next((path for path in (*on_path, *filter(os.path.exists, MAC_BROWSERS)) if path), None)


def check_browser() -> Finding:
    if path := find_browser():
        return Finding("ok", "browser", path)
    todo = "page tests will be skipped; Debian: apt install chromium, or name one in UNASDIFF_BROWSER"
    return Finding("note", "browser", "no Chromium, Chrome or Edge found", todo)


def check_real_audio() -> Finding:
    folder = os.environ.get("UNASDIFF_REAL_AUDIO")
    if folder and Path(folder).is_dir():
        return Finding("ok", "real recordings", folder)
    todo = "tests on real sound will be skipped; UNASDIFF_REAL_AUDIO names a folder"
    return Finding("note", "real recordings", "none", todo)


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_library,
    check_book,
    check_tests,
    check_device,
    check_fft,
    check_sound_files,
    check_pesq,
    check_corpus,
    check_priors,
    check_browser,
    check_real_audio,
)


def examine() -> list[Finding]:
    """Run every check. A check that raises is itself a finding: nothing stops the report."""
    findings = []
    for check in CHECKS:
        try:
            findings.append(check())
        except Exception as error:
            subject = check.__name__.removeprefix("check_").replace("_", " ")
            findings.append(
                Finding("fail", subject, f"{type(error).__name__}: {error}", "pip install -r requirements.txt")
            )
    return findings


def main() -> int:
    """Print the report. Returns 1 when something that the library needs does not work, else 0."""
    findings = examine()
    for finding in findings:
        print(f"{finding.level:<5} {finding.subject:<16} {finding.what}")
        if finding.todo:
            print(f"{'':<22} -> {finding.todo}")
    failed = sum(finding.level == "fail" for finding in findings)
    print(
        f"\n{failed} problem{'s' * (failed != 1)} to fix." if failed else "\nEverything that the library needs works."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
