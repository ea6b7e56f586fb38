"""The page of a sweep in a browser: no errors, and all controls work."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def sweep(train, command, tmp_path_factory):
    """Sweep of two latent dimensions, two seeds, and two values of dropout, one of which fails."""
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    done = train(
        None, f"hydra.sweep.dir={folder}", "seed=1,2", "model.latent_dim=4,8", "model.dropout=0.1,2.0", "trainer.max_epochs=2", "-m"
    )  # fmt: skip
    assert done.code == 1  # one value of dropout is invalid
    done = command("gtex_vae.summarize", f"sweep={folder}", cwd=folder.parent)
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def page(browser, sweep):
    browser.open((sweep / "summary.html").as_uri())
    yield browser
    assert browser.errors() == []


def text(browser, selector: str) -> str:
    return browser.run("return document.querySelector(arguments[0]).innerText;", selector)


def count(browser, selector: str) -> int:
    return browser.run("return document.querySelectorAll(arguments[0]).length;", selector)


def choose(browser, selector: str, value: str) -> None:
    browser.run(
        "const node = document.querySelector(arguments[0]); node.value = arguments[1]; node.dispatchEvent(new Event('change'));",
        selector, value,
    )  # fmt: skip


def test_every_run_is_there_with_its_status(page, sweep):
    assert "8 runs: 4 finished, 4 failed" in text(page, ".headline")
    assert count(page, "#table tbody tr") == 8
    assert count(page, "#table .status.failed") == 4
    assert "model.dropout=2.0 must lie in" in text(page, "#table")
    choose(page, "#status", "failed")
    assert count(page, "#table tbody tr") == 4
    assert text(page, "#count") == "4 of 8 runs"


def test_settings_are_lines_and_seeds_are_intervals(page, sweep, tmp_path):
    # four of the runs failed, so two settings of two seeds are left
    assert count(page, "#parallel-plot path.line") == 2
    assert count(page, "#parallel-plot path.line.best") == 1
    assert count(page, "#parallel-plot .interval") == 2
    assert count(page, "#effects-plots figure") == 2  # latent_dim and dropout
    assert count(page, "#effects-plots figure:nth-of-type(1) .mean") == 2
    assert count(page, "#effects-plots figure:nth-of-type(1) .run") == 4
    assert count(page, "#effects-plots figure:nth-of-type(1) .interval") == 2
    inside = page.run(
        "return [...document.querySelectorAll('svg circle')].every(c => { const box = c.ownerSVGElement.viewBox.baseVal;"
        "const [x, y] = [+c.getAttribute('cx'), +c.getAttribute('cy')];"
        "return x > 0 && y > 0 && x < box.width && y < box.height; });"
    )
    assert inside
    assert page.run("return document.documentElement.scrollWidth <= window.innerWidth;")
    page.picture(tmp_path / "sweep.png")


def test_another_metric_changes_the_drawing_and_the_best(page, sweep):
    def drawn() -> str:
        return page.run("return document.querySelector('#parallel-plot svg').innerHTML;")

    table = pd.read_csv(sweep / "summary.csv")
    for metric, pick in (
        ("reconstruction/r2", "idxmax"),
        ("reconstruction/mse", "idxmin"),
        ("val/loss", "idxmin"),
    ):
        before = drawn()
        choose(page, "#metric", metric)
        assert metric == "reconstruction/r2" or drawn() != before
        best = table.loc[getattr(table[metric], pick)()]
        assert f"best: run {best['run'].split('_')[0]} with" in text(page, "#best")
        assert ("lower is better" in text(page, "#best")) is (pick == "idxmin")


def test_hover_names_the_setting(page):
    shown = page.run(
        "const line = document.querySelector('#parallel-plot .line.best'), box = line.getBoundingClientRect();"
        "line.dispatchEvent(new PointerEvent('pointerenter', {clientX: box.left + 5, clientY: box.top + 5}));"
        "return [document.querySelector('#parallel-plot .tip').innerText, document.querySelectorAll('.line.dim').length];"
    )
    assert "model.latent_dim=" in shown[0]
    assert "2 seeds" in shown[0]
    assert shown[1] == 1


def test_runs_can_be_sorted(page):
    page.run("document.querySelector('#table button[data-key=\"metric\"]').click();")
    values = page.run(
        "return [...document.querySelectorAll('#table tbody tr')].map(r => r.cells[5].innerText);"
    )
    numbers = [float(value) for value in values if value != "–"]
    assert numbers == sorted(numbers)
    assert values[-1] == "–"


def test_agreement_of_seeds(page, sweep):
    pairs = pd.read_csv(sweep / "stability.csv")
    assert len(pairs) == 2
    assert count(page, "#agreement tbody tr") == 2
    assert count(page, "#spread tbody tr") == 2
    for value in pairs["latent_cka"]:
        assert f"{value:.4g}" in text(page, "#agreement")


def test_it_needs_no_network_and_hides_nothing(sweep):
    page = (sweep / "summary.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["runs"]) == 8
