"""Modules of extras."""

import sys

import pytest

from nas.extras import extra_module
from search_spaces import NasError


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NasError) as error:
        extra_module("pandas", "to_pandas()", "pandas")
    assert str(error.value) == "to_pandas() needs pandas: pip install 'lighthubert-nas[pandas]'"


def test_other_missing_modules_are_not_blamed_on_the_extra():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        extra_module("no_such_module", "this", "pandas", package="pandas")
    assert extra_module("json", "this", "pandas").loads("1") == 1
