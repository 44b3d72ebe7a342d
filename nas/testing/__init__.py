"""Contracts that searchers, costs and scores must pass, for this package's tests and for those of third parties.

searchers.py  SearcherContract: a class of pytest tests
checks.py     check_cost, check_score: functions that raise AssertionError
worlds.py     a small space, a cost and scores to test with

Needs pytest. For readable failures, call `pytest.register_assert_rewrite("nas.testing")` in conftest.py.
"""

__all__: list[str] = []
