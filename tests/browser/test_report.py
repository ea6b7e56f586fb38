"""The report in a browser: no errors, and all controls work."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

# number of painted pixels of the canvas, and a checksum
PAINTED = """
const canvas = document.getElementById("canvas");
const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
let painted = 0, sum = 0;
for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3]) { painted++; sum = (sum + i * pixels[i]) % 1000003; }
return [painted, sum];
"""
SETTLE = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))));"


class Report:
    """The page and its controls."""

    def __init__(self, browser) -> None:
        self.browser = browser

    def painted(self) -> tuple[int, int]:
        self.browser.run(SETTLE)
        painted, total = self.browser.run(PAINTED)
        return painted, total

    def click(self, selector: str) -> None:
        self.browser.run("document.querySelector(arguments[0]).click();", selector)

    def enter(self, selector: str, text: str, event: str = "input") -> None:
        self.browser.run(
            "const node = document.querySelector(arguments[0]); node.value = arguments[1];"
            "node.dispatchEvent(new Event(arguments[2]));",
            selector, text, event,
        )  # fmt: skip

    def text(self, selector: str) -> str:
        return self.browser.run("return document.querySelector(arguments[0]).innerText;", selector)

    def count(self, selector: str) -> int:
        return self.browser.run("return document.querySelectorAll(arguments[0]).length;", selector)


@pytest.fixture
def report(browser, analyzed):
    browser.open((analyzed / "analysis" / "report.html").as_uri())
    yield Report(browser)
    assert browser.errors() == []


def test_everything_is_drawn(report, browser, tmp_path):
    assert report.painted()[0] > 1000
    broken = browser.run(
        "return [...document.images].filter(i => !i.complete || i.naturalWidth < 300).map(i => i.alt);"
    )
    assert broken == []
    assert report.count("img.figure") == 12
    for section in (
        "summary",
        "comparison",
        "data-summary",
        "leakage",
        "provenance",
        "confusion",
        "latent",
        "trust",
    ):
        assert len(report.text(f"#{section}")) > 80, section
    assert "150 of 150 samples" in report.text("#shown")
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth;")
    browser.picture(tmp_path / "report.png")


def test_methods_and_colours_change_the_map(report):
    seen = set()
    for method in ("PCA", "UMAP", "t-SNE"):
        report.click(f"[data-method='{method}']")
        seen.add(report.painted())
    assert len(seen) == 3
    for number in range(report.count("#color-by option")):
        report.enter("#color-by", str(number), "change")
        assert report.painted()[0] > 1000
        seen.add(report.painted())
        assert report.text("#legend")
    assert len(seen) > 5


def test_legend_hides_and_shows(report):
    for _ in range(4):  # Chromium renders a canvas differently after several reads
        report.click("#reset-view")
        before = report.painted()
    report.click("#legend button")
    hidden = report.painted()
    assert hidden[0] < before[0]
    assert "150 of 150" not in report.text("#shown")
    report.click("#legend button")
    assert report.painted() == before
    report.click("#show-none")
    assert report.painted() == (0, 0)
    report.click("#show-all")
    assert report.painted() == before


def test_hover_shows_the_sample(report, browser):
    where = browser.run(
        "const data = JSON.parse(document.getElementById('data').textContent);"
        "const box = document.getElementById('canvas').getBoundingClientRect();"
        "for (let x = 5; x < box.width; x += 9) for (let y = 5; y < box.height; y += 9) {"
        "  document.getElementById('canvas').dispatchEvent("
        "    new PointerEvent('pointermove', {clientX: box.left + x, clientY: box.top + y}));"
        "  const tip = document.getElementById('tip');"
        "  if (!tip.hidden) return [data.samples.includes(tip.querySelector('b').textContent), tip.innerText];"
        "}"
    )
    assert where is not None
    known, text = where
    assert known
    assert "tissue" in text
    assert "donor" in text


def test_search_of_samples_and_genes(report, browser):
    sample, gene = browser.run(
        "const data = JSON.parse(document.getElementById('data').textContent);"
        "return [data.samples[3], data.genes.names[7]];"
    )
    report.enter("#find-sample", sample)
    report.painted()
    assert report.text("#shown").startswith("1 of 150")
    report.enter("#find-sample", "")
    report.enter("#gene", gene.lower())
    assert report.text("#gene-result p").startswith(gene)
    assert report.count("#gene-result tbody tr") == 10
    neighbour = report.text("#gene-result .link")
    report.click("#gene-result .link")
    assert report.text("#gene-result p").startswith(neighbour)
    report.enter("#gene", "no such gene")
    assert "no such gene" in report.text("#gene-note")
    assert report.count("#gene-result tr") == 0
