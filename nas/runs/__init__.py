"""A run: a folder with its settings, ledger, front, best subnet and report.

ledger.py  Evaluation, and the append-only file of them
folder.py  the run folder and its lock
mirror.py  run folders at URLs
status.py  how far a run is
"""

__all__: list[str] = []
