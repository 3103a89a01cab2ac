"""The book in a real JupyterLab: whole notebooks run, sliders and players work, and keys do not edit the notebook."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.sign import NotebookNotary

from unasdiff_teach import show

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
RATE = 8000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jupyterlab") is None, reason="JupyterLab is not installed"),
]


def write_notebook(folder: Path, data: Path) -> None:
    """A trusted notebook of three cells, the second with a player as its output."""
    (folder / "_static").mkdir()
    for name in ("tools.js", "tools.css"):
        shutil.copy(STATIC / name, folder / "_static")
    t = torch.arange(2 * RATE) / RATE
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        player = show.player({"low": 0.3 * torch.sin(2765 * t), "high": 0.1 * torch.sin(11058 * t)}, RATE, id="00/lab")
    shown = nbformat.v4.new_output("display_data", data={"text/html": player._repr_html_(), "text/plain": repr(player)})
    cells = [
        nbformat.v4.new_markdown_cell("# One"),
        nbformat.v4.new_code_cell("1", outputs=[shown]),
        nbformat.v4.new_markdown_cell("Two"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "page.ipynb")
    data.mkdir()
    NotebookNotary(data_dir=str(data)).sign(nbformat.read(folder / "page.ipynb", as_version=4))


def until(found, server, limit: float, what: str):
    """What ``found()`` gives once it gives something. Fails when the server has ended or the limit has passed
    (seconds).
    """
    end = time.monotonic() + limit
    while not (result := found()):
        assert server.poll() is None, f"JupyterLab ended with {server.returncode}"
        assert time.monotonic() < end, f"no {what} after {limit:.0f} s"
        time.sleep(0.1)
    return result


def address(runtime: Path) -> str | None:
    """Where the server says that it listens: the port that was asked for may have been taken meanwhile."""
    try:
        return json.loads(next(runtime.glob("jpserver-*.json")).read_text(encoding="utf-8"))["url"]
    except (StopIteration, ValueError):  # not written yet, or not to its end
        return None


def answers(url: str) -> bool:
    """An open port is not an answer: the server binds it long before it has loaded its extensions."""
    try:
        with urllib.request.urlopen(url + "api", timeout=10) as reply:
            return reply.status == 200
    except OSError:
        return False


@pytest.fixture
def lab(browser, tmp_path):
    """Opens a notebook of the folder `root` in a JupyterLab of its own with settings of its own, and waits for what
    a selector names.
    """
    quiet = tmp_path / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}', encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"JUPYTER_DATA_DIR": "data", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
    names |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token="]
    options += ["--allow-root"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
    (tmp_path / "root").mkdir()
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=tmp_path / "root",
            env=os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(tmp_path / at) for name, at in names.items()},
            stdout=log,
            stderr=log,
        )
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    tab, said = context.new_page(), []
    tab.on("console", lambda line: said.append(line.text))
    tab.on("pageerror", lambda error: said.append(str(error)))

    def open_notebook(name: str, awaited: str):
        try:
            url = until(lambda: address(tmp_path / "runtime"), server, 60, "address of JupyterLab")
            until(lambda: answers(url), server, 30, "answer from JupyterLab")
            tab.goto(f"{url}lab/tree/{name}", wait_until="commit", timeout=90_000)
            tab.wait_for_selector(awaited, timeout=90_000)
        except Exception as error:
            picture, lines = tmp_path / "lab.png", "\n".join(said[-20:])
            with contextlib.suppress(Exception):
                tab.screenshot(path=picture)
            pytest.fail(
                f"{error}\n\nPicture:"
                f" {picture}\n\nBrowser:\n{lines}\n\nServer:\n{(tmp_path / 'log').read_text(encoding='utf-8')}"
            )
        return tab

    try:
        yield open_notebook
    finally:
        context.close()
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


def test_keys_in_the_player_leave_the_notebook_as_it_is(lab, tmp_path):
    """In Lab's command mode A and B insert a cell, X cuts one, two D delete one, 1 and Y change its kind, 00 restarts
    the kernel.
    """
    write_notebook(tmp_path / "root", tmp_path / "data")
    notebook = lab("page.ipynb", ".page-tool")

    def cells():
        return notebook.locator(".jp-Notebook .jp-Cell").evaluate_all(
            "all => all.map((e) => e.className.match(/jp-(Code|Markdown)Cell/)[0])"
        )

    def inside():
        return notebook.evaluate("!!document.activeElement.closest('.page-tool')")

    notebook.wait_for_function("document.querySelectorAll('.jp-Notebook .jp-Cell').length >= 3")  # drawn one by one
    before, root = cells(), notebook.locator(".page-tool")
    assert len(before) == 3
    root.locator(".tool-picture").click()
    assert inside(), "a click into the player gives it the keys"
    for key in ("a", "b", "x", "1", "y", "m", "d", "d", "Escape"):
        notebook.keyboard.press(key)
    assert cells() == before and inside()

    root.locator("summary").click()
    root.get_by_role("button", name="Start").click()
    heard = []
    for key in ("a", "b", "x", "1", "0", " ", "d", "d"):
        notebook.keyboard.press(key)
        heard.append(root.locator(".tool-trial [aria-pressed=true]").inner_text())
    assert cells() == before and inside()
    assert heard[:3] == ["Hear A", "Hear B", "Hear X"]
    root.get_by_role("button", name="X is A").click()
    notebook.keyboard.press("a")
    assert root.get_by_role("status").inner_text().startswith("Trial 2 of 10")
    assert cells() == before
    assert notebook.locator(".jp-Dialog").count() == 0

    file = tmp_path / "root" / "page.ipynb"
    written = file.stat().st_mtime_ns
    notebook.keyboard.press("Control+s")  # keys held together stay Lab's
    for _ in range(600):
        if file.stat().st_mtime_ns != written:
            break
        notebook.wait_for_timeout(100)
    assert file.stat().st_mtime_ns != written, "Lab did not save"


CURVES = ["steps T", "β min", "β max", "scale of σ", "floor s", "sharpness c", "start step t*", "strength γ₀", "step t"]
CHAPTERS = {"index.ipynb": (2, ["step t"]), "07_guidance_schedules.ipynb": (0, CURVES)}
"""Whole notebooks, and what a reader finds in each: players and scrubbers, sliders that redraw a picture."""


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_reader_runs_a_notebook_to_its_end_and_handles_it(lab, tmp_path, name):
    players, sliders = CHAPTERS[name]
    root = tmp_path / "root"
    shutil.copytree(STATIC, root / "_static")
    stored = nbformat.read(STATIC.parent / name, as_version=4)
    for cell in (cells := [cell for cell in stored.cells if cell.cell_type == "code"]):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(stored, root / name)
    tab = lab(name, ".jp-Notebook .jp-CodeCell")
    tab.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # who asks before is asked for a kernel
    tab.get_by_role("menuitem", name="Run", exact=True).click()
    tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    end = time.monotonic() + 400
    while not all(cell.execution_count for cell in cells):
        assert time.monotonic() < end, f"{sum(bool(c.execution_count) for c in cells)} of {len(cells)} cells have run"
        tab.keyboard.press("Control+s")
        tab.wait_for_timeout(2000)
        cells = [cell for cell in nbformat.read(root / name, as_version=4).cells if cell.cell_type == "code"]
        assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]

    tab.wait_for_function("n => document.querySelectorAll('.page-tool').length === n", arg=players)
    for tool in tab.locator(".page-tool").all():
        tool.get_by_role("radio").last.check()
        tool.get_by_role("button", name="Play").first.click()
        tab.wait_for_function("root => root.deck.time > 0.1", arg=tool.element_handle())
    for label in sliders:
        rows = tab.locator(".widget-inline-hbox").filter(has=tab.get_by_text(label, exact=True))
        for row in (found := rows.filter(has=tab.locator("[role=slider]"))).all():
            output = row.locator("xpath=ancestor::*[contains(@class, 'jp-OutputArea-output')]")
            before = output.locator("svg").first.inner_html()
            row.locator("[role=slider]").focus()
            tab.keyboard.press("ArrowLeft")
            tab.wait_for_function(
                "([output, before]) => output.querySelector('svg').innerHTML !== before",
                arg=[output.element_handle(), before],
            )
        assert found.count(), label
