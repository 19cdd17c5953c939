"""What a real browser makes of the page: themes, phones, filters, and no request but the file."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from vgbench.report.gallery import Evidence
from vgbench.report.page import write_report
from vgbench.retrieval.rerank.local.matches import LocalMatches

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def chromium(*arguments):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture
def report(city, tmp_path):
    history = [{"epoch": 0, "loss": 0.5, "recalls": {"5": 20.0}}, {"epoch": 1, "loss": 0.25, "recalls": {"5": 30.0}}]
    args = city.results, city.split, city.predictions, city.neighbours
    return write_report(tmp_path / "report.html", *args, evidence=Evidence(history=history))


def screenshot(page, tmp_path, width=1000, *arguments):
    out = tmp_path / "shot.png"
    chromium(f"--window-size={width},2600", f"--screenshot={out}", *arguments, page.as_uri())
    return np.asarray(Image.open(out).convert("RGB")).astype(int)


def measure(report, tmp_path, width, script):
    """Load the page in a frame as wide as a phone and return what a script says of its document.

    The page itself may run no script; the frame's owner may ask about it, once its policy is taken out.
    """
    text = report.read_text().replace('http-equiv="Content-Security-Policy"', 'name="policy"')
    framed = text.replace("</body>", f"<script>document.title = String({script})</script></body>")
    inner, outer = tmp_path / "inner.html", tmp_path / "outer.html"
    inner.write_text(framed)
    outer.write_text(
        f'<iframe id="f" src="inner.html" style="width:{width}px;height:900px"></iframe><script>onload = () => '
        "document.body.append('measured:' + document.getElementById('f').contentDocument.title + ':')</script>"
    )
    dom = chromium("--allow-file-access-from-files", "--dump-dom", outer.as_uri())
    return dom.rsplit("measured:", 1)[1].split(":")[0]


def test_light_and_dark(report, tmp_path):
    light = screenshot(report, tmp_path)
    dark = screenshot(report, tmp_path, 1000, "--blink-settings=preferredColorScheme=0")
    assert light[5, 5].min() > 230 and dark[5, 5].max() < 40
    green, red = (26, 127, 55), (207, 34, 46)
    for colour in (green, red):
        assert (np.abs(light - colour).max(-1) < 6).sum() > 200


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_no_sideways_scrolling(report, tmp_path, width):
    said = measure(report, tmp_path, width, "document.documentElement.scrollWidth + ' ' + innerWidth")
    content, window = map(int, said.split())
    assert content <= window == width


@pytest.mark.parametrize(("chosen", "shown"), [("all", 6), ("hits", 2), ("misses", 4)])
def test_the_buttons_filter(report, tmp_path, chosen, shown):
    script = (
        f"(document.getElementById('show-{chosen}').checked = true, "
        "[...document.querySelectorAll('.card')].filter(c => getComputedStyle(c).display !== 'none').length)"
    )
    assert int(measure(report, tmp_path, 900, script)) == shown


@pytest.mark.parametrize(
    ("words", "shown", "said"),
    [("", 6, ""), ("MISSED", 3, "3 of 6"), ("rank 3", 1, "1 of 6"), ("nowhere", 0, "0 of 6"), ("0500990", 0, "0 of 6")],
)
def test_words_filter_the_gallery(report, tmp_path, words, shown, said):
    script = (
        f"(document.getElementById('filter').value = '{words}', "
        "document.getElementById('filter').dispatchEvent(new Event('input')), "
        "[...document.querySelectorAll('.card')].filter(c => getComputedStyle(c).display !== 'none').length + '/' + "
        "document.getElementById('filtered').textContent)"
    )
    assert measure(report, tmp_path, 900, script) == f"{shown}/{said}"


def test_the_count_heeds_the_buttons(report, tmp_path):
    script = (
        "(document.getElementById('show-misses').click(), document.getElementById('filter').value = 'rank', "
        "document.getElementById('filter').dispatchEvent(new Event('input')), "
        "document.getElementById('filtered').textContent)"
    )
    assert measure(report, tmp_path, 900, script) == "1 of 4"


def test_a_link_into_what_is_filtered_out_shows_it(report, tmp_path):
    script = (
        "(document.getElementById('show-hits').click(), location.hash = '#query-4', "
        "dispatchEvent(new Event('hashchange')), "
        "getComputedStyle(document.getElementById('query-4')).display !== 'none')"
    )
    assert measure(report, tmp_path, 900, script) == "true"


def test_a_picture_enlarges_beside_its_query(report, tmp_path):
    script = (
        "(document.querySelector('#query-4 .wrong .enlarge').click(), "
        "(d => d.open + ' ' + d.querySelectorAll('img').length + ' ' + (d.querySelector('img').width > 250))"
        "(document.querySelector('dialog')))"
    )
    assert measure(report, tmp_path, 900, script) == "true 2 true"


def test_it_prints_with_all_pictures(report, tmp_path):
    pdf = tmp_path / "report.pdf"
    chromium(f"--print-to-pdf={pdf}", report.as_uri())
    assert pdf.read_bytes().count(b"/Subtype /Image") >= len(set(re.findall('data:image[^"]+', report.read_text())))


def test_the_policy_lets_the_filter_run_and_nothing_else(report, tmp_path):
    """The search box is hidden until its script has run; another script is refused."""
    alien = "<script>document.getElementById('filter').placeholder = 'alien'</script></body>"
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(report.read_text().replace("</body>", alien))
    dom = chromium("--dump-dom", spoilt.as_uri())
    assert '<span class="search">' in dom and 'placeholder="alien"' not in dom


def test_evidence_is_drawn_below_its_query_and_match(city, tmp_path):
    heat = {4: np.full((2, 8, 8), 128, np.uint8)}
    ends = np.cumsum(np.full((6, 3), 2)).reshape(6, 3)
    matches = LocalMatches(city.predictions.indices, ends, np.full((36, 4), 0.5, np.float32))
    args = city.results, city.split, city.predictions, city.neighbours
    report = write_report(tmp_path / "why.html", *args, evidence=Evidence(heat=heat, matches=matches))
    script = (
        "(f => f.map(e => e.className + ' ' + Math.round(e.getBoundingClientRect().left)).join(','))"
        "([...document.querySelectorAll('#query-4 figure')])"
    )
    found = dict(part.split() for part in measure(report, tmp_path, 1000, script).split(",")[-3:])
    assert set(found) == {"heat", "matches"} and int(found["matches"]) > int(found["heat"])


def test_every_photograph_is_shown(report, tmp_path):
    script = (
        "[...document.images].map(i => (i.loading = 'eager', i.complete && i.naturalWidth)).filter(w => w > 0).length"
    )
    text = report.read_text().replace('decoding="async"', "")
    report.write_text(text)
    assert int(measure(report, tmp_path, 900, script)) == 24
