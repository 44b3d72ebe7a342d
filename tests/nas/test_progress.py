"""Callbacks and the progress bar."""

import io

import pytest
from rich.console import Console

import nas
from nas import progress
from nas.progress import SearchProgress
from nas.testing.worlds import content, evaluation, params_of, tiny_space
from search_spaces import NasError, Subnet
from search_spaces.synthetic import SyntheticScore

SPACE = tiny_space()
PARAMS = params_of(SPACE)
SCORE = SyntheticScore(SPACE)
SUBNET = Subnet(128, (2, 4), (1.5, 3.5))


def evaluations(*scores):
    made = (evaluation(i, SUBNET, score, status="failed" if score is None else "ok") for i, score in enumerate(scores))
    return list(made)


def shown(console_of, quiet=False, **options):
    stream, then = io.StringIO(), []
    with SearchProgress(8, console_of(stream), quiet, lambda: then.append(1)) as bar:
        bar([])
        bar(evaluations(3.0, None))
        bar.maximize, bar.alive = True, lambda: 5
        bar(evaluations(3.0, None, 4.0))
    assert len(then) == 3
    return stream.getvalue()


def plain(stream):
    return Console(file=stream, width=100, markup=False)


def test_lines_are_printed_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", -1.0)
    lines = shown(plain).splitlines()
    assert lines[0] == "0 of 8 evaluations, best —"
    assert lines[1].startswith("2 of 8 evaluations, ")
    assert lines[1].endswith("/s, best 3.00000")
    assert lines[2].endswith("/s, best 4.00000, 5 evaluators")
    assert shown(plain, quiet=True) == ""


def test_a_terminal_gets_a_bar():
    text = shown(lambda stream: Console(file=stream, width=100, force_terminal=True))
    assert "searching" in text
    assert "3/8" in text


def test_a_notebook_without_widgets_gets_lines_and_no_warning(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    shown(lambda stream: Console(file=stream, width=100, force_jupyter=True))
    assert capsys.readouterr().out.count("JupyterRenderable") == 3


def test_a_search_shows_its_progress_if_asked_and_is_silent_if_not(capfd, monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", -1.0)
    quiet = nas.search(SPACE, SCORE, {"params": PARAMS}, searcher="random", evals=8, batch=4)
    assert capfd.readouterr() == ("", "")
    loud = nas.search(SPACE, SCORE, {"params": PARAMS}, searcher="random", evals=8, batch=4, progress=True)
    assert content(loud.evaluations) == content(quiet.evaluations)
    assert "8 of 8 evaluations" in capfd.readouterr().err


def test_a_callback_stops_the_search_and_what_was_evaluated_is_kept(tmp_path):
    seen = []

    def enough(evaluations):
        seen.append(len(evaluations))
        if len(evaluations) >= 16:
            raise nas.StopSearch

    options = {"costs": {"params": PARAMS}, "searcher": "evolution", "evals": 40, "batch": 8}
    result = nas.search(SPACE, SCORE, callbacks=[enough], out=tmp_path, **options)
    assert seen == [8, 16]
    assert len(result.evaluations) == 16
    assert result.best == max(result.evaluations, key=lambda e: e.score)
    assert (tmp_path / "best.json").exists()
    whole = nas.search(SPACE, SCORE, out=tmp_path, resume=True, **options)
    assert content(whole.evaluations) == content(nas.search(SPACE, SCORE, **options).evaluations)


def test_other_errors_of_a_callback_end_the_search():
    def broken(evaluations):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nas.search(SPACE, SCORE, callbacks=[broken], evals=8)


@pytest.mark.parametrize("callbacks", [print, [3], None])
def test_callbacks_are_a_list_of_functions(callbacks):
    with pytest.raises(NasError, match=r"callbacks must be a list of functions"):
        nas.search(SPACE, SCORE, callbacks=callbacks, evals=0)
