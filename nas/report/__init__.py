"""What a run produced, for people.

run.py         a run folder, read once: settings, evaluations, budgets and what follows from them
run_json.py    the parts of run.json that a search adds when it ends
summary.py     the run as JSON, and as tables for a terminal
formatting.py  numbers, costs, budgets and durations as text
html/          one self-contained page
figures/       its figures, also as PNG and SVG files
"""

__all__: list[str] = []
