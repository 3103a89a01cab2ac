"""Files that survive a stop: whole or not at all, journals with a torn end, and one process at a time in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from unasdiff_teach import _files
from unasdiff_teach._files import Journal, locked, read_json, replacing, write_json
from unasdiff_teach.data import pocket_corpus


def test_lists_and_manifests_that_cannot_be_written_leave_the_old_ones(tmp_path):
    writers = {
        "a.json": lambda path, value: write_json(path, {"a": value}),
        "a.csv": lambda path, value: pocket_corpus.write_manifest(path, ["a"], [{"a": 1}, {value: 2}]),
    }
    for name, write in writers.items():
        path = tmp_path / name
        path.write_text("old")
        with pytest.raises((TypeError, ValueError)):
            write(path, {1} if name == "a.json" else "b")
        assert path.read_text() == "old"


def test_a_file_is_written_whole_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "a.json"
    with replacing(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with replacing(path) as partial:
        partial.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and os.listdir(path.parent) == ["a.json"]


def test_a_new_file_can_be_read_by_whom_the_user_allows(tmp_path):
    """safetensors makes files that nobody but the user may read."""
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "a.safetensors") as partial:
        save_file({"x": torch.zeros(1)}, partial)
        partial.chmod(0o600)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_after_an_error_the_file_is_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("first")
    with pytest.raises(OSError, match="no space"), replacing(path) as partial:
        partial.write_text("half of the sec")
        raise OSError("no space")
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.json"]


def test_files_whose_names_differ_in_their_endings_do_not_meet(tmp_path):
    with replacing(tmp_path / "a.json") as one, replacing(tmp_path / "a.parquet") as two:
        one.write_text("one")
        two.write_text("two")
    assert [(tmp_path / name).read_text() for name in ("a.json", "a.parquet")] == ["one", "two"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.json"
    with replacing(path, shared=True) as one, replacing(path, shared=True) as two:
        one.write_text("first")
        two.write_text("second")
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.json"]


def test_a_torn_line_does_not_count_and_is_cut_by_the_next(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    assert journal.read() == []
    for i in range(3):
        journal.append({"i": i})
    whole = journal.path.read_bytes()
    for cut in range(len(whole) - 9, len(whole)):  # within the last line
        journal.path.write_bytes(whole[:cut])
        assert journal.read() == [{"i": 0}, {"i": 1}]
        journal.append({"i": 2})
        assert journal.path.read_bytes() == whole
    journal.path.write_bytes(b'{"i":')
    journal.append({"i": 7})
    assert journal.read() == [{"i": 7}]
    journal.rewrite([{"i": 1}])
    assert journal.read() == [{"i": 1}] and os.listdir(tmp_path) == ["log.jsonl"]


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe\xff"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    write_json(path, {"a": ["ä", 1]})
    assert read_json(path) == {"a": ["ä", 1]} and path.read_bytes().endswith(b"}\n")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is damaged: "):
        read_json(path)
    path.write_bytes(b'{"a": 1}\n' + content + b"\n")
    with pytest.raises(ValueError, match=r"line 2 of .*a\.json is damaged: "):
        Journal(path).read()


def test_a_journal_goes_on_with_what_it_began_with_alone(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    head = {"seed": 1, "rules": {"levels": (1, 2), "same": None}}
    assert journal.begin(head) == []
    journal.append({"i": 0})
    assert journal.begin(head) == [{"i": 0}]
    with pytest.raises(ValueError, match=r"made with rules.levels = \[1, 2\], now \[1, 3\]; seed = 1, now 2\. Choose"):
        journal.begin({"seed": 2, "rules": {"levels": (1, 3)}})
    journal.rewrite([{"i": 0}])
    with pytest.raises(ValueError, match="does not say what it is about"):
        journal.begin(head)


def test_a_second_gets_an_error_at_once(tmp_path):
    with locked(tmp_path / "a", "training"):
        with (
            pytest.raises(BlockingIOError, match="another training is running in .*/a; "),
            locked(tmp_path / "a", "training"),
        ):
            pass
        with locked(tmp_path / "b", "training"):
            pass
    with locked(tmp_path / "a", "training"):
        pass


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        f"import runpy, time; f = runpy.run_path({_files.__file__!r})['locked']({str(tmp_path)!r}, 'training');"
        " f.__enter__()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code + "; print('held', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError), locked(tmp_path, "training"):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    with locked(tmp_path, "training"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="descriptors are inherited on POSIX systems alone")
def test_a_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path):
    sleeper = "import sys, time; time.sleep(60)"
    code = f"""
import runpy, subprocess, sys, time
lock = runpy.run_path({_files.__file__!r})["locked"]({str(tmp_path)!r}, "run")
child = subprocess.Popen([sys.executable, "-c", {sleeper!r}], pass_fds=(lock.__enter__(),))
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    heir = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        with pytest.raises(BlockingIOError), locked(tmp_path, "run", patience=0.2):
            pass
    finally:
        os.kill(heir, signal.SIGKILL)
    with locked(tmp_path, "run", patience=10):
        pass
