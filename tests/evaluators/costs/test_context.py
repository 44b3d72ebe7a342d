"""What costs are made from."""

import pytest

from evaluators.costs.context import CostContext, refuse_argument
from search_spaces import NasError, get_space


def test_costs_without_an_argument_refuse_one():
    refuse_argument("params", None)
    with pytest.raises(NasError, match="cost params takes no argument; got params@cpu"):
        refuse_argument("params", "cpu")


def test_a_context_is_silent_by_default(capsys):
    context = CostContext(get_space("hubert-tiny"))
    context.log("message")
    with context.progress() as progress:
        progress(1, 2)
    assert capsys.readouterr() == ("", "")
