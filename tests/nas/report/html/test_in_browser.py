"""The report in a real browser, on a phone and a desktop, in light and dark: measured, not looked at."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest

import nas
from evaluators import costs
from nas.report.figures import PALETTES
from nas.report.html import write_html
from search_spaces import AdditiveTable, get_space
from tests.nas.report.helpers import needs_chrome

pytestmark = [pytest.mark.slow, needs_chrome]

TARGET = "latency_ms@onnxruntime,threads=1,seconds=2"
MODES = {  # and whether the page is loaded in this mode; else the reader's scheme changes while it is open
    (390, "light"): True,
    (390, "dark"): False,
    (1280, "dark"): True,
    (1280, "light"): False,
}
FAULTS = """(() => {
  document.querySelectorAll("details").forEach(each => each.open = true);
  const faults = [], width = document.documentElement.clientWidth;
  const about = (text, rect) => `${text.slice(0, 60)} (${[rect.left, rect.right].map(Math.round)} of ${width})`;
  const within = (inner, outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1
    && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  const box = element => element.getBoundingClientRect();
  if (document.documentElement.scrollWidth > width) faults.push("the page scrolls sideways");
  for (const each of document.querySelectorAll("main *:not(caption, svg *)")) {
    const rect = box(each);
    if (!rect.width || each.closest(".scroll table, .modebar")) continue;
    if (rect.left < -1 || rect.right > width + 1) faults.push("over the edge: " + about(each.tagName, rect));
    if (getComputedStyle(each).overflowX !== "visible" && !each.matches(".scroll")
        && each.scrollWidth > each.clientWidth) faults.push("clipped: " + about(each.textContent, rect));
  }
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode, range = document.createRange();
    const holder = text.parentElement.closest("td, th, .tile, .box, pre, p, li, summary, h1, h2, h3, figcaption");
    if (!text.data.trim() || !holder || holder.closest("noscript")) continue;
    range.selectNodeContents(text);
    if (!within(range.getBoundingClientRect(), box(holder))) faults.push("outside its box: " + text.data.slice(0, 60));
  }
  for (const plot of document.querySelectorAll(".plot")) {
    for (const text of plot.querySelectorAll("svg text")) {
      const shown = text.textContent.trim() && box(text).width;
      const legend = text.closest(".legend")?.querySelector(".bg") || plot;
      if (shown && !(within(box(text), box(legend)) && within(box(text), box(plot)))) {
        faults.push(`cut in ${plot.id}: ` + about(text.textContent, box(text)));
      }
    }
    const labels = [...plot.querySelectorAll(".legend .bg, .xtitle, .xtick text, .ytitle, .ytick text")].map(box);
    labels.forEach((a, i) => labels.slice(0, i).some(b => !apart(a, b)) && faults.push(`overlapping in ${plot.id}`));
  }
  return faults;
})()"""
DRAWN = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
COLOURS = """[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
  ...[...document.querySelectorAll(".plot")].flatMap(plot =>
    [getComputedStyle(plot.querySelector(".main-svg")).backgroundColor,
     getComputedStyle(plot.querySelector(".xtitle")).fill])]"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with long names: of a target, and of a score."""
    folder, space = tmp_path_factory.mktemp("runs"), get_space("hubert-tiny")

    def score(subnets):
        return [float(sum(subnet.heads)) + len(subnet.heads) for subnet in subnets]

    score.name = "0.75*distillation + 0.25*probe:accent_of_the_speaker_of_each_recording"
    ms = AdditiveTable.build(
        space, TARGET, "ms", lambda D, depth: D / 40, lambda D, heads, ratio, layer, depth: 0.1 * heads + 0.2 * ratio
    )
    tables = {"params": costs.params(space), TARGET: ms}
    budgets = ("latency_ms<=12@onnxruntime,threads=1,seconds=2", "params<=2.5M")
    for name in ("a", "a-second-run-with-a-rather-long-name"):
        nas.search(space, score, tables, budgets, "random", evals=24, out=folder / name)
    return write_html(sorted(folder.iterdir()), folder / "report.html")


@pytest.fixture(scope="module")
def pages(report):
    """(faults, colours, console) of the report by (width, scheme); and its accessibility tree."""
    return asyncio.run(_measured(report))


async def _measured(report):
    from choreographer import Browser

    async with Browser() as browser:
        tab = await browser.create_tab("about:blank")
        session, console, measured = await tab.create_session(), [], {}

        async def heard(message):
            console.append(json.dumps(message["params"])[:300])

        for event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            session.subscribe(event, heard, repeating=True)
        for domain in ("Page", "Runtime", "Log"):
            await session.send_command(f"{domain}.enable")
        for (width, scheme), reload in MODES.items():
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            await session.send_command("Emulation.setDeviceMetricsOverride", size)
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            await session.send_command("Emulation.setEmulatedMedia", {"features": media})
            if reload:
                loaded = session.subscribe_once("Page.loadEventFired")
                await session.send_command("Page.navigate", {"url": report.as_uri()})
                await asyncio.wait_for(loaded, 60)
            await _value(session, DRAWN)
            values = [await _value(session, expression) for expression in (FAULTS, COLOURS)]
            measured[width, scheme] = *values, console.copy()
        tree = (await session.send_command("Accessibility.getFullAXTree"))["result"]["nodes"]
        return measured, [node for node in tree if not node["ignored"]]


async def _value(session, expression):
    options = {"expression": expression, "returnByValue": True, "awaitPromise": True}
    answer = await session.send_command("Runtime.evaluate", options)
    return answer["result"]["result"].get("value")


def named(tree, role):
    return [node.get("name", {}).get("value", "") for node in tree if node["role"]["value"] == role]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_cut_covered_or_wider_than_the_page(pages, mode):
    faults, *_ = pages[0][mode]
    assert faults == []


@pytest.mark.parametrize("mode", MODES)
def test_the_console_is_silent(pages, mode):
    *_, console = pages[0][mode]
    assert console == []


@pytest.mark.parametrize("mode", MODES)
def test_page_and_figures_have_the_colours_of_the_scheme(pages, mode):
    _, colours, _ = pages[0][mode]
    ground, ink = (_rgb(PALETTES[mode[1]][name]) for name in ("@ground", "@ink"))
    assert len(colours) > 10
    assert set(colours[::2]) == {ground}
    assert set(colours[1::2]) == {ink}


def test_figures_images_tables_and_headings_can_be_found_without_seeing_them(pages):
    _, tree = pages
    figures, images = named(tree, "figure"), named(tree, "image")
    assert len(figures) == len(images) >= 7
    assert all([*figures, *images, *named(tree, "table")])
    assert len(named(tree, "table")) >= 4
    assert len(named(tree, "main")) == 1
    levels = [
        each["value"]["value"]
        for node in tree
        if node["role"]["value"] == "heading"
        for each in node["properties"]
        if each["name"] == "level"
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert set(levels) == {1, 2, 3}
    assert (1, 3) not in pairwise(levels)


def _rgb(colour):
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"
