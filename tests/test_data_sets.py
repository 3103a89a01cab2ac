"""Data sets in their true layouts, tiny: fetched from a local server, damaged, cut off, converted, mixed, trained
from.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import re
import shutil
import threading
import zipfile
from collections import Counter, namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from unasdiff_teach._files import locked
from unasdiff_teach.cli import app
from unasdiff_teach.data import (
    archives,
    convert,
    folder,
    fsdkaggle2018,
    full_mixtures,
    manifest,
    sound_file,
    vctk,
    write,
)
from unasdiff_teach.data.archives import Archive, Member
from unasdiff_teach.data.audio import rms_db
from unasdiff_teach.data.convert import Item, Listing
from unasdiff_teach.data.mixing import TASKS, build
from unasdiff_teach.evaluation.methods import unprocessed
from unasdiff_teach.evaluation.run import evaluate
from unasdiff_teach.training import scales
from unasdiff_teach.training.crops import CropConfig, ManifestCrops, rows_of
from unasdiff_teach.training.separator import Mixer


def tone(seconds=0.3, rate=48_000, frequency=440.0, amplitude=0.3):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(audio, rate=48_000, kind="FLAC"):
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=kind, subtype="PCM_16")
    return file.getvalue()


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path.read_bytes()


def digest(content, kind="sha256"):
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


# ---------------------------------------------------------------------------------------------- tiny data sets


def vctk_files():
    """Utterances of a training and a test speaker, the two without mic2, and everything that can be wrong with a
    file.
    """
    good = encoded(tone())
    flac = {
        "p225/p225_001_mic1": good, "p225/p225_001_mic2": encoded(tone(frequency=500)),
        "p225/p225_002_mic1": encoded(tone(0.5)), "p225/p225_002_mic2": good, "p249/p249_001_mic1": encoded(tone(0.4)),
        "p249/p249_001_mic2": good, "p280/p280_001_mic1": good, "p315/p315_001_mic1": good, "s5/s5_001_mic1": good,
        "s5/s5_001_mic2": good, "p226/p226_001_mic1": good[: len(good) // 2], "p226/p226_002_mic1": b"",
        "p226/p226_003_mic1": encoded(0 * tone()), "p226/p226_004_mic1": b"not audio", "p226/p226_005_mic1": good,
        "p999/p999_001_mic1": good,
    }  # fmt: skip
    files = {f"wav48_silence_trimmed/{name}.flac": content for name, content in flac.items()}
    return files | {"txt/p225/p225_001.txt": b"Please call Stella.", "speaker-info.txt": b"ID  AGE"}


@pytest.fixture
def vctk_archive(tmp_path, monkeypatch):
    """The archive's bytes; the module expects its checksum."""
    content = zipped(tmp_path / "made.zip", vctk_files())
    (tmp_path / "made.zip").unlink()
    archive = Archive(
        "VCTK-Corpus-0.92.zip",
        "http://nowhere.invalid/VCTK.zip",
        digest(content),
        "wav48_silence_trimmed",
        len(content),
    )
    monkeypatch.setattr(vctk, "ARCHIVES", (archive,))
    return content


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


FSD_TRAIN = [
    ("00044347.wav", "Hi-hat", "0", "28739", "Attribution"),
    ("001ca53d.wav", "Saxophone", "1", "358827", "Creative Commons 0"),
    ("002d256b.wav", "Trumpet", "0", "10897", "Attribution Noncommercial"),
    ("0033e230.wav", "Glockenspiel", "1", "1", "Attribution"),
    ("00353774.wav", "Accordion", "1", "2", "Attribution"),
    ("003b91e8.wav", "Cello", "1", "3", "Attribution"),
]
FSD_TEST = [
    ("00326aa9.wav", "Oboe", "Private", "355125", "Attribution"),
    ("0038a046.wav", "Bass_drum", "Public", "90621", "Creative Commons 0"),
]


def table(head, rows):
    file = io.StringIO()
    csv.writer(file).writerows([head.split(","), *rows])
    return file.getvalue().encode()


def fsd_parts():
    """Three archives. 002d256b is cut off, 0033e230 has no recording, 003b91e8 is silent; an unlisted file lies among
    the rest.
    """
    wav = encoded(tone(rate=44_100), 44_100, "WAV")
    meta = {
        "train_post_competition.csv": table("fname,label,manually_verified,freesound_id,license", FSD_TRAIN),
        "test_post_competition_scoring_clips.csv": table("fname,label,usage,freesound_id,license", FSD_TEST),
    }
    train = {row[0]: wav for row in FSD_TRAIN if row[0] != "0033e230.wav"} | {"ffffffff.wav": wav}
    train |= {"002d256b.wav": wav[:9000], "003b91e8.wav": encoded(0 * tone(rate=44_100), 44_100, "WAV")}
    test = {row[0]: wav for row in FSD_TEST}
    return {
        f"FSDKaggle2018.{part}": {f"FSDKaggle2018.{part}/{name}": content for name, content in files.items()}
        for part, files in (("meta", meta), ("audio_train", train), ("audio_test", test))
    }


def unpack(root, files):
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A converted data set of four classes, six clips of 1 to 5 s each, with silence inside. Not to be changed."""
    return made(tmp_path_factory.mktemp("data") / "sounds", "sound", ["Bark", "Chime", "Gong", "Meow"], seed=1)


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return made(tmp_path_factory.mktemp("data") / "voices", "speech", ["ann", "bob", "cat"], seed=2)


@pytest.fixture
def own_sounds(tmp_path, sounds):
    """A copy that a test may damage."""
    shutil.copytree(sounds.folder, tmp_path / "own")
    return manifest.load(tmp_path / "own")


def made(place, kind, groups, seed, rate=16_000):
    generator = np.random.default_rng(seed)
    for group in groups:
        for i in range(6):
            audio = 0.1 * generator.standard_normal(round(generator.uniform(1, 5) * rate))
            audio[rate // 2 : rate // 2 + 3000] = 0
            unpack(place, {f"{'test' if i < 4 else 'train'}/{group}/{i}.wav": encoded(audio, rate, "WAV")})
    return folder.prepare(place, kind).manifest


# -------------------------------------------------------------------------------------------------- local server


class Server:
    """Serves one folder's files with byte ranges. `cut`: bytes after which a connection breaks, once for each entry."""

    def __init__(self):
        self.files, self.cut, self.ranges, self.honest, self.status = {}, [], [], True, 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                content = outer.files.get(self.path)
                if content is None or outer.status != 200:
                    return self.send_error(404 if content is None else outer.status)
                wanted = self.headers.get("Range") if outer.honest else None
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
                if body:
                    outer.ranges.append(wanted)
                if start >= len(content):
                    return self.send_error(416)
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if body:
                    end = start + outer.cut.pop(0) if outer.cut else None
                    self.wfile.write(content[start:end])

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def served(server):
    """A file of 100,000 bytes and its archive."""
    content = np.random.default_rng(0).bytes(100_000)
    server.files["/a.zip"] = content
    return server, content, Archive("a.zip", f"{server.url}/a.zip", digest(content), "a")


def seen(root):
    """What a user sees in a folder."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def test_download(root, served):
    server, content, archive = served
    assert archives.inspect(root, archive) == "missing" and archives.published_size(archive) == 100_000
    assert archives.fetch(root, archive).read_bytes() == content
    assert archives.inspect(root, archive) == "archive"
    assert seen(root) == ["a.zip"]


def test_two_downloads_of_one_archive_do_not_meet(root, served):
    _, _, archive = served
    with locked(root, "test", name=".a.zip.lock"), pytest.raises(BlockingIOError, match="another download of a.zip"):
        archives.fetch(root, archive)
    assert archives.inspect(root, archive) == "missing"


def test_download_resumes(root, served):
    server, content, archive = served
    (root / "a.zip.part").write_bytes(content[:60_000])
    assert archives.inspect(root, archive) == "part" and archives.have(root, archive) == 60_000
    assert archives.fetch(root, archive).read_bytes() == content
    assert server.ranges == ["bytes=60000-"]


def test_download_survives_broken_connections(root, served):
    server, content, archive = served
    server.cut = [30_000, 0, 0, 30_000]
    assert archives.fetch(root, archive, wait=0).read_bytes() == content
    assert server.ranges == [f"bytes={n}-" for n in (0, 30_000, 30_000, 30_000, 60_000)]


def test_download_that_gets_nowhere_is_given_up_and_keeps_what_it_has(root, served):
    server, content, archive = served
    server.cut = [30_000] + 99 * [0]
    with pytest.raises(ConnectionError, match="30,000 bytes are kept in a.zip.part; run the command again"):
        archives.fetch(root, archive, wait=0)
    assert len(server.ranges) == 1 + archives.TRIES
    server.cut = []
    assert archives.fetch(root, archive).read_bytes() == content


def test_server_that_knows_no_ranges(root, served):
    server, content, archive = served
    server.honest = False
    (root / "a.zip.part").write_bytes(b"x" * 500)
    assert archives.fetch(root, archive).read_bytes() == content


def test_refused_and_missing_files(root, served):
    server, content, archive = served
    with pytest.raises(ConnectionError, match="404"):
        archives.fetch(root, archive, mirror=server.url + "/elsewhere")
    with pytest.raises(ConnectionError, match="404"):
        archives.published_size(archive, server.url + "/elsewhere")
    server.status = 503
    with pytest.raises(ConnectionError, match="503"):
        archives.fetch(root, archive, wait=0)
    assert seen(root) == []


@pytest.mark.parametrize("early", [0, 100_000, 120_000])
def test_wrong_checksum_is_put_aside(root, served, early):
    """Also what an earlier download left: all of a file that is wrong, or more than there is."""
    server, content, archive = served
    if early:
        (root / "a.zip.part").write_bytes(b"x" * early)
    else:
        server.files["/a.zip"] = content[::-1]
    with pytest.raises(ValueError, match="put aside as a.zip.wrong"):
        archives.fetch(root, archive)
    assert seen(root) == ["a.zip.wrong"]
    server.files["/a.zip"] = content
    assert archives.fetch(root, archive).read_bytes() == content


def test_full_disk_is_noticed_before_the_download(root, served, monkeypatch):
    server, content, archive = served
    (root / "a.zip.part").write_bytes(content[:60_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(39_999))
    with pytest.raises(OSError, match="free") as caught:
        archives.fetch(root, archive)
    assert caught.value.errno == errno.ENOSPC and archives.have(root, archive) == 60_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(40_000))
    assert archives.fetch(root, archive).read_bytes() == content


def test_disk_that_fills_during_the_download(root, served, monkeypatch):
    server, content, archive = served
    true_open, left = open, [30_000]

    class Full:
        def __init__(self, *arguments):
            self.file = true_open(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, block):
            self.file.write(block[: left[0]])
            if len(block) > left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= len(block)

    monkeypatch.setattr(archives, "CHUNK", 20_000)
    monkeypatch.setattr(archives, "open", Full, raising=False)
    with pytest.raises(OSError, match="disk is full. .* bytes are kept in a.zip.part"):
        archives.fetch(root, archive)
    monkeypatch.undo()
    assert 0 < archives.have(root, archive) < 100_000
    assert archives.fetch(root, archive).read_bytes() == content


def test_check_takes_a_checksum_once(root, served, monkeypatch):
    server, content, archive = served
    (root / "a.zip").write_bytes(content)
    archives.check(root, archive)
    monkeypatch.setattr(archives, "digest", lambda *arguments: pytest.fail("hashed again"))
    archives.check(root, archive)
    monkeypatch.undo()
    (root / "a.zip").write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match="Nothing was taken from it"):
        archives.check(root, archive)
    assert (root / "a.zip").is_file(), "a file that is not ours stays where it is"
    with pytest.raises(FileNotFoundError, match="no archive"):
        archives.check(root / "elsewhere", archive)


@pytest.mark.parametrize("archive", [*vctk.ARCHIVES, *fsdkaggle2018.ARCHIVES], ids=lambda archive: archive.name)
def test_what_is_not_the_published_archive_is_refused(archive, tmp_path):
    """The digest is of its kind, and the file that the address names is checked against it."""
    assert archive.url.startswith("https://") and archive.name in archive.url
    (tmp_path / archive.name).write_bytes(b"another file")
    with pytest.raises(ValueError, match=re.escape(archive.name)):
        archives.check(tmp_path, archive)


# ---------------------------------------------------------------------------------------------------- manifest


def test_active_spans_by_hand():
    """Windows of 2205 samples every 1102: energy above 1e-4 is active, consecutive ones are joined."""
    rate = 44_100
    audio = torch.zeros(rate)
    audio[10_000:12_000] = 0.01
    energies = [float(audio[s : s + 2205].double().square().sum()) for s in range(0, rate - 2205 + 1, 1102)]
    active = [i for i, energy in enumerate(energies) if energy > 1e-4]
    assert active and active == list(range(active[0], active[-1] + 1))
    expected = [round(active[0] * 1102 / rate, 3), round((active[-1] * 1102 + 2205) / rate, 3)]
    assert manifest.active_spans(audio, rate) == [expected]


def test_active_spans_know_nothing_of_the_rate():
    for level, found in ((-72.0, [[0.0, 1.0]]), (-75.0, [])):
        for rate in (8000, 16_000, 44_100, 48_000):
            generator = torch.Generator().manual_seed(0)
            audio = torch.randn(rate, generator=generator)
            assert manifest.active_spans(audio * 10 ** (level / 20) / audio.square().mean().sqrt(), rate) == found


def test_active_spans_of_short_silent_and_interrupted_audio():
    assert manifest.active_spans(torch.zeros(5000), 16_000) == []
    assert manifest.active_spans(torch.full((80,), 0.5), 16_000) == [[0.0, 0.005]]
    audio = torch.zeros(48_000)
    audio[:8000] = audio[40_000:] = 0.1
    (_, first), (second, last) = manifest.active_spans(audio, 16_000)
    assert 0.5 <= first <= 0.575 and 2.425 <= second <= 2.5 and last == 3.0


def test_manifest_round_trip(sounds):
    again = manifest.load(sounds.folder)
    pd.testing.assert_frame_equal(again.rows, sounds.rows)
    assert (again.kind, again.sample_rate, again.labels) == ("sound", 16_000, ("Bark", "Chime", "Gong", "Meow"))
    assert again.about == sounds.about and again.fingerprint == sounds.fingerprint
    assert manifest.load(sounds.folder / manifest.NAME).fingerprint == sounds.fingerprint
    assert list(again.rows.columns) == list(manifest.COLUMNS)
    first = again.rows.iloc[0]
    assert len(again.read(first["path"])) == first["samples"]


def test_fingerprint_follows_the_content(sounds):
    rows = sounds.rows.to_dict("records")
    rows[0]["sha256"] = "0" * 64
    other = manifest.build(sounds.folder, rows, sounds.name, sounds.kind, 16_000, sounds.labels, {})
    assert other.fingerprint != sounds.fingerprint


def test_manifest_refuses(tmp_path, sounds):
    with pytest.raises(FileNotFoundError, match="unasdiff-teach data"):
        manifest.load(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match="not a manifest"):
        manifest.load(tmp_path / "bad.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="not a manifest"):
        manifest.load(tmp_path / "other.parquet")
    rows = sounds.rows.to_dict("records")
    arguments = ("x", "sound", 16_000, sounds.labels, {})
    with pytest.raises(ValueError, match="more than once"):
        manifest.build(tmp_path, [*rows, rows[0]], *arguments)
    with pytest.raises(ValueError, match="split is dev"):
        manifest.build(tmp_path, [rows[0] | {"split": "dev"}], *arguments)
    with pytest.raises(ValueError, match="labels that are not"):
        manifest.build(tmp_path, [rows[0] | {"label": "Owl"}], *arguments)
    with pytest.raises(ValueError, match="kind is 'noise'"):
        manifest.build(tmp_path, rows, "x", "noise", 16_000, sounds.labels, {})


def test_manifest_of_another_version(sounds, monkeypatch):
    monkeypatch.setattr(manifest, "VERSION", 2)
    with pytest.raises(ValueError, match="version 1; this package reads version 2"):
        manifest.load(sounds.folder)


def test_subsets(sounds):
    names = {subset: set(sounds.clips(subset)["id"]) for subset in manifest.SUBSETS}
    assert len(names["train"]) == 8 and len(names["test"]) == 16
    assert names["fit"] | names["validation"] == names["train"] and not names["fit"] & names["validation"]
    assert len(names["validation"]) == 1
    with pytest.raises(ValueError, match="subset is 'dev'"):
        sounds.clips("dev")
    rows = [row | {"split": "test"} for row in sounds.rows.to_dict("records")]
    with pytest.raises(ValueError, match="no train clips"):
        manifest.build(sounds.folder, rows, "x", "sound", 16_000, sounds.labels, {}).clips("train")


def test_a_validation_split_of_its_own_is_kept(sounds):
    rows = sounds.rows.to_dict("records")
    own = next(row["id"] for row in rows if row["split"] == "test")
    rows = [row | {"split": "validation"} if row["id"] == own else row for row in rows]
    changed = manifest.build(sounds.folder, rows, "x", "sound", 16_000, sounds.labels, {})
    assert list(changed.clips("validation")["id"]) == [own]
    assert list(changed.clips("fit")["id"]) == list(changed.clips("train")["id"])


# -------------------------------------------------------------------------------------------------- conversion


def item(name, content, **more):
    return Item(name, Member(f"{name}.wav", len(content), lambda: content), f"clips/{name}.flac", "train", **more)


def test_conversion_of_a_clip(tmp_path):
    """A tone comes out as the same tone at 16 kHz; what lies above 8 kHz does not come back folded."""
    low, high = tone(1.0, 44_100, 1000), tone(1.0, 44_100, 12_000)
    listing = Listing(
        [item("low", encoded(low, 44_100, "WAV"), speaker="a"), item("both", encoded(low + high, 44_100, "WAV"))]
    )
    result = convert.convert(listing, tmp_path / "set", "toy", "speech", about={"version": "3"})
    rows = result.manifest.rows.set_index("id")
    assert list(rows["samples"]) == [16_000, 16_000] and rows.loc["low", "spans"] == [[0.0, 1.0]]
    for name in ("low", "both"):
        audio = result.manifest.read(rows.loc[name, "path"])
        assert float((audio - torch.from_numpy(tone(1.0, 16_000, 1000)))[500:-500].abs().max()) < 1e-3
    file = tmp_path / "set" / rows.loc["low", "path"]
    assert rows.loc["low", "bytes"] == file.stat().st_size
    assert rows.loc["low", "sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result.manifest.about["version"] == "3" and result.manifest.about["sample_rate"] == 16_000


def test_peaks_beyond_full_scale_are_scaled_and_noted(tmp_path):
    square = np.sign(tone(0.3, 48_000, 300)).astype(np.float32)
    result = convert.convert(
        Listing([item("square", encoded(square, 48_000, "WAV"))]), tmp_path / "set", "toy", "speech"
    )
    row = result.manifest.rows.iloc[0]
    audio = result.manifest.read(row["path"])
    assert -3 < row["gain_db"] < -0.5 and 0.99 < float(audio.abs().max()) <= 1
    middle = float(audio[1000:-1000].abs().median())
    assert 20 * np.log10(middle) == pytest.approx(row["gain_db"], abs=0.3), "the waveform is scaled, not clipped"


def test_channels(tmp_path):
    left = tone(0.3, 16_000)
    listing = Listing([item("two", encoded(np.stack([left, 0 * left], 1), 16_000, "WAV"))])
    for mono, factor in (("mean", 0.5), ("first", 1.0)):
        result = convert.convert(listing, tmp_path / mono, "toy", "speech", mono=mono)
        assert float(result.manifest.read("clips/two.flac").abs().max()) == pytest.approx(0.3 * factor, abs=1e-3)
    with pytest.raises(ValueError, match="2 channels"):
        convert.convert(listing, tmp_path / "error", "toy", "speech", mono="error")


def test_everything_that_cannot_be_used_is_named(tmp_path):
    good = encoded(tone(0.3, 16_000), 16_000, "WAV")
    flac, aiff = encoded(tone(0.3, 16_000), 16_000), encoded(tone(0.3, 16_000), 16_000, "AIFF")
    nan = io.BytesIO()
    soundfile.write(nan, np.array([0.1, np.nan]), 16_000, format="WAV", subtype="FLOAT")
    flipped = bytearray(flac)
    flipped[len(flac) // 2] ^= 0xFF
    bad = {
        "cut": (good[:-100], "cut off: its header announces"), "cut_aiff": (aiff[:-100], "cut off"),
        "cut_flac": (flac[:-100], "read"), "flipped": (bytes(flipped), "cannot be read"), "text": (b"hello",
        "cannot be read"), "empty": (b"", "cannot be read"), "nothing": (encoded(np.zeros(0, np.float32), 16_000,
        "WAV"), "no samples"), "nan": (nan.getvalue(), "NaN"), "silent": (encoded(1e-5 * tone(0.3, 16_000), 16_000,
        "WAV"), "no active span"),
    }  # fmt: skip
    ogg = io.BytesIO()
    soundfile.write(ogg, tone(2.0), 48_000, format="OGG", subtype="OPUS")
    bad["cut_opus"] = (ogg.getvalue()[: len(ogg.getvalue()) // 2], "cut off: it ends before its last page")
    items = [item(name, content) for name, (content, _) in bad.items()] + [item("good", good)]
    result = convert.convert(Listing(items, (("speaker x", "no files"),)), tmp_path / "set", "toy", "speech")
    assert list(result.manifest.rows["id"]) == ["good"] and result.converted == 1
    reasons = dict(result.left_out)
    assert set(reasons) == {f"{name}.wav" for name in bad} | {"speaker x"}
    for name, (_, words) in bad.items():
        assert words in reasons[f"{name}.wav"] and "object at" not in reasons[f"{name}.wav"]
    assert [path.name for path in (tmp_path / "set" / "clips").iterdir()] == ["good.flac"]
    written = list(csv.reader((tmp_path / "set" / convert.LEFT_OUT).read_text(encoding="utf-8").splitlines()))
    assert written == [["file", "reason"], *sorted([list(pair) for pair in result.left_out])]


def test_nothing_to_convert(tmp_path):
    with pytest.raises(ValueError, match="nothing to convert for toy: a.wav: gone"):
        convert.convert(Listing([], (("a.wav", "gone"),)), tmp_path / "set", "toy", "speech")
    with pytest.raises(ValueError, match="none of the 1 recordings"):
        convert.convert(Listing([item("a", b"")]), tmp_path / "set", "toy", "speech")
    with pytest.raises(FileNotFoundError, match="no folder"):
        convert.convert(Listing([item("a", b"")]), tmp_path / "no" / "set", "toy", "speech")


def counted(contents, fail=None):
    """Items that count how often they are read; the one named `fail` interrupts."""
    reads = Counter()

    def read(name, content):
        reads[name] += 1
        if name == fail:
            raise KeyboardInterrupt
        return content

    members = {
        name: Member(f"{name}.wav", len(content), lambda n=name, c=content: read(n, c))
        for name, content in contents.items()
    }
    return Listing([Item(name, member, f"clips/{name}.flac", "train") for name, member in members.items()]), reads


def test_conversion_resumes_after_a_stop_and_gives_the_same(tmp_path):
    contents = {f"c{i}": encoded(tone(0.2 + 0.05 * i, 16_000), 16_000, "WAV") for i in range(6)}
    whole = convert.convert(counted(contents)[0], tmp_path / "whole", "toy", "speech").manifest
    with pytest.raises(KeyboardInterrupt):
        convert.convert(counted(contents, fail="c3")[0], tmp_path / "set", "toy", "speech", workers=1)
    assert not (tmp_path / "set" / manifest.NAME).exists(), "no manifest before all is done"
    with open(tmp_path / "set" / convert.JOURNAL, "a") as file:
        file.write('{"id": "c9", "torn')
    listing, reads = counted(contents)
    result = convert.convert(listing, tmp_path / "set", "toy", "speech")
    assert set(reads) == {"c3", "c4", "c5"} and result.converted == 3
    pd.testing.assert_frame_equal(result.manifest.rows, whole.rows)
    assert result.manifest.fingerprint == whole.fingerprint
    listing, reads = counted(contents)
    assert convert.convert(listing, tmp_path / "set", "toy", "speech").converted == 0 and not reads


def test_lost_and_changed_files_are_made_anew(tmp_path):
    contents = {f"c{i}": encoded(tone(0.2, 16_000, 300 + 100 * i), 16_000, "WAV") for i in range(4)}
    first = convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech").manifest
    (tmp_path / "set/clips/c0.flac").unlink()
    clip = tmp_path / "set/clips/c1.flac"
    clip.write_bytes(clip.read_bytes()[:-5])
    assert dict(convert.verify(first)) == {
        "clips/c0.flac": "missing",
        "clips/c1.flac": "changed since it was converted",
    }
    contents["c2"] = encoded(tone(0.4, 16_000), 16_000, "WAV")
    listing, reads = counted(contents)
    result = convert.convert(listing, tmp_path / "set", "toy", "speech")
    assert set(reads) == {"c0", "c1", "c2"} and convert.verify(result.manifest) == []
    assert result.manifest.rows.set_index("id").loc["c2", "seconds"] == pytest.approx(0.4)
    del contents["c3"]
    result = convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech")
    assert list(result.manifest.rows["id"]) == ["c0", "c1", "c2"], "what is no longer there is no longer used"


def test_another_recording_of_the_same_size_is_converted(root):
    low, high = (encoded(tone(0.2, 16_000, f), 16_000, "WAV") for f in (300, 600))
    unpack(root, {"ann/1.wav": low, "ann/2.wav": low})
    first = folder.prepare(root, "speech").manifest.rows
    assert folder.prepare(root, "speech").converted == 0
    (root / "ann/1.wav").write_bytes(high)
    again = folder.prepare(root, "speech")
    assert len(low) == len(high) and again.converted == 1
    assert list(first["sha256"] != again.manifest.rows["sha256"]) == [True, False]
    # A set that an earlier version has made is not made anew.
    journal = again.manifest.folder / convert.JOURNAL
    journal.write_text(re.sub(r', "source_mark": \d+', "", journal.read_text()))
    assert "source_mark" not in journal.read_text() and folder.prepare(root, "speech").converted == 0


def test_another_content_of_the_same_size_in_an_archive_is_another(root):
    archive = Archive("a.zip", "", "", "a", 0)
    marks = [zipped(root / "a.zip", {"x": x}) and archives.members(root, archive)[0].mark for x in (b"1", b"2", b"1")]
    assert marks[0] == marks[2] != marks[1]


def test_a_converted_clip_whose_recording_broke_is_not_used(tmp_path):
    contents = {f"c{i}": encoded(tone(0.2, 16_000), 16_000, "WAV") for i in range(2)}
    convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech")
    contents["c1"] = contents["c1"][:-50]
    result = convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech")
    assert list(result.manifest.rows["id"]) == ["c0"] and [name for name, _ in result.left_out] == ["c1.wav"]


def test_other_settings_are_refused(tmp_path):
    contents = {"c": encoded(tone(0.2, 16_000), 16_000, "WAV")}
    convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech")
    with pytest.raises(ValueError, match="sample_rate = 16000, now 8000"):
        convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech", sample_rate=8000)


def test_two_that_write_into_one_folder_do_not_meet(tmp_path, manifests):
    contents = {"c": encoded(tone(0.2, 16_000), 16_000, "WAV")}
    with locked(tmp_path / "set", "test"), pytest.raises(BlockingIOError, match="another conversion is running in"):
        convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech")
    plan = full_mixtures.plan(tmp_path / "lists", manifests, ["2 speech"], count=1)
    with locked(plan.folder, "test"), pytest.raises(BlockingIOError, match="another writing of mixtures is running"):
        full_mixtures.write(plan, manifests)
    assert not (tmp_path / "set" / convert.JOURNAL).exists() and not (plan.folder / full_mixtures.JOURNAL).exists()


def test_full_disk_before_and_during_conversion(tmp_path, monkeypatch):
    contents = {f"c{i}": encoded(tone(0.2, 16_000), 16_000, "WAV") for i in range(4)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(10))
    with pytest.raises(OSError, match="converting toy takes"):
        convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech")
    monkeypatch.undo()

    def full(path, audio, rate):
        if path.name == "c2.flac":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, audio, rate)

    monkeypatch.setattr(convert, "write", full)
    with pytest.raises(OSError, match="2 clips more are done, and the next call goes on") as caught:
        convert.convert(counted(contents)[0], tmp_path / "set", "toy", "speech", workers=1)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    listing, reads = counted(contents)
    assert convert.convert(listing, tmp_path / "set", "toy", "speech").converted == 2 and set(reads) == {"c2", "c3"}


# ------------------------------------------------------------------------------------------------------- VCTK


def test_vctk_speakers():
    assert len(set(vctk.SPEAKERS)) == 110 and list(vctk.SPEAKERS) == sorted(vctk.SPEAKERS)
    training, test = vctk.split_speakers()
    assert (len(training), test) == (100, vctk.TEST_SPEAKERS)
    assert set(training) | set(test) == set(vctk.SPEAKERS)


def test_vctk_of_an_archive(root, vctk_archive):
    (root / "VCTK-Corpus-0.92.zip").write_bytes(vctk_archive)
    result = vctk.prepare(root)
    rows = result.manifest.rows.set_index("id")
    names = ["p225_001", "p225_002", "p226_005", "p249_001", "p280_001", "p315_001", "s5_001"]
    assert list(rows.index) == names and result.manifest.folder.name == "vctk-mic1-16k"
    assert {name for name in names if rows.loc[name, "split"] == "test"} == {"p249_001", "p280_001"}
    assert (
        set(rows["licence"]) == {"CC BY 4.0"} and rows["label"].isna().all() and rows.loc["s5_001", "speaker"] == "s5"
    )
    assert rows.loc["p225_002", "samples"] == 8000 and rows.loc["p225_002", "source"].endswith(
        "p225/p225_002_mic1.flac"
    )
    reasons = {name.rpartition("/")[2]: why for name, why in result.left_out if "/" in name}
    assert set(reasons) == {f"p226_00{i}_mic1.flac" for i in range(1, 5)} | {"p999_001_mic1.flac"}
    assert "VCTK 0.92" in reasons["p999_001_mic1.flac"] and "empty" in reasons["p226_002_mic1.flac"]
    missing = [name for name, why in result.left_out if name.startswith("speaker")]
    assert len(missing) == 110 - 6 and "speaker p227" in missing
    assert vctk.prepare(root).converted == 0


@pytest.mark.parametrize("part", ["vctk", "fsd"])
def test_no_archive_stays_open(root, vctk_archive, monkeypatch, part):
    """Neither when it has been listed nor when it has been converted, also for one who keeps the list."""
    opened = []

    class Watched(zipfile.ZipFile):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            opened.append(self)

    if part == "vctk":
        (root / "VCTK-Corpus-0.92.zip").write_bytes(vctk_archive)
    else:
        for name, files in fsd_parts().items():
            zipped(root / f"{name}.zip", files)
    monkeypatch.setattr(archives.zipfile, "ZipFile", Watched)
    listing = (vctk if part == "vctk" else fsdkaggle2018).listing(root)
    assert opened and all(archive.fp is None for archive in opened)
    assert convert.convert(
        listing, root / "new", part, "speech" if part == "vctk" else "sound", fsdkaggle2018.LABELS
    ).converted
    assert all(archive.fp is None for archive in opened) and listing.items[0].member.read()
    listing.items[0].member.close()


def test_vctk_of_the_other_microphone(root, vctk_archive):
    (root / "VCTK-Corpus-0.92.zip").write_bytes(vctk_archive)
    first, second = vctk.prepare(root), vctk.prepare(root, "mic2")
    assert list(second.manifest.rows["id"]) == ["p225_001", "p225_002", "p249_001", "s5_001"]
    reasons = dict(second.left_out)
    assert reasons["speaker p280"] == reasons["speaker p315"] == "no mic2 recordings in VCTK 0.92"
    assert reasons["speaker p226"] == "no mic2 recordings here"
    assert first.manifest.folder != second.manifest.folder and second.manifest.about["microphone"] == "mic2"
    with pytest.raises(ValueError, match="microphone is 'mic3'"):
        vctk.listing(root, "mic3")


@pytest.mark.parametrize("place", [".", "VCTK-Corpus-0.92"])
def test_vctk_unpacked_is_the_same(root, tmp_path, vctk_archive, place):
    (root / "VCTK-Corpus-0.92.zip").write_bytes(vctk_archive)
    other = tmp_path / "other"
    unpack(other / place, vctk_files())
    packed, unpacked = vctk.prepare(root).manifest, vctk.prepare(other).manifest
    assert archives.inspect(other, vctk.ARCHIVES[0]) == "unpacked" and packed.fingerprint == unpacked.fingerprint


def test_vctk_damage_inside_an_archive(root, tmp_path, vctk_archive):
    """One byte of a member: the archive's own checksum of that member finds it, and the others are used."""
    content = bytearray(vctk_archive)
    with zipfile.ZipFile(io.BytesIO(vctk_archive)) as opened:
        info = opened.getinfo("wav48_silence_trimmed/p225/p225_002_mic1.flac")
    content[info.header_offset + 2000] ^= 0xFF
    (root / "VCTK-Corpus-0.92.zip").write_bytes(bytes(content))
    result = vctk.prepare(root)
    assert "CRC" in dict(result.left_out)["VCTK-Corpus-0.92.zip/wav48_silence_trimmed/p225/p225_002_mic1.flac"]
    assert "p225_001" in set(result.manifest.rows["id"])


def test_vctk_is_not_there(root, vctk_archive):
    with pytest.raises(FileNotFoundError, match="neither VCTK-Corpus-0.92.zip nor wav48_silence_trimmed/ is in"):
        vctk.listing(root)
    (root / "VCTK-Corpus-0.92.zip").write_bytes(vctk_archive[:-5000])
    with pytest.raises(ValueError, match="not a zip archive"):
        vctk.listing(root)


# ------------------------------------------------------------------------------------------------ FSDKaggle2018


def test_fsd_classes():
    assert len(set(fsdkaggle2018.LABELS)) == 41


@pytest.mark.parametrize("packed", [True, False])
def test_fsd(root, packed):
    for name, files in fsd_parts().items():
        if packed:
            zipped(root / f"{name}.zip", files)
        else:
            unpack(root, files)
    result = fsdkaggle2018.prepare(root)
    rows = result.manifest.rows.set_index("id")
    assert list(rows.index) == ["00044347", "001ca53d", "00326aa9", "0038a046"]
    assert list(rows["split"]) == ["train", "train", "test", "test"]
    assert list(rows["label"]) == ["Hi-hat", "Saxophone", "Oboe", "Bass_drum"]
    assert list(rows["verified"]) == [False, True, True, True]
    assert list(rows["licence"]) == ["CC BY", "CC0", "CC BY", "CC0"]
    assert result.manifest.labels == fsdkaggle2018.LABELS and result.manifest.classes(rows) == [0, 1, 18, 9]
    reasons = {name.rpartition("/")[2]: why for name, why in result.left_out}
    assert set(reasons) == {"0033e230.wav", "00353774.wav", "002d256b.wav", "003b91e8.wav"}
    assert (
        reasons["0033e230.wav"] == "listed, but not there"
        and "'Accordion' is not one of the 41" in reasons["00353774.wav"]
    )
    assert "cut off" in reasons["002d256b.wav"] and "no active span" in reasons["003b91e8.wav"]


def test_fsd_in_part(root):
    parts = fsd_parts()
    unpack(root, parts["FSDKaggle2018.meta"])
    unpack(root, parts["FSDKaggle2018.audio_test"])
    result = fsdkaggle2018.prepare(root)
    assert set(result.manifest.rows["split"]) == {"test"}
    assert "the train clips are missing" in dict(result.left_out)["FSDKaggle2018.audio_train.zip"]
    unpack(root, parts["FSDKaggle2018.audio_train"])
    assert fsdkaggle2018.prepare(root).converted == 2


def test_fsd_damaged_lists(root):
    parts = fsd_parts()
    for name in ("FSDKaggle2018.audio_train", "FSDKaggle2018.audio_test"):
        unpack(root, parts[name])
    with pytest.raises(FileNotFoundError, match="neither FSDKaggle2018.meta.zip"):
        fsdkaggle2018.listing(root)
    place = root / "FSDKaggle2018.meta"
    place.mkdir()
    with pytest.raises(FileNotFoundError, match="has no test_post_competition"):
        fsdkaggle2018.listing(root)
    unpack(root, parts["FSDKaggle2018.meta"])
    (place / "train_post_competition.csv").write_bytes(table("fname,label", [("a.wav", "Oboe")]))
    with pytest.raises(ValueError, match="no column license"):
        fsdkaggle2018.listing(root)
    (place / "train_post_competition.csv").write_bytes(
        table("fname,label,license", 2 * [("a.wav", "Oboe", "Attribution")])
    )
    with pytest.raises(ValueError, match="lists a clip twice"):
        fsdkaggle2018.listing(root)


# ------------------------------------------------------------------------------------------------ own recordings


def test_folder_of_sounds(root):
    wav = encoded(tone(0.2, 22_050), 22_050, "WAV")
    unpack(root, {f"{label}/{i}.wav": wav for label in ("Dog", "Cat") for i in range(10)})
    unpack(root, {"loose.wav": wav, "Dog/phone.m4a": wav, "Dog/notes.txt": b"", "Dog/10.FLAC": encoded(tone(0.2))})
    result = folder.prepare(root, "sound", licence="CC0")
    rows = result.manifest.rows
    assert result.manifest.labels == ("Cat", "Dog") and len(rows) == 21 and set(rows["licence"]) == {"CC0"}
    assert Counter(rows[rows["split"] == "test"]["label"]) == {"Cat": 1, "Dog": 1}
    assert dict(result.left_out).keys() == {"loose.wav", "Dog/phone.m4a"}
    assert (
        result.manifest.folder == root.with_name("root-16k")
        and (root.with_name("root-16k") / "clips/Dog/10.FLAC.flac").is_file()
    )
    test = set(rows[rows["split"] == "test"]["id"])
    (root / "Fox").mkdir()
    unpack(root, {"Fox/1.wav": wav})
    again = folder.prepare(root, "sound").manifest.rows
    assert set(again[again["split"] == "test"]["id"]) == test, "a new class moves nothing"


def test_a_folder_takes_what_a_separation_takes(root):
    """Opus among it: what one command reads, the other does not refuse."""
    sound = io.BytesIO()
    soundfile.write(sound, tone(0.5), 48_000, format="OGG", subtype="OPUS")
    unpack(root, {f"Dog/{i}.opus": sound.getvalue() for i in range(4)})
    result = folder.prepare(root, "sound", licence="CC0")
    assert len(result.manifest.rows) == 4 and not result.left_out
    assert sound_file.read_recording(root / "Dog" / "0.opus").audio.shape[0] == 1


def test_folder_of_speech(root):
    wav = encoded(tone(0.2, 16_000), 16_000, "WAV")
    unpack(root, {f"{who}/{i}.wav": wav for who in ("ann", "bob", "cat", "dan") for i in range(3)})
    items = folder.listing(root, "speech", test=0.25).items
    split = {item.speaker: item.split for item in items}
    assert Counter(split.values()) == {"train": 3, "test": 1} and len({(i.speaker, i.split) for i in items}) == 4
    assert all(item.label is None for item in items)
    assert {item.split for item in folder.listing(root, "speech", test=0).items} == {"train"}


def test_folder_of_one_unknown_speaker(root):
    wav = encoded(tone(0.2, 16_000), 16_000, "WAV")
    unpack(root, {f"{i}.wav": wav for i in range(20)})
    items = folder.listing(root, "speech").items
    assert Counter(item.split for item in items) == {"train": 18, "test": 2} and {item.speaker for item in items} == {
        None
    }


def test_folder_with_splits(root):
    wav = encoded(tone(0.2, 16_000), 16_000, "WAV")
    unpack(root, {f"{split}/Dog/{i}.wav": wav for split in manifest.SPLITS for i in range(2)} | {"Cat/1.wav": wav})
    found = folder.listing(root, "sound")
    assert Counter((item.split, item.label) for item in found.items) == {(split, "Dog"): 2 for split in manifest.SPLITS}
    assert dict(found.left_out) == {"Cat/1.wav": "it lies beside the folders train, validation and test"}


def test_folder_refuses(root):
    for arguments, message in (({"kind": "music"}, "kind is 'music'"), ({"kind": "sound", "test": 1.5}, "test is 1.5")):
        with pytest.raises(ValueError, match=message):
            folder.listing(root, **arguments)
    with pytest.raises(FileNotFoundError, match="no folder"):
        folder.listing(root / "no", "sound")
    with pytest.raises(ValueError, match="no recording was found"):
        folder.prepare(root, "sound")


# ---------------------------------------------------------------------------------------------- training from it


def test_crops_are_those_of_the_generator(sounds):
    draw = ManifestCrops(sounds, "train", seconds=1.5)
    first, label = draw(5, torch.Generator().manual_seed(0))
    assert first.shape == (5, 24_000) and first.dtype == torch.float32 and label.dtype == torch.int64 and len(draw) == 8
    again, same = draw(5, torch.Generator().manual_seed(0))
    assert torch.equal(first, again) and torch.equal(label, same)
    assert not torch.equal(first, draw(5, torch.Generator().manual_seed(1))[0])


def test_crops_are_pieces_of_the_clips_of_their_class(sounds):
    draw = ManifestCrops(sounds, "train", seconds=0.01)
    x, labels = draw(12, torch.Generator().manual_seed(0))
    pieces = {label: [] for label in sounds.labels}
    for row in sounds.clips("train").to_dict("records"):
        pieces[row["label"]].append(sounds.read(row["path"]).unfold(0, x.shape[1], 1))
    norms = {label: [windows.norm(dim=1).clamp(min=1e-6) for windows in found] for label, found in pieces.items()}
    signs = set()
    for signal, label in zip(x, labels):
        name = sounds.labels[label]
        likeness = torch.cat([(w @ signal) / n for w, n in zip(pieces[name], norms[name])]) / signal.norm()
        best = float(likeness[likeness.abs().argmax()])
        assert abs(best) == pytest.approx(1, abs=1e-4)
        signs.add(best > 0)
    assert len(set(labels.tolist())) > 2 and signs == {True, False}


def test_classes_are_drawn_equally(sounds):
    rows = sounds.rows.to_dict("records")
    rare = [row for row in rows if row["label"] != "Gong"] + [
        row for row in rows if row["label"] == "Gong" and row["split"] == "train"
    ][:1]
    uneven = manifest.build(sounds.folder, rare, "x", "sound", 16_000, sounds.labels, {})
    _, labels = ManifestCrops(uneven, "train", seconds=0.1)(120, torch.Generator().manual_seed(0))
    assert min(Counter(labels.tolist()).values()) > 18


def test_crops_levels_lengths_and_speeds(sounds):
    config = CropConfig(1, level_db=(-30.0, -28.0), partial=1.0, shortest=0.25, speeds=(0.9, 1.1))
    x, _ = ManifestCrops(sounds, "test", seconds=1.0, config=config)(40, torch.Generator().manual_seed(0))
    assert x.shape == (40, 16_000)
    levels = rms_db(x)
    assert -30.01 < float(levels.min()) and float(levels.max()) < -27.99
    heard = (x != 0).sum(1)
    assert 3000 < int(heard.min()) and int(heard.max()) < 16_000


def test_speech_is_one_class(voices):
    _, labels = ManifestCrops(voices, "fit", seconds=0.2)(20, torch.Generator().manual_seed(0))
    assert voices.labels == () and set(labels.tolist()) == {0}


def test_clips_of_unknown_speakers_are_voices_of_their_own(root):
    wav = encoded(tone(0.3, 16_000), 16_000, "WAV")
    unpack(root, {f"train/{name}.wav": wav for name in ("ann/1", "ann/2", "3", "4")})
    made = folder.prepare(root, "speech").manifest
    draw = scales.Source.open(made.folder).crops("train", CropConfig(1600), True)
    assert draw.manifest.labels == ("ann", "clip train/3.wav", "clip train/4.wav") and len(draw.members) == 3
    made.rows["speaker"] = None
    assert made.groups(made.rows) == [f"clip {name}" for name in made.rows["id"]]


def test_a_process_reads_only_the_examples_that_are_its_own(sounds, monkeypatch):
    """Of each source of a mixture too, also where labels that met were drawn again; the examples are those of the
    whole batch.
    """
    read = []
    original = ManifestCrops._read
    monkeypatch.setattr(ManifestCrops, "_read", lambda self, *where: read.append(where) or original(self, *where))
    draw = ManifestCrops(sounds, "train", seconds=0.2)
    for whole in (draw, Mixer({"sound": draw}, ("sound", "sound"))):
        batch, left = rows_of(whole, 8, torch.Generator().manual_seed(0), slice(None)), torch.Generator().manual_seed(0)
        read.clear()
        own = rows_of(whole, 8, left, slice(1, None, 4))
        assert len(read) == (2 if whole is draw else 4)
        batch, own = ((a,) if isinstance(a, torch.Tensor) else a for a in (batch, own))
        for a, b in zip(batch, own, strict=True):
            assert torch.equal(a[1::4], b)


def test_a_damaged_clip_is_named(own_sounds):
    path = own_sounds.folder / own_sounds.clips("train")["path"][0]
    path.write_bytes(path.read_bytes()[:200])
    draw = ManifestCrops(own_sounds, "train", seconds=0.5)
    with pytest.raises(ValueError, match=rf"{path.name}.*data verify"):
        draw(50, torch.Generator().manual_seed(0))


# ---------------------------------------------------------------------------------------------------- mixtures

COUNT = 3


@pytest.fixture(scope="module")
def manifests(sounds, voices):
    return {"speech": voices, "sound": sounds}


@pytest.fixture(scope="module")
def lists(tmp_path_factory, manifests):
    """All ten lists, three mixtures each. Not to be changed."""
    place = tmp_path_factory.mktemp("lists") / "mixtures"
    return place, full_mixtures.write(full_mixtures.plan(place, manifests, count=COUNT), manifests)


def test_all_lists(lists, manifests):
    place, table = lists
    assert plan_of(table) == {(task, placement): COUNT for task in TASKS for placement in ("paper", "authors")}
    assert table["id"].nunique() == 10 * COUNT and list(table.columns) == list(full_mixtures.COLUMNS)
    test = {kind: m.clips("test").set_index("id") for kind, m in manifests.items()}
    for row in table.to_dict("records"):
        clip = test[row["kind"]].loc[row["clip"]]
        assert row["clip_sha256"] == clip["sha256"] and -25 <= row["level_db"] <= -20
        assert row["start"] + row["length"] <= clip["samples"] and row["offset"] + row["length"] <= 64_000
    for _, rows in table.groupby("id"):
        names = [*rows["label"].dropna(), *rows["speaker"].dropna()]
        assert len(set(names)) == len(names) == len(rows)
    for _, rows in table.groupby(["task", "placement"]):
        assert len({tuple(sorted(group)) for _, group in rows.groupby("id")["clip"]}) == COUNT


def plan_of(table):
    return {key: rows["id"].nunique() for key, rows in table.groupby(["task", "placement"])}


def test_the_placements_differ_in_their_rules_alone(lists):
    _, table = lists
    paper, authors = (table[table["placement"] == name].reset_index(drop=True) for name in ("paper", "authors"))
    for column in ("task", "clip", "start", "level_db"):
        assert paper[column].equals(authors[column])
    assert paper["length"].equals(authors["length"])
    assert not paper["offset"].equals(authors["offset"])


def test_the_authors_speech_begins_at_zero(lists):
    _, table = lists
    offsets = {name: rows["offset"] for name, rows in table[table["task"] == "2 speech"].groupby("placement")}
    assert (offsets["authors"] == 0).all() and (offsets["paper"] > 0).any()
    mixed = table[(table["task"] == "1 speech + 1 sound") & (table["placement"] == "authors")]
    assert (mixed[mixed["kind"] == "speech"]["offset"] > 0).any()


def test_the_authors_sources_follow_each_other(lists):
    _, table = lists
    for _, rows in table[(table["placement"] == "authors") & (table["task"] == "3 sounds")].groupby("id"):
        for before, after in zip(rows.to_dict("records"), rows.to_dict("records")[1:]):
            least = min(before["offset"], 64_000 - after["length"])
            assert least <= after["offset"] <= before["offset"] + before["length"]


def test_files_add_up_exactly(lists):
    place, table = lists
    for _, rows in table.groupby("id"):
        sources = [soundfile.read(place / name, dtype="int16")[0].astype(int) for name in rows["file"]]
        mixture, rate = soundfile.read(place / rows["mixture_file"].iloc[0], dtype="int16")
        assert rate == 16_000 and len(mixture) == 64_000
        assert (sum(sources) == mixture).all()


def test_lists_load_as_mixtures(lists, manifests):
    place, table = lists
    for placement in ("paper", "authors"):
        for mixture in full_mixtures.load(place, placement=placement):
            assert torch.equal(mixture.mixture, mixture.sources.sum(0)) and mixture.kinds == TASKS[mixture.task]
            assert mixture.heard == tuple(kind == "sound" for kind in mixture.kinds)
            assert [v is None for v in mixture.voices] == [k == "sound" for k in mixture.kinds]
            rules = full_mixtures.rules(placement)
            clips = [
                manifests[k].read(manifests[k].rows.set_index("id").loc[c, "path"])
                for k, c in zip(mixture.kinds, mixture.clip_ids)
            ]
            again = build(clips, mixture.parts, rules)
            assert float((again.sources - mixture.sources).abs().max()) < 1.1 / 32768
            for source, part in zip(mixture.sources, mixture.parts):
                over = source if placement == "authors" else source[part.offset : part.offset + part.length]
                assert float(rms_db(over)) == pytest.approx(part.level_db, abs=0.01)


def test_loud_mixtures_keep_their_level():
    sources = torch.zeros(2, 100)
    sources[0, 10], sources[1, 10], sources[1, 20] = 2.5, 0.25, -0.5
    mixture, rounded, gain = full_mixtures.to_files(sources)
    assert gain == 0.25 and torch.equal(rounded / gain, sources) and torch.equal(mixture, rounded.sum(0))
    assert full_mixtures.to_files(0.3 * sources)[2] == 1
    assert full_mixtures.to_files(torch.full((1, 4), 1.0))[2] == 0.5


def test_evaluation_takes_the_lists(lists, tmp_path):
    place, _ = lists
    cases = full_mixtures.load(place, "2 sounds", "authors", count=2)
    scores = evaluate([unprocessed()], cases, tmp_path / "run")
    assert len(scores) == 4 and scores["si_sdr"].between(-40, 10).all()
    assert set(scores["mixture"]) == {f"2sounds_authors_00{i}" for i in range(2)}


def test_shards_share_a_list(lists):
    place, _ = lists
    parts = [full_mixtures.load(place, "2 speech", shard=(i, 2)) for i in range(2)]
    assert [len(part) for part in parts] == [2, 1]
    assert sorted(m.id for part in parts for m in part) == [m.id for m in full_mixtures.load(place, "2 speech")]
    with pytest.raises(ValueError, match="shard is"):
        full_mixtures.load(place, "2 speech", shard=(3, 3))


def test_lists_resume_and_grow(tmp_path, manifests, lists, monkeypatch):
    first, table = lists
    place, made = tmp_path / "again", full_mixtures.make
    stop = iter(range(5))

    def interrupted(*arguments):
        if next(stop) == 4:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(full_mixtures, "make", interrupted)
    small = full_mixtures.plan(place, manifests, ["2 sounds", "2 speech"], count=2)
    with pytest.raises(KeyboardInterrupt):
        full_mixtures.write(small, manifests)
    with open(place / full_mixtures.JOURNAL, "a") as file:
        file.write('[{"torn')
    (place / "paper/2sounds/001_2.flac").unlink()
    done = []
    monkeypatch.setattr(full_mixtures, "make", lambda *a: done.append(a[2] + str(a[0].index)) or made(*a))
    full_mixtures.write(small, manifests)
    assert done == ["paper1", "paper0", "paper1", "authors0", "authors1"]
    known = full_mixtures.fingerprint(place)
    whole = full_mixtures.write(full_mixtures.plan(place, manifests, small.tasks, count=COUNT), manifests)
    assert full_mixtures.fingerprint(place) == known == full_mixtures.fingerprint(first), "longer, but the same list"
    table = table[table["task"].isin(small.tasks)].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, table)
    for name in {*table["file"], *table["mixture_file"]}:
        assert (place / name).read_bytes() == (first / name).read_bytes()


def test_other_lists_are_refused(lists, manifests):
    place, _ = lists
    plan = full_mixtures.plan(place, manifests, count=COUNT)
    with pytest.raises(ValueError, match=r"made with seed = \d+, now 8\."):
        full_mixtures.write(plan, manifests, seed=8)
    with pytest.raises(ValueError, match=r"made with data\.speech = .*, now None"):
        full_mixtures.write(
            full_mixtures.plan(place, {"sound": manifests["sound"]}, count=COUNT), {"sound": manifests["sound"]}
        )


def test_lists_refuse(tmp_path, manifests):
    plan, sound = full_mixtures.plan, {"sound": manifests["sound"]}
    assert plan(tmp_path / "x", sound).tasks == ("2 sounds", "3 sounds")
    for arguments, message in (
        ({"tasks": ["2 speech"]}, "needs a manifest of speech"), ({"tasks": ["4 sounds"]}, "task is '4 sounds'"),
        ({"placements": ["left"]}, "placement is 'left'"), ({"count": 0}, "count is 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            plan(tmp_path / "x", sound, **arguments)
    with pytest.raises(ValueError, match="holds sound, and was given as speech"):
        plan(tmp_path / "x", {"speech": manifests["sound"]})
    with pytest.raises(ValueError, match="no task is possible"):
        plan(tmp_path / "x", {})
    with pytest.raises(FileNotFoundError, match="no folder"):
        plan(tmp_path / "no" / "x", sound)
    with pytest.raises(ValueError, match="different mixtures of '2 speech'"):
        full_mixtures.draw("2 speech", manifests, count=400)
    alone = manifest.build(
        "x",
        [r for r in manifests["sound"].rows.to_dict("records") if r["label"] == "Gong"],
        "x",
        "sound",
        16_000,
        ["Gong"],
        {},
    )
    with pytest.raises(ValueError, match=r"needs 2 classes; x has 1 in test; other tasks can be chosen \(--task\)"):
        full_mixtures.draw("2 sounds", {"sound": alone}, count=1)


def test_lists_that_are_not_there(tmp_path, lists):
    place = shutil.copytree(lists[0], tmp_path / "own")
    with pytest.raises(FileNotFoundError, match="data mixtures"):
        full_mixtures.load(tmp_path)
    with pytest.raises(ValueError, match="no mixtures of task '4 sounds'"):
        full_mixtures.load(place, "4 sounds")
    (place / "paper/2sounds/000_1.flac").unlink()
    with pytest.raises(FileNotFoundError, match="000_1.flac"):
        full_mixtures.load(place, "2 sounds")


def test_full_disk_before_lists(tmp_path, manifests, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(OSError, match="writing the mixtures takes"):
        full_mixtures.write(full_mixtures.plan(tmp_path / "x", manifests, count=1), manifests)


def test_same_draw_everywhere(manifests):
    """A longer list begins with the shorter one, and another task, split or seed is another list."""
    short, long = (full_mixtures.draw("2 sounds", manifests, count=n) for n in (5, 12))
    assert [e.clips for e in short] == [e.clips for e in long[:5]]
    assert [e.spans for e in short] == [e.spans for e in long[:5]]
    other = full_mixtures.draw("2 sounds", manifests, count=5, seed=8)
    assert [[c["id"] for c in e.clips] for e in other] != [[c["id"] for c in e.clips] for e in short]


# ---------------------------------------------------------------------------------------------------- commands


def call(*arguments, answer=None):
    return CliRunner().invoke(app, ["data", *map(str, arguments)], input=answer)


def test_command_fetches_converts_and_resumes(root, server, vctk_archive):
    server.files["/VCTK-Corpus-0.92.zip"] = vctk_archive
    arguments = ("vctk", "--root", root, "--mirror", server.url)
    refused = call(*arguments, answer="n\n")
    assert refused.exit_code == 0 and "to fetch" in refused.stdout and not list(root.iterdir())
    server.cut = [1000]
    done = call(*arguments, "--yes")
    assert done.exit_code == 0, done.output
    for words in (
        "train: 5 clips of 4 speakers",
        "test: 2 clips of 2 speakers",
        "published: 44455",
        "left out: ",
        "7 clips converted now, 7 in all",
        f"next: unasdiff-teach train prior --data {root / 'vctk-mic1-16k'} --scale paper --out runs/vctk",
    ):
        assert words in done.output
    assert "conversion of 44 hours of audio: about 22 minutes on one core" in done.output
    again = call(*arguments)
    assert (
        again.exit_code == 0
        and "VCTK-Corpus-0.92.zip: there" in again.output
        and "0 clips converted now" in again.output
    )


def test_command_takes_no_damaged_archive(root, vctk_archive):
    (root / "VCTK-Corpus-0.92.zip").write_bytes(vctk_archive[:-1] + b"?")
    failed = call("vctk", "--root", root)
    assert failed.exit_code == 1 and "error: " in failed.output and "Nothing was taken from it" in failed.output
    assert not (root / "vctk-mic1-16k").exists()


def test_command_without_download(root, vctk_archive):
    failed = call("vctk", "--root", root, "--no-download")
    assert failed.exit_code == 1 and "neither VCTK-Corpus-0.92.zip" in failed.output
    assert call("vctk", "--root", root / "no").exit_code == 1
    assert "no folder" in call("fsdkaggle2018", "--root", root / "no").output
    assert "microphone is 'mic9'" in call("vctk", "--root", root, "--microphone", "mic9").output


def test_commands_from_recordings_to_mixtures(root, tmp_path, sounds):
    for files in fsd_parts().values():
        unpack(root, files)
    done = call("fsdkaggle2018", "--root", root)
    assert (
        done.exit_code == 0 and "train: 2 clips of 2 classes" in done.output and "listed, but not there" in done.output
    )
    wav = encoded(tone(0.5, 16_000), 16_000, "WAV")
    unpack(tmp_path / "mine", {f"{who}/{i}.wav": wav for who in "abcdef" for i in range(4)})
    done = call("folder", "--root", tmp_path / "mine", "--kind", "speech", "--test", 0.5)
    assert done.exit_code == 0 and "test: 12 clips of 3 speakers" in done.output
    out = ("mixtures", "--out", tmp_path / "lists", "--count", 1)
    done = call(*out, "--speech", tmp_path / "mine-16k", "--sound", sounds.folder)
    assert done.exit_code == 0 and "10 mixtures of '1 speech + 1 sound'" in done.output and "MB in" in done.output
    assert len(full_mixtures.load(tmp_path / "lists")) == 5
    other = call(*out, "--speech", tmp_path / "mine-16k", "--sound", sounds.folder, "--seed", 1)
    assert "seed = 7, now 1" in other.output
    part = call("mixtures", "--out", tmp_path / "part", "--sound", sounds.folder, "--placement", "paper", "--count", 1)
    assert part.exit_code == 0 and "without manifests for them: '1 speech + 1 sound'" in part.output
    assert "no manifest at" in call(*out, "--speech", tmp_path / "none").output


def test_command_verify(own_sounds):
    assert f"all {len(own_sounds.rows)} clips" in call("verify", own_sounds.folder).output
    path = own_sounds.rows["path"][3]
    (own_sounds.folder / path).write_bytes(b"")
    failed = call("verify", own_sounds.folder)
    assert failed.exit_code == 1 and f"{path}: changed" in failed.output


def test_help_has_examples():
    for name in ("vctk", "fsdkaggle2018", "folder", "mixtures"):
        shown = call(name, "--help")
        assert shown.exit_code == 0 and f"unasdiff-teach data {name}" in shown.output


# --------------------------------------------------------------------------------------------- real recordings


@pytest.mark.real_audio
def test_real_vctk(real_audio, root):
    place = root / "wav48_silence_trimmed"
    for path in sorted((real_audio / "vctk").glob("*.flac")):
        (place / path.name[:4]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / path.name[:4])
    result = vctk.prepare(root)
    rows = result.manifest.rows.set_index("id")
    assert list(rows.index) == ["p227_003", "p351_006", "p351_020"] and list(rows["split"]) == ["train", "test", "test"]
    assert list(vctk.prepare(root, "mic2").manifest.rows["id"]) == ["p227_022"]
    for name, row in rows.iterrows():
        original = soundfile.info(place / name[:4] / f"{name}_mic1.flac")
        assert row["seconds"] == pytest.approx(original.duration, abs=1e-3)
        assert sum(b - a for a, b in row["spans"]) > 0.5 * row["seconds"]
    x, _ = ManifestCrops(result.manifest, "train", 4.0)(2, torch.Generator().manual_seed(0))
    assert x.shape == (2, 64_000)


@pytest.mark.real_audio
def test_real_sounds_and_mixtures(real_audio, root):
    """The 41 test clips in the layout of the release, and speech: mixtures of each setting."""
    clips = sorted((real_audio / "fsdkaggle2018").glob("*.flac"))
    rows = []
    (root / "FSDKaggle2018.audio_test").mkdir()
    for path in clips:
        label, _, identifier = path.stem.partition("__")
        audio, rate = soundfile.read(path, dtype="int16")
        soundfile.write(root / "FSDKaggle2018.audio_test" / f"{identifier}.wav", audio, rate)
        rows.append((f"{identifier}.wav", label, "Public", "1", "Attribution"))
    head = "fname,label,usage,freesound_id,license"
    unpack(
        root / "FSDKaggle2018.meta",
        {fsdkaggle2018.LISTS["test"]: table(head, rows), fsdkaggle2018.LISTS["train"]: table(head, rows[:1])},
    )
    sound = fsdkaggle2018.prepare(root).manifest
    assert set(sound.rows["label"]) == set(fsdkaggle2018.LABELS) and len(sound.rows) == 41
    unpack(root / "voices", {p.name: p.read_bytes() for p in sorted((real_audio / "speech").glob("*.ogg"))[:12]})
    speech = folder.prepare(root / "voices", "speech", test=0.5).manifest
    found = {"speech": speech, "sound": sound}
    full_mixtures.write(full_mixtures.plan(root / "lists", found, count=1), found)
    cases = [m for name in full_mixtures.PLACEMENTS for m in full_mixtures.load(root / "lists", placement=name)]
    assert len(cases) == 10 and all(float(m.sources.abs().sum(1).min()) > 0 for m in cases)
    scores = evaluate([unprocessed()], cases, root / "run")
    assert (
        scores["si_sdr"].notna().all()
        and json.loads((root / "lists" / full_mixtures.JOURNAL).read_text().splitlines()[0])["seed"] == 7
    )
