"""The page around the sections: document, style sheet and the script that draws the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.report.figures import PALETTES, Figure
from nas.report.html.markup import escaped, for_script

__all__ = ["page"]


def page(title: str, sections: Sequence[str], plots: Mapping[str, Figure], plotly_js: str) -> str:
    """The whole document; `sections` are HTML, `plotly_js` is plotly's own script."""
    return _TEMPLATE.format(
        title=escaped(title),
        style=_style(),
        body="\n".join(filter(None, sections)),
        plotly_js=plotly_js,
        plots=for_script({name: figure.plot for name, figure in plots.items()}),
        palettes=for_script(PALETTES),
    )


def _style() -> str:
    """The style sheet, with the figures' palettes as its variables."""
    light, dark = (";".join(f"--{name[1:]}:{value}" for name, value in PALETTES[k].items()) for k in ("light", "dark"))
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{_CSS}"


_CSS = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1180px;padding:24px 20px 60px;background:var(--ground);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:break-word}
:focus-visible,.modebar-btn:focus-visible{outline:3px solid var(--main)!important;outline-offset:2px!important}
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
.tile,dd{margin:0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;min-width:0}
.value{font-size:26px;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.bar{height:6px;border-radius:3px;background:var(--line);margin:4px 0;overflow:hidden}
.bar div{height:100%;background:var(--main)}
.box{background:var(--card);border-left:4px solid var(--line);border-radius:4px;padding:10px 14px}
.good{border-color:var(--better)}
.bad{border-color:var(--worse)}
.scroll{position:relative;overflow:auto;max-height:600px;margin:8px 0}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{text-align:left;padding:5px 18px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;font-weight:400}
td{max-width:520px;overflow-wrap:break-word}
thead th{color:var(--muted);font-weight:500;position:sticky;top:0;background:var(--ground)}
.right{text-align:right;white-space:nowrap}
tbody th{min-width:8em}
.facts .scroll{max-height:none}
.facts th{color:var(--muted)}
.facts tbody th{white-space:nowrap}
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
<main>
{body}
<noscript><p class="box bad">The figures of this page are drawn by JavaScript.</p></noscript>
</main>
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
    document.getElementById(name).querySelectorAll(".main-svg").forEach((svg, layer) => {{
      if (layer) return svg.setAttribute("aria-hidden", "true");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", layout.meta);
    }});
  }}
}}
dark.addEventListener("change", draw);
draw();
document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true");  // plotly's own, off the page
</script>
</body>
</html>
"""
