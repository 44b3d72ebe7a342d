"""What a run found.

summary.py  for a terminal, or as JSON
html.py     one self-contained page
figures.py  its figures, also as PNG files
"""

__all__: list[str] = []
