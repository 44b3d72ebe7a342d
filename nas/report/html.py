"""A run as one HTML page that needs no network, or its figures as PNG files.

Everything in a run folder is untrusted text: whatever reaches the page passes `_e`, or `_for_script`. The page's
Content-Security-Policy forbids every request, so that what slips through could still not call home.
"""

from __future__ import annotations

import html
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from nas.report.figures import PALETTES, Figure, cost_title, figures, paint, run_names, short
from nas.report.summary import summary
from nas.runs.folder import read_run
from nas.runs.ledger import Evaluation
from search_spaces import NasError, RunError, Subnet
from search_spaces.budget import Budget, budgets_on

__all__ = ["write_html", "write_pngs"]

Folder = str | os.PathLike[str]

_MOST_ROWS = 50


def write_html(folders: Sequence[Folder], path: Path) -> Path:
    """Writes the report of the run in `folders[0]`; the runs in the others are compared with it. Returns `path`.

    Raises `NasError` where plotly is missing, and `RunError` for a folder that holds no run.
    """
    script = _plotly_js()
    runs, evaluations, made = _read(folders)
    page = _page(runs, evaluations, made, read_run(folders[0])[0], script)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def write_pngs(folders: Sequence[Folder], out_dir: Path) -> list[Path]:
    """Writes the report's figures into `out_dir`, one PNG file each; needs a Chrome or Chromium on this machine."""
    kaleido = _kaleido()
    _, _, made = _read(folders)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    files = [out_dir / f"{name}.png" for name in made]
    jobs = [_png_job(figure, file) for figure, file in zip(made.values(), files)]
    errors = import_module("kaleido.errors")
    try:
        # kaleido loads MathJax from the network unless told not to.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False}, cancel_on_error=True)
    except errors.ChromeNotFoundError:
        raise NasError(
            "PNG figures need Chrome or Chromium, and none was found: apt-get install chromium, or kaleido_get_chrome, "
            "or set BROWSER_PATH"
        ) from None
    except (errors.BrowserFailedError, errors.BrowserClosedError) as error:
        raise NasError(f"Chrome was found, but did not start, so there are no PNG figures: {error}") from None
    return files


def _plotly_js() -> str:
    try:
        return str(import_module("plotly.offline").get_plotlyjs())
    except ImportError:
        raise NasError("the HTML report needs plotly: pip install 'lighthubert-nas[report]'") from None


def _kaleido() -> Any:
    try:
        import_module("plotly")  # kaleido takes plotly.js from it, and from the network where it is missing
        return import_module("kaleido")
    except ImportError:
        raise NasError("PNG figures need plotly and kaleido: pip install 'lighthubert-nas[report]'") from None


def _png_job(figure: Figure, file: Path) -> dict[str, Any]:
    layout = figure.plot["layout"]
    margin = {"l": 24, "r": 24, "t": layout["margin"]["t"] + 50, "b": layout["margin"]["b"] + 8}
    title = {"text": html.escape(figure.title, quote=False), "yref": "container", "y": 0.97, "yanchor": "top"}
    plot = paint({**figure.plot, "layout": {**layout, "margin": margin, "title": title}}, PALETTES["light"])
    return {"fig": plot, "path": file, "opts": {"width": 900, "height": layout["height"] + 50, "scale": 2}}


# -------------------------------------------------------------------- reading


def _read(folders: Sequence[Folder]) -> tuple[list[dict[str, Any]], list[Evaluation], dict[str, Figure]]:
    """The runs' summaries, the first run's evaluations and its figures."""
    if not folders:
        raise NasError("a report needs at least one run folder; got none")
    runs = [_finite(summary(folder)) for folder in folders]
    evaluations = read_run(folders[0])[1]
    with _of_the_search(folders[0]):
        return runs, evaluations, figures(runs[0], evaluations, runs[1:])


@contextmanager
def _of_the_search(folder: Folder) -> Iterator[None]:
    """Tells in one line that effects, trust or hypervolume in run.json are not what the search writes."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, NasError):
            raise
        raise RunError(
            f"effects, trust or hypervolume in {folder}/run.json are not as the search writes them: {error!r}"
        ) from error


def _finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which neither JSON nor a plot can hold."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -------------------------------------------------------------------- page


def _page(
    runs: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    made: Mapping[str, Figure],
    settings: Mapping[str, Any],
    plotly_js: str,
) -> str:
    found = runs[0]
    with _of_the_search(found["run"]):
        sections = [
            _headline(found),
            _fronts(found, made),
            _compared(runs, made),
            _section("The chosen subnet, layer by layer", _figure(made, "subnet")),
            _worth(found, made),
            _trust(found, made),
            _counts(found, evaluations),
            _settings(found, settings),
        ]
    plots = {name: figure.plot for name, figure in made.items()}
    return _TEMPLATE.format(
        title=_e(f"Search in {found['space']}: {found['run']}"),
        style=_style(),
        body="\n".join(filter(None, sections)),
        plotly_js=plotly_js,
        plots=_for_script(plots),
        palettes=_for_script(PALETTES),
    )


def _headline(found: Mapping[str, Any]) -> str:
    best, size, fits = found["best"], found["space_size"], found["space_fits"]
    keep = "without a budget"
    if found["budgets"]:
        keep = f"{fits:,} ({100 * fits / size:.3g} %) keep {_e(_joined(found['budgets']))}"
    counts = found["counts"]
    searched = (
        f"<p>Searched <b>{_e(found['space'])}</b>: {size:,} subnets, {keep}; "
        f"{counts['proposed']:,} evaluated in {_duration(found['seconds'])} "
        f"by {_e(found['searcher'])} with seed {found['seed']}.</p>"
    )
    if not best:
        why = "No candidate kept its budget when measured again" if found["verification"] else "No subnet was scored"
        tiles = f"<p class='box bad'>{why}, so nothing is chosen. See the counts and errors below.</p>"
    else:
        tiles = f"<div class='tiles'>{''.join(_tiles(found))}</div>{_chosen(best)}"
    return (
        f"<header><h1>Search in {_e(found['space'])}</h1><p class='muted'>{_e(found['run'])}</p></header>"
        f"<section>{searched}{tiles}{_measured_again(found)}</section>"
    )


def _measured_again(found: Mapping[str, Any]) -> str:
    """What was measured of the best candidates after the search, on what is shipped."""
    candidates = (found["verification"] or {}).get("candidates", [])
    rows = [
        (c["id"], _budget(budget), *(f"{m[key]:.4g}" for key in _MEASURED), "kept" if m["keeps"] else "missed")
        for c in candidates
        for budget, m in c["budgets"].items()
    ]
    heads = ("measured again", "budget", "predicted, ms", "bound", "measured", "at most", "")
    return f"<div class='facts'>{_table(heads, rows)}</div>" if rows else ""


_MEASURED = ("predicted_ms", "bound_ms", "measured_ms", "measured_at_most_ms")


def _tiles(found: Mapping[str, Any]) -> Iterator[str]:
    """The score, then each cost with the share of its budgets."""
    best, direction = found["best"], "higher" if found["maximize"] else "lower"
    yield _tile("Score", f"{best['score']:.5g}", f"{_e(found['score'])}, {direction} is better")
    for name, value in best["costs"].items():
        shares = {str(b): found["budget_used"][str(b)] for b in budgets_on(name, found["budget_used"])}
        told = "".join(_share(text, share) for text, share in shares.items()) or "no budget on it"
        yield _tile(cost_title(name, found), short(value, 4), told)


def _tile(name: str, value: str, told: str) -> str:
    """`told` is HTML, the rest text."""
    return (
        f"<div class='tile'><div class='muted'>{_e(name)}</div>"
        f"<div class='value'>{_e(value)}</div><div class='muted'>{told}</div></div>"
    )


def _share(budget: str, share: float) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    return f"<div class='bar'><div style='width:{width:.1f}%'></div></div>{100 * share:.1f} % of {_e(_budget(budget))}"


def _chosen(best: Mapping[str, Any]) -> str:
    subnet = Subnet.from_dict(best["subnet"])
    rows = [
        ("subnet", subnet.id),
        ("embed dim, depth", f"{subnet.embed_dim}, {subnet.depth} layers"),
        ("heads", " ".join(map(str, subnet.heads))),
        ("FFN ratios", " ".join(f"{ratio:g}" for ratio in subnet.ffn_ratios)),
        ("found at evaluation", f"{best['index'] + 1:,}"),
    ]
    return f"<div class='facts'>{_table((), rows)}</div>"


def _fronts(found: Mapping[str, Any], made: Mapping[str, Figure]) -> str:
    fronts = [name for name in made if name.startswith("front-")]
    if not found["best"]:
        return ""
    if not fronts:
        return _section("The front", "<p>This run has no cost, so there is no front: only the best score counts.</p>")
    costs = list(found["best"]["costs"])
    rows = [(p["id"], f"{p['score']:.5g}", *(short(p["costs"][cost], 4) for cost in costs)) for p in found["front"]]
    told = f"Subnets on the front against {found['front_cost']}: {len(rows)}"
    table = _folded(told, _table(("subnet", "score", *costs), rows, numbers=1))
    return _section("Score against cost", _grid(made, fronts) + _hypervolume(found) + table)


def _hypervolume(found: Mapping[str, Any]) -> str:
    volume = found["hypervolume"]
    if not volume:
        return ""
    cost, reference = _e(found["front_cost"]), volume["reference"]
    return (
        f"<p>Hypervolume <b>{_e(short(volume['value'], 5))}</b> ({cost} × score): the area between the front and the "
        f"reference point, {cost} {_e(short(reference['cost'], 5))} and score {_e(short(reference['score'], 5))}.</p>"
    )


def _compared(runs: Sequence[Mapping[str, Any]], made: Mapping[str, Figure]) -> str:
    parts = _figure(made, "convergence")
    if len(runs) > 1:
        if len({(run["score"], run["space"], run["maximize"]) for run in runs}) > 1:
            parts += "<p class='box bad'>These runs differ in space or score: their scores cannot be compared.</p>"
        parts += _table(*_comparison(runs), numbers=1)
    return _section("How the search went", parts)


def _comparison(runs: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """A row for each run: what it was, and what it found."""
    costs = list(dict.fromkeys(cost for run in runs if run["best"] for cost in run["best"]["costs"]))
    settings = {"space": [r["space"] for r in runs], "score": [r["score"] for r in runs],
                "budgets": [_joined(r["budgets"]) or "none" for r in runs]}  # fmt: skip
    differ = {name: values for name, values in settings.items() if len(set(values)) > 1}
    head = ("run", "best score", *costs, "found at", "evaluations", "failed", "time", *differ)
    return head, [
        (
            name,
            f"{run['best']['score']:.5g}" if run["best"] else "none",
            *(short(run["best"]["costs"].get(cost), 4) if run["best"] else "" for cost in costs),
            f"{run['best']['index'] + 1:,}" if run["best"] else "",
            f"{run['counts']['proposed']:,}",
            f"{run['counts']['failed']:,}",
            _duration(run["seconds"]),
            *(values[row] for values in differ.values()),
        )
        for row, (name, run) in enumerate(zip(run_names(runs), runs))
    ]


def _worth(found: Mapping[str, Any], made: Mapping[str, Figure]) -> str:
    if "effects-layers" not in made:
        return ""
    small = [name for name in made if name.startswith("effects-") and name != "effects-layers"]
    return _section("What each choice is worth", _figure(made, "effects-layers") + _grid(made, small))


def _trust(found: Mapping[str, Any], made: Mapping[str, Figure]) -> str:
    trust = found["trust"]
    if not trust:
        return ""
    words = "".join(f"<li>{_e(sentence)}</li>" for sentence in trust.get("words") or ())
    parts = f"<ul>{words}</ul>" if words else ""
    if trust.get("certificate"):
        parts += f"<p class='box good'>{_e(trust['certificate'])}</p>"
    return _section("How far to trust this", parts + _figure(made, "trust") + _rescored(trust.get("rescored")))


def _rescored(rescored: Mapping[str, Any] | None) -> str:
    if not rescored:
        return ""
    rows = [(row["id"], short(row["score"], 5), short(row["rescored"], 5)) for row in rescored["rows"]]
    told = f"The {len(rows)} subnets that were scored again on {rescored['speech']}"
    if rescored.get("winner_rank"):
        told += f"; the chosen one ranked {rescored['winner_rank']}"
    return f"<h3>{_e(told)}</h3>{_table(('subnet', 'score', 'scored again'), rows, numbers=1)}"


def _counts(found: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> str:
    counts = found["counts"]
    names = {"proposed": "Proposed", "ok": "Scored", "failed": "Failed", "over_budget": "Measured over budget"}
    names |= {"ruled_out": "Ruled out early"} if counts["ruled_out"] else {}
    tiles = "".join(_tile(told, f"{counts[name]:,}", "") for name, told in names.items())
    errors = Counter(evaluation.error for evaluation in evaluations if evaluation.error)
    rows = [(error, f"{times:,}") for error, times in errors.most_common(_MOST_ROWS)]
    parts = f"<div class='tiles'>{tiles}</div>"
    if rows:
        parts += "<h3>Errors</h3>" + _table(("error", "times"), rows, numbers=1)
    return _section("Counts", parts + _unscored(evaluations))


def _unscored(evaluations: Sequence[Evaluation]) -> str:
    """The evaluations that are on no figure."""
    lost = [evaluation for evaluation in evaluations if not evaluation.scored]
    if not lost:
        return ""
    rows = [(f"{e.index + 1:,}", e.subnet.id, e.status, _costs(e.costs), e.error or "") for e in lost[:_MOST_ROWS]]
    more = f", the first {_MOST_ROWS} shown" if len(lost) > _MOST_ROWS else ""
    table = _table(("evaluation", "subnet", "status", "costs", "error"), rows)
    return _folded(f"Evaluations without a score: {len(lost):,}{more}", table)


def _costs(costs: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in costs.items())


def _settings(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in settings.items() if key not in ("effects", "trust", "versions", "command")}
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in shown.items()]
    versions = found["versions"] if isinstance(found["versions"], dict) else {}
    told = ", ".join(f"{name} {version}" for name, version in versions.items()) or "not kept"
    return _section(
        "How it was made",
        f"<pre>{_e(found['command'] or 'the command was not kept')}</pre><p>Versions: {_e(told)}.</p>"
        + _folded("All settings", _table(("setting", "value"), rows)),
    )


# -------------------------------------------------------------------- pieces of HTML


def _e(value: object) -> str:
    return html.escape(str(value))


def _for_script(value: object) -> str:
    """JSON that no text in it can break out of a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_e(title)}</h2>{content}</section>" if content else ""


def _folded(told: str, content: str) -> str:
    return f"<details><summary>{_e(told)}</summary>{content}</details>"


def _figure(made: Mapping[str, Figure], name: str) -> str:
    if name not in made:
        return ""
    figure = made[name]
    return (
        f"<figure><h3>{_e(figure.title)}</h3><figcaption class='muted'>{_e(figure.caption)}</figcaption>"
        f"<div class='plot' id='{_e(name)}' style='height:{figure.plot['layout']['height']}px'></div></figure>"
    )


def _grid(made: Mapping[str, Figure], names: Sequence[str]) -> str:
    return f"<div class='grid'>{''.join(_figure(made, name) for name in names)}</div>" if names else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int | None = None) -> str:
    """A table in a box that scrolls; columns from `numbers` on are aligned right."""

    def row(cells: Sequence[str], tag: str) -> str:
        right = [numbers is not None and column >= numbers for column in range(len(cells))]
        return "".join(f"<{tag}{' class=right' if r else ''}>{_e(cell)}</{tag}>" for cell, r in zip(cells, right))

    top = f"<thead><tr>{row(head, 'th')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<div class='scroll'><table>{top}<tbody>{body}</tbody></table></div>"


def _budget(text: str) -> str:
    """`params<=2500000` as people write it: params ≤ 2.5M."""
    cost = text.split("<=")[0].strip()
    target = text.partition("@")[2]
    return f"{cost} ≤ {short(Budget.parse(text, [cost]).limit, 6)}" + (f" on {target}" if target else "")


def _joined(budgets: Sequence[str]) -> str:
    return " and ".join(map(_budget, budgets))


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _style() -> str:
    """The style sheet, with the palettes of the figures as its variables."""
    light, dark = (";".join(f"--{name[1:]}:{value}" for name, value in PALETTES[k].items()) for k in ("light", "dark"))
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{_CSS}"


_CSS = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1180px;padding:24px 20px 60px;background:var(--ground);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:28px;line-height:1.2;margin:0}
h2{font-size:21px;margin:0 0 12px;padding-top:20px;border-top:1px solid var(--line)}
h3{font-size:16px;margin:18px 0 2px}
header p{margin:4px 0 0}
section{margin-top:28px}
figure{margin:0 0 12px;min-width:0}
.muted,figcaption{color:var(--muted);font-size:14px}
.plot{width:100%;margin-top:6px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:8px 28px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:14px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;min-width:0}
.value{font-size:26px;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.bar{height:6px;border-radius:3px;background:var(--line);margin:4px 0;overflow:hidden}
.bar div{height:100%;background:var(--main)}
.box{background:var(--card);border-left:4px solid var(--line);border-radius:4px;padding:10px 14px}
.good{border-color:var(--better)}
.bad{border-color:var(--worse)}
.scroll{overflow-x:auto;max-height:420px;overflow-y:auto;margin:8px 0}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 18px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;
 overflow-wrap:normal}
td{max-width:520px;overflow-wrap:break-word}
thead th{color:var(--muted);font-weight:500;position:sticky;top:0;background:var(--ground)}
.right{text-align:right}
.facts td:first-child{color:var(--muted);white-space:nowrap}
details{margin:10px 0}
summary{cursor:pointer}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px 12px;font-size:13px;
 white-space:pre-wrap;margin:0}
ul{padding-left:20px;margin:8px 0}
@media(max-width:520px){body{padding:16px 14px 40px}h1{font-size:23px}.value{font-size:22px}}
"""

_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<noscript><p class="box bad">The figures of this page are drawn by JavaScript.</p></noscript>
<script>{plotly_js}</script>
<script>
const PLOTS = {plots}, PALETTES = {palettes};
const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
function paint(value, palette) {{
  if (typeof value === "string") return value.startsWith("@") && palette[value] || value;
  if (Array.isArray(value)) return value.map(each => paint(each, palette));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, paint(each, palette)]));
}}
function draw() {{
  for (const [name, plot] of Object.entries(PLOTS)) {{
    const {{data, layout}} = paint(plot, PALETTES[dark.matches ? "dark" : "light"]);
    if (touch) layout.dragmode = false;  // a finger scrolls the page
    Plotly.react(name, data, layout, {{responsive: true, displaylogo: false,
      displayModeBar: touch ? false : undefined, modeBarButtonsToRemove: ["lasso2d", "select2d"]}});
  }}
}}
dark.addEventListener("change", draw);
draw();
</script>
</body>
</html>
"""
