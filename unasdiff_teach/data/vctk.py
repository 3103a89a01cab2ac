"""VCTK 0.92: 110 speakers of English, 100 for training and 10 for test (the paper's section on data sets).

Yamagishi, Veaux and MacDonald 2019, doi:10.7488/ds/2645, CC BY 4.0. Every utterance was recorded by two microphones at
once. The paper does not name one; `mic1`, the default, has all speakers, so that 100 and 10 is the whole corpus.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from .._checks import one_of
from .archives import Archive, members
from .convert import Item, Listing, Result, convert

NAME = "vctk"
ARCHIVES = (
    Archive(
        name="VCTK-Corpus-0.92.zip",
        url="https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
        digest="sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
        unpacked="wav48_silence_trimmed",
        size=11_747_302_977,
    ),
)
MICROPHONES = {"mic1": "omnidirectional, DPA 4035", "mic2": "small diaphragm condenser, Sennheiser MKH 800"}
CLIPS = {"mic1": 44_455, "mic2": 43_873}  # files in the published archive
HOURS = 44  # about, of one microphone
LICENCE = "CC BY 4.0"
SPEAKERS = (
    *(f"p{n}" for n in (*range(225, 235), *range(236, 242), *range(243, 289), *range(292, 296), *range(297, 309))),
    *(f"p{n}" for n in (*range(310, 319), 323, 326, 329, 330, 333, 334, 335, 336, 339, 340, 341, 343, 345, 347, 351)),
    *(f"p{n}" for n in (*range(360, 365), 374, 376)), "s5",
)  # fmt: skip
TEST_SPEAKERS = ("p249", "p264", "p265", "p273", "p280", "p297", "p330", "p343", "p351", "p361")
# technical trouble with that microphone, says the corpus; p315 has no transcripts, which nobody needs here
NO_MIC2 = ("p280", "p315")
_FILE = re.compile(r"(?P<id>(?P<speaker>p\d{3}|s5)_\d{3})_(?P<microphone>mic[12])\.flac$")


def split_speakers() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training, test) speakers by the released code's rule: sorted, shuffled with its seed, the first 100 for
    training.

    The code shuffles with Python's generator; `TEST_SPEAKERS` is what comes of it, written out so that no version of
    Python can change it.
    """
    order = sorted(SPEAKERS)
    random.Random(17).shuffle(order)
    return tuple(sorted(order[:100])), tuple(sorted(order[100:]))


def listing(root: str | Path, microphone: str = "mic1") -> Listing:
    """The utterances of one microphone, from the archive in `root` or from the folder that unpacking it made.

    Left out, and named: files of anyone but the 110 speakers, empty files, and speakers without a single file.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: another microphone.
    """
    one_of("microphone", microphone, MICROPHONES)
    items, left_out = {}, []
    for member in members(Path(root), *ARCHIVES):
        found = _FILE.search(member.name)
        if found is None or found["microphone"] != microphone:
            continue
        speaker, identifier = found["speaker"], found["id"]
        if speaker not in SPEAKERS:
            left_out.append((member.name, "not of a speaker of VCTK 0.92"))
        elif member.size == 0:
            left_out.append((member.name, "empty file"))
        elif identifier in items:
            left_out.append((member.name, f"the same utterance as {items[identifier].member.name}"))
        else:
            split = "test" if speaker in TEST_SPEAKERS else "train"
            place = f"clips/{speaker}/{identifier}.flac"
            items[identifier] = Item(identifier, member, place, split, speaker=speaker, licence=LICENCE)
    there = {item.speaker for item in items.values()}
    for speaker in SPEAKERS:
        if speaker not in there:
            known = microphone == "mic2" and speaker in NO_MIC2
            left_out.append(
                (f"speaker {speaker}", f"no {microphone} recordings" + (" in VCTK 0.92" if known else " here"))
            )
    return Listing(tuple(items.values()), tuple(left_out))


def prepare(
    root: str | Path,
    microphone: str = "mic1",
    sample_rate: int = 16_000,
    workers: int | None = None,
    progress: bool = False,
) -> Result:
    """Convert what is in `root` into `ROOT/vctk-MICROPHONE-16k`; see `convert.convert` for how, and `listing` for what.

    The archive must be there and checked (`archives.fetch`, `archives.check`), or unpacked.
    """
    folder = Path(root) / f"{NAME}-{microphone}-{sample_rate // 1000}k"
    about = {"version": "0.92", "microphone": microphone, "licence": LICENCE, "test_speakers": list(TEST_SPEAKERS)}
    return convert(
        listing(root, microphone), folder, NAME, "speech", (), about, sample_rate, workers=workers, progress=progress
    )
