"""The measurements reported in docs/evidence/; each prints its commit and command.

Run them from the repository root as modules: `python -m benchmarks.additive --help`.
"""
