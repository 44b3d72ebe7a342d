"""`nas specialise`."""

import json

import pytest

from nas.commands.specialise import finalists_of
from search_spaces import RunError
from supernet import load_supernet
from tests.nas.commands.helpers import nas


def run(*arguments):
    return nas("specialise", *arguments)


def test_what_cannot_be_is_one_line(tmp_path):
    subnet = tmp_path / "subnet.json"
    subnet.write_text(json.dumps(load_supernet("hubert-tiny").space.smallest.to_dict()))
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "seconds": 1}')
    common = ("--audio", tmp_path / "m.jsonl", "--out", tmp_path / "out")
    for arguments, said in (
        ((subnet, *common), "say which supernet it is cut from"),
        ((subnet, *common, "--supernet", "hubert-tiny", "--finalists", "2"), "--finalists has no effect on one subnet"),
        ((subnet, *common, "--supernet", "hubert-tiny"), "needs utterances of the splits train and dev"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_finalists_of_a_run_are_its_best(tmp_path):
    import nas
    from evaluators import scores
    from evaluators.costs import params
    from search_spaces import get_space

    space = get_space("hubert-tiny")
    settings = {"supernet": "hubert-tiny"}
    arguments = {"costs": {"params": params(space)}, "evals": 12, "searcher": "random", "settings": settings}
    result = nas.search(space, scores.synthetic(space), out=tmp_path / "run", **arguments)
    name, subnets = finalists_of(tmp_path / "run", 3)
    ranked = sorted(result.evaluations, key=lambda e: e.score, reverse=True)
    assert name == "hubert-tiny"
    assert subnets == [e.subnet for e in ranked[:3]]
    nas.search(space, scores.synthetic(space), out=tmp_path / "none", **{**arguments, "evals": 0})
    with pytest.raises(RunError, match="has no best subnet"):
        finalists_of(tmp_path / "none", 1)
