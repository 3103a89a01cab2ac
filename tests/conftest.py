"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What commands measure here is not kept for the user's own runs."""
    from unasdiff_teach import _machine

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_machine, "cache", lambda file: folder / file)
        yield


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """The folder of real recordings, which are not part of the project."""
    folder = os.environ.get("UNASDIFF_REAL_AUDIO")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real recordings (UNASDIFF_REAL_AUDIO names their folder)")
    return Path(folder)


def _newest_source() -> float:
    """When what the pages are built from was last changed."""
    files = [ROOT / "_config.yml", ROOT / "_toc.yml"]
    files += [
        p
        for p in (ROOT / "book").rglob("*")
        if p.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)
    ]
    return max(p.stat().st_mtime for p in files)


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The folder of built pages, built anew when it is missing or older than its sources; by one process, while others
    wait.
    """
    import build_book  # scripts/ is on the path of pytest

    from unasdiff_teach._files import locked

    with locked(tmp_path_factory.getbasetemp().parent / "html", "build of the pages", patience=1800):
        if not build_book.DONE.is_file() or build_book.DONE.stat().st_mtime < _newest_source():
            try:
                build_book.build(quiet=True)
            except SystemExit as error:
                pytest.fail(str(error))
    return build_book.PAGE.parent


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium. Skips without one, or fails when UNASDIFF_REQUIRE_BROWSER is set."""
    from unasdiff_teach.doctor import find_browser

    path = find_browser()
    if path is None:
        reason = "no Chromium, Chrome or Edge found (UNASDIFF_BROWSER can name one)"
        if os.environ.get("UNASDIFF_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium refuses its sandbox to root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--disable-gpu"] + ["--no-sandbox"] * root)
        yield running
        running.close()
