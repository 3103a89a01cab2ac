"""The built pages: complete, self-contained, and working from file:// with the network off."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 2**20
LARGEST_PAGE = 3 * MEGABYTE
NARROW = 390  # pixels: a phone held upright

# attributes whose value a browser fetches by itself
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "audio": ("src",),
    "video": ("src", "poster"),
    "source": ("src", "srcset"),
    "track": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
LINKS_FOLLOWED_BY_READERS_ONLY = {"canonical", "index", "search", "next", "prev", "author", "license"}


def toc_files() -> list[str]:
    """Every file that _toc.yml names, in reading order."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            found.extend(node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return found


PAGES = toc_files()


@cache
def soup_of(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(params=PAGES)
def page(request, html) -> Path:
    return html / f"{request.param}.html"


def is_external(url: str) -> bool:
    return url.startswith("//") or urlsplit(url).scheme in ("http", "https", "ftp", "ws", "wss")


# ---------------------------------------------------------------------------------------- as files


def test_toc_names_each_page_of_the_book_once():
    assert len(PAGES) == len(set(PAGES)), "a page stands in _toc.yml twice"
    written = {
        str(p.relative_to(ROOT).with_suffix("").as_posix())
        for p in (ROOT / "book").rglob("*")
        if p.suffix in (".md", ".ipynb") and ".ipynb_checkpoints" not in p.parts
    }
    assert written == set(PAGES), "book/ and _toc.yml name different pages"


def test_every_page_is_built(page):
    assert page.is_file()
    assert soup_of(page).h1, "a page has a title"


def test_the_page_to_open_leads_to_the_book(html):
    refresh = soup_of(html / "index.html").find("meta", attrs={"http-equiv": "Refresh"})
    target = refresh["content"].partition("url=")[2]
    assert (html / target).is_file()


def test_nothing_is_fetched_from_elsewhere(page):
    soup = soup_of(page)
    for name, attributes in FETCHED.items():
        for tag in soup.find_all(name):
            for attribute in attributes:
                value = tag.get(attribute, "")
                for url in value.split(",") if attribute == "srcset" else [value]:
                    assert not is_external(url.strip()), f"{tag.name} fetches {url.strip()}"
    for tag in soup.find_all("link"):
        if not LINKS_FOLLOWED_BY_READERS_ONLY & set(tag.get("rel", [])):
            assert not is_external(tag.get("href", "")), f"link fetches {tag['href']}"
    for tag in soup.find_all("script", src=False):
        urls = re.findall(r"https?://[^\s\"'<>]+", tag.string or "")
        assert not [u for u in urls if not u.startswith("http://www.w3.org/")], f"inline script names {urls}"
    styles = [tag.string or "" for tag in soup.find_all("style")] + [t["style"] for t in soup.find_all(style=True)]
    for style in styles:
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style)


def test_style_sheets_fetch_nothing_from_elsewhere(html):
    for path in (html / "_static").rglob("*.css"):
        style = path.read_text(encoding="utf-8", errors="replace")
        assert not re.search(r"(@import\s+|url\()\s*[\"']?(https?:)?//", style), path


def test_internal_links_resolve(page, html):
    broken = []
    for tag in soup_of(page).find_all("a", href=True):
        url = urlsplit(tag["href"])
        if url.scheme or tag["href"].startswith("//"):
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        if not target.is_file() or not target.is_relative_to(html.resolve()):
            broken.append(tag["href"])
        elif url.fragment and target.suffix == ".html":
            anchor = unquote(url.fragment)
            soup = soup_of(target)
            if not (soup.find(id=anchor) or soup.find(attrs={"name": anchor})):
                broken.append(tag["href"])
    assert not broken


def test_every_picture_has_a_text(page):
    bare = [str(tag)[:120] for tag in soup_of(page).find_all("img") if not tag.get("alt", "").strip()]
    # Sphinx writes the file name where no text was given
    bare += [
        tag["alt"] for tag in soup_of(page).find_all("img") if re.search(r"\.(png|svg|jpe?g)$", tag.get("alt", ""))
    ]
    assert not bare


def test_every_figure_shows_something(page):
    """What a cell returns besides its drawing would be a figure of its own, under the same caption and with a
    number.
    """
    shows = "img, svg, table.sound-player, .sound-scrubber, [data-explorer], [data-plane]"
    bare = [
        figure.get_text(" ", strip=True)[:120]
        for figure in soup_of(page).find_all("figure")
        if not figure.select(shows)
    ]
    assert not bare


def test_figures_are_numbered_in_their_chapter(page):
    numbers = [number.get_text().strip() for number in soup_of(page).select("figure .caption-number")]
    name = page.stem.removeprefix("appendix_")
    prefix = str(int(name[:2])) if name[:2].isdigit() else name[0].upper()
    assert numbers == [f"Fig. {prefix}.{place}" for place in range(1, len(numbers) + 1)]


def test_each_prediction_leads_to_its_answer(page):
    soup = soup_of(page)
    boxes = [box for box in soup.select(".admonition.tip") if box.p.get_text() == "Predict first"]
    assert len(boxes) == len(soup.find_all(["p", "strong"], string="Predict first")), "a quote that became no box"
    for box in boxes:
        questions = box.select("ol > li")
        assert len(questions) > 3 or box.ol is None  # one question alone is answered below it
        for number, question in enumerate(questions, 1):
            assert question.find("a", href=f"#prediction-{number}", string="answer"), question.get_text()
            answer = soup.find(id=f"prediction-{number}")  # a second name of a paragraph is an empty span in it
            text = (answer if answer.get_text() else answer.parent).get_text().lower()
            assert re.search(rf"predictions? (\d and )?{number}", text)


def test_each_chapter_opens_with_its_result(page):
    soup = soup_of(page)
    pictures = soup.select(".opening-picture")
    assert len(pictures) == (1 if page.stem[:2].isdigit() else 0)
    for picture in pictures:
        figure = soup.find(id=picture.a["href"].removeprefix("#"))
        assert figure.img["src"] == picture.img["src"] and picture.img["alt"]
        assert figure.select_one(".caption-number").get_text().strip() in picture.get_text()
        assert picture.find_parent("section").find(["h1", "h2"]).name == "h1", "at the chapter's beginning"


def test_no_table_has_a_row_of_names_alone(page):
    for row in soup_of(page).select("table.dataframe thead tr + tr"):
        texts = [cell.get_text().strip() for cell in row.find_all("th")]
        assert texts[-1], f"{texts}: see book/_ext/table_marks.py"


def test_the_paper_and_the_works_can_be_reached(html):
    """A link is no request: nothing is asked for before a reader follows it."""
    paper = "https://arxiv.org/abs/2512.07226"
    assert soup_of(html / "book" / "index.html").find("a", href=paper)
    works = soup_of(html / "book" / "references.html").select(".citation")
    reached = [
        work
        for work in works
        if work.find("a", href=re.compile(r"^https://(doi\.org/|arxiv\.org/abs/|hal\.|www\.jstor\.org/)"))
    ]
    assert len(works) > 60 and len(works) - len(reached) <= 3  # three have neither a DOI nor a preprint
    assert any(work.find("a", href=paper) for work in reached)


def test_works_are_listed_as_the_text_cites_them(html):
    labels = [label.get_text() for label in soup_of(html / "book" / "references.html").select(".citation .label")]
    assert all(re.fullmatch(r"\[?\D+, \d{4}\]?", label) for label in labels), labels
    cited = {
        a.get_text() for a in soup_of(html / "book" / "03_reverse_process.html").select("a.reference[href*=references]")
    }
    known = {re.sub(r"[\[\]]", "", label) for label in labels}
    assert {"Ho et al., 2020", "Nichol and Dhariwal, 2021"} <= known and cited


def test_every_sound_and_picture_is_there(page, html):
    """From the page's own folder, where readers open it: sounds beside a notebook lie in `_static` at the root."""
    missing = []
    for tag in soup_of(page).find_all(["audio", "img", "script"], src=True):
        if not re.match(r"data:|https?:", tag["src"]):
            target = (page.parent / unquote(urlsplit(tag["src"]).path)).resolve()
            if not target.is_file() or not target.is_relative_to(html.resolve()):
                missing.append(tag["src"])
    assert not missing


def test_no_page_is_too_large(page):
    sources = {tag["src"] for tag in soup_of(page).find_all("img")}
    pictures = {src for src in sources if not src.startswith("data:") and not is_external(src)}
    size = page.stat().st_size + sum((page.parent / unquote(src)).stat().st_size for src in pictures)
    assert size <= LARGEST_PAGE, f"{size / MEGABYTE:.1f} MB with its pictures"


def test_no_dead_widget_is_shown(page):
    assert not soup_of(page).find("script", type="application/vnd.jupyter.widget-view+json")
    for output in soup_of(page).select(".cell_output"):
        assert not re.match(r"\s*(\w*Box|\w*Slider|Output|Tab|Accordion|interactive)\(", output.get_text())


# ---------------------------------------------------------------------------------- in a real browser


@dataclass
class Visit:
    """What happened while one page was open."""

    errors: list[str] = field(default_factory=list)
    external: list[str] = field(default_factory=list)
    formulas: int = 0
    typeset: int = 0
    bad_formulas: list[str] = field(default_factory=list)
    broken_pictures: list[str] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)
    overflowing: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    backgrounds: dict[str, str] = field(default_factory=dict)
    tools: int = 0
    stuck_tools: list[str] = field(default_factory=list)
    silent_tools: list[str] = field(default_factory=list)


LOOK = """async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    const seen = (selector) => [...document.querySelectorAll(selector)];
    return {
        formulas: seen('.math').length,
        typeset: seen('.math').filter((m) => m.querySelector('mjx-container svg')).length,
        bad: seen('mjx-container').filter((m) => m.querySelector('[data-mml-node=merror], [fill=red]'))
            .map((m) => m.textContent),
        broken: seen('.bd-article img').filter((i) => i.complete && !i.naturalWidth).map((i) => i.src.slice(0, 99)),
        background: getComputedStyle(document.body).backgroundColor,
    };
}"""

# code, formulas, tables and other output that are wider than their column, folded ones too
CUT = """() => {
    document.querySelectorAll('details').forEach((fold) => { fold.open = true; });
    const over = (e) => e.scrollWidth > e.clientWidth + 1;
    const boxes = '.cell_input pre, .cell_output pre, .cell_output .output, .pst-scrollable-table-container';
    return [...document.querySelectorAll(boxes + ', div.math, div.math mjx-container')].filter(over)
        .map((e) => e.closest('section').querySelector('h1, h2, h3').textContent + ': ' + e.textContent.slice(0, 60));
}"""

# operates each tool of a page: chooses a player's or scrubber's last sound, moves the first slider of others
OPERATE = """() => {
    const drawing = '.explorer-picture, .tool-drawing';
    const state = (tool) => tool.deck ? tool.deck.current : tool.querySelector(drawing).innerHTML;
    const stuck = [];
    const tools = [...document.querySelectorAll('.page-tool')];
    for (const tool of tools) {
        const before = state(tool), radios = tool.querySelectorAll('input[type=radio]');
        if (tool.deck) radios[radios.length - 1].click();
        else {
            const slider = tool.querySelector('input');
            slider.value = slider.value === slider.min ? slider.max : slider.min;
            slider.dispatchEvent(new Event('input'));
        }
        if (radios.length !== 1 && state(tool) === before) stuck.push(tool.getAttribute('aria-label'));
    }
    return { tools: tools.length, stuck };
}"""

# the sounds of a tool are played: the time of the one that is chosen moves, and none is left loading
PLAYS = """(tool) => new Promise((done) => {
    tool.deck.toggle();
    const end = Date.now() + 10_000, waiting = setInterval(() => {
        const moves = tool.deck.current.currentTime > 0.05 && !tool.deck.current.muted;
        if (!moves && Date.now() < end) return;
        clearInterval(waiting);
        tool.deck.pause();
        done(moves);
    }, 20);
})"""

# elements that stick out of the window although no ancestor scrolls them
OVERFLOW = """() => {
    const scrolls = (e) => { for (; e && e !== document.body; e = e.parentElement)
        if (getComputedStyle(e).overflowX !== 'visible') return true; return false; };
    return [...document.querySelectorAll('.bd-main *')]
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e))
        .map((e) => e.outerHTML.slice(0, 99)).slice(0, 5);
}"""


def visit(browser, url: str) -> Visit:
    """Open a page with the network off, light and then dark and narrow, and note what happens."""
    result = Visit()
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.on("console", lambda message: result.errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: result.errors.append(str(error)))
    tab.on("requestfailed", lambda request: result.errors.append(f"not loaded: {request.url[:200]}"))
    tab.on("request", lambda request: result.external.append(request.url) if is_external(request.url) else None)
    tab.goto(url)
    seen = tab.evaluate(LOOK)
    result.formulas, result.typeset, result.bad_formulas = seen["formulas"], seen["typeset"], seen["bad"]
    result.broken_pictures = seen["broken"]
    result.backgrounds["light"] = seen["background"]
    result.cut = tab.evaluate(CUT)
    operated = tab.evaluate(OPERATE)
    result.tools, result.stuck_tools = operated["tools"], operated["stuck"]
    players = [tool for tool in tab.locator(".page-tool").all() if tool.evaluate("tool => Boolean(tool.deck)")]
    result.silent_tools = [tool.get_attribute("aria-label") for tool in players if not tool.evaluate(PLAYS)]

    tab.emulate_media(color_scheme="dark")
    tab.set_viewport_size({"width": NARROW, "height": 800})
    tab.reload()
    result.backgrounds["dark"] = tab.evaluate(LOOK)["background"]
    result.widths = tab.evaluate("() => ({page: document.documentElement.scrollWidth, window: innerWidth})")
    result.overflowing = tab.evaluate(OVERFLOW)
    context.close()
    return result


@pytest.fixture(scope="module")
def visits(browser, html):
    return lru_cache(maxsize=None)(lambda name: visit(browser, (html / f"{name}.html").as_uri()))


@pytest.fixture(params=PAGES)
def visited(request, visits) -> Visit:
    return visits(request.param)


@pytest.mark.browser
def test_page_opens_without_errors(visited):
    assert not visited.errors


@pytest.mark.browser
def test_page_asks_nothing_from_the_network(visited):
    assert not visited.external


@pytest.mark.browser
def test_formulas_are_typeset(visited):
    assert visited.typeset == visited.formulas
    assert not visited.bad_formulas, "a command that MathJax does not know, or a syntax error"


@pytest.mark.browser
def test_code_formulas_and_tables_fit_their_column(visited):
    assert not visited.cut


@pytest.mark.browser
def test_pictures_are_shown(visited):
    assert not visited.broken_pictures


@pytest.mark.browser
def test_page_fits_a_narrow_screen(visited):
    assert visited.widths["page"] <= visited.widths["window"], visited.overflowing
    assert not visited.overflowing


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_tools_work_in_the_page(visits, html, name):
    written = soup_of(html / f"{name}.html").select(
        "table.sound-player, .sound-scrubber, [data-explorer], [data-plane]"
    )
    visited = visits(name)
    assert visited.tools == len(written)
    assert not visited.stuck_tools and not visited.silent_tools


@pytest.mark.browser
def test_page_has_a_light_and_a_dark_face(visited):
    def brightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert brightness(visited.backgrounds["light"]) > 200
    assert brightness(visited.backgrounds["dark"]) < 60


@pytest.fixture
def opened(browser, html):
    """Opens a built page with the network off."""
    contexts = []

    def open_page(name: str, width: int = 1280, height: int = 900, query: str = "", **options):
        contexts.append(browser.new_context(offline=True, viewport={"width": width, "height": height}, **options))
        tab = contexts[-1].new_page()
        tab.goto((html / f"{name}.html").as_uri() + query)
        tab.evaluate(LOOK)
        return tab

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.browser
def test_a_prediction_is_written_down_revealed_and_followed(opened):
    tab = opened("book/13_full_evaluation")
    box = tab.locator(".admonition.tip").first
    questions = box.locator("ol > li")
    assert box.locator(".guess").count() == questions.count() == 5
    first = questions.nth(0)
    first.locator("input").fill("3 dB")
    first.locator("input").press("Enter")
    assert "Prediction 1: more than 10" in first.locator(".revealed").inner_text()
    first.locator("button").click()
    assert first.locator(".revealed").count() == 0
    fourth = questions.nth(3)
    fourth.locator("button").click()
    assert "samplers of different kinds" in fourth.locator(".revealed").inner_text()
    tab.reload()
    assert first.locator("input").input_value() == "3 dB", "guesses stay"
    first.locator(".to-answer a").click()
    tab.wait_for_function("document.getElementById('prediction-1').getBoundingClientRect().top < innerHeight")
    assert tab.url.endswith("#prediction-1")
    assert tab.evaluate("document.querySelectorAll('#prediction-1').length") == 1


@pytest.mark.browser
def test_code_is_printed_whole(opened):
    tab = opened("book/07_guidance_schedules", width=700)
    tab.emulate_media(media="print")
    cut = (
        "all => all.filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent.slice(0,"
        " 60))"
    )
    assert tab.locator(".bd-article pre").evaluate_all(cut) == []


@pytest.mark.browser
def test_the_tab_key_goes_to_what_can_be_used(opened):
    tab = opened("book/05_inverse_problem")
    tab.wait_for_selector("button.copybtn")
    assert tab.locator("mjx-container").count() > 100 and tab.locator("mjx-assistive-mml").count() > 100
    assert tab.locator("mjx-container[tabindex]").count() == 0
    assert (
        tab.get_by_role("button", name="Copy this code").count() == tab.locator("button.copybtn:visible").count() > 30
    )


@pytest.mark.browser
def test_spectrograms_of_a_player_have_no_frame_in_the_dark(opened):
    tab = opened("book/01_one_channel", color_scheme="dark")
    look = "e => [getComputedStyle(e).padding, getComputedStyle(e).borderWidth]"
    assert tab.locator(".tool-picture img").first.evaluate(look) == ["0px", "0px"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, NARROW])
def test_figures_keep_their_proportions(opened, width):
    tab = opened("book/14_beyond", width=width)
    sides = "all => all.map((e) => [e.naturalWidth / e.naturalHeight, e.width / e.height])"
    found = tab.locator("img[src*='_images/']").evaluate_all(sides)
    assert found and all(shown == pytest.approx(stored, rel=0.02) for stored, shown in found)


@pytest.mark.browser
def test_weights_of_letters(opened):
    tab = opened("book/04_tweedie")
    weigh = "e => Number(getComputedStyle(e).fontWeight)"
    second, third, caption = (
        tab.locator(f".bd-article {name}").first.evaluate(weigh) for name in ("h2", "h3", ".caption-text")
    )
    assert third <= second and caption >= 400


@pytest.mark.browser
def test_wide_tables_scroll_and_keep_their_first_column(opened):
    tab = opened("book/11_other_systems", width=390)
    moved = tab.locator("table.dataframe").evaluate_all("""tables => tables.map((table) => {
            let box = table.parentElement;
            while (getComputedStyle(box).overflowX !== "auto") box = box.parentElement;
            const first = table.querySelector("tbody .pinned"), last = table.querySelector("tbody td:last-child");
            const places = () => first && [first, last].map((cell) => cell.getBoundingClientRect().left);
            const before = places();
            box.scrollLeft = 90;
            return box.scrollLeft === 90 && [before, places()].map(([f, l]) => f - l);
        }).filter(Boolean)""")
    assert moved, "no table of this page is wide"
    assert all(after - before == pytest.approx(90, abs=1) for before, after in moved)  # the last column came closer


@pytest.mark.browser
def test_titles_of_columns_stand_above_their_cells(opened):
    tab = opened("book/11_other_systems")
    side = "all => [...new Set(all.map((e) => getComputedStyle(e).textAlign))]"
    assert tab.locator("table.dataframe .number").evaluate_all(side) == ["right"]
    assert tab.locator("table.dataframe .pinned").evaluate_all(side) == ["left"]


@pytest.mark.browser
def test_sliders_stay_in_sight_of_their_curves(opened):
    tab = opened("book/07_guidance_schedules")
    tab.locator(".explorer-tool").evaluate(
        "e => scrollTo({ top: e.getBoundingClientRect().top + scrollY + 250, behavior: 'instant' })"
    )
    seen = """e => {
        const box = e.getBoundingClientRect();
        return document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2) === e;
    }"""
    assert tab.locator("input[name=s_floor]").evaluate(seen)


def search(opened, question: str):
    """Results of a search: page, and the excerpt below its title."""
    tab = opened("search", query="?q=" + question.replace(" ", "+"))
    tab.wait_for_function("document.querySelector('.search-summary').textContent.includes('finished')", timeout=10_000)
    results = tab.locator("#search-results li").all()
    pages = [re.search(r"([\w-]+)\.html", item.locator("a").get_attribute("href"))[1] for item in results]
    return [(page, item.locator(".search-excerpt")) for page, item in zip(pages, results)]


@pytest.mark.browser
def test_a_search_shows_what_it_found(opened):
    results = search(opened, "diffusion")
    assert len(results) > 10
    assert all(50 < len(excerpt.inner_text()) < 300 for _, excerpt in results[:5])
    marks = [
        mark for _, excerpt in results[:5] for mark in excerpt.locator("mark").all_inner_texts()
    ]  # or the title has the word
    assert len(marks) > 2 and all(mark.lower().startswith("diffus") for mark in marks)


@pytest.mark.browser
@pytest.mark.parametrize(
    "question, pages",
    [("ABX", {"appendix_glossary"}), ("how do I separate my own recording", {"14_beyond", "05_inverse_problem"})],
)
def test_a_search_finds_what_readers_ask_for(opened, question, pages):
    assert pages <= {page for page, _ in search(opened, question)[:3]}


@pytest.mark.browser
def test_search_works_without_a_server(browser, html):
    context = browser.new_context(offline=True)
    tab = context.new_page()
    errors = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((html / "search.html").as_uri() + "?q=diffusion")
    tab.wait_for_selector("#search-results li a", timeout=10_000)
    assert not errors
    context.close()
