"""Scores by name, and weighted sums of them."""

import json

import pytest

from evaluators.scores import get_score, synthetic
from evaluators.scores.context import ScoreContext
from evaluators.scores.mixed import MixedScore, make_score, parse_score
from search_spaces import AudioError, NasError


def test_a_mix_is_a_weighted_sum_and_better_when_greater(model, speech):
    words = "probe:speaker+0.5*distillation"
    mix = get_score(words, model, audio=speech)
    subnets = [model.space.smallest, model.space.largest]
    probe, distance = (get_score(name, model, audio=speech) for name in ("probe:speaker", "distillation"))
    expected = [p - 0.5 * d for p, d in zip(probe(subnets), distance(subnets), strict=True)]
    assert mix(subnets) == pytest.approx(expected)
    assert mix.higher_is_better
    assert isinstance(mix.held_out, MixedScore)
    assert [term["weight"] for term in mix.settings["terms"]] == [1.0, 0.5]
    assert mix.name == words
    json.dumps(mix.settings)


def test_the_words_of_scores():
    assert parse_score("distillation") == [(1.0, "distillation", "")]
    assert parse_score(" 2*probe:text + distillation ") == [(2.0, "probe", "text"), (1.0, "distillation", "")]


@pytest.mark.parametrize(
    "words", ["", "magic", "probe", "probe:", "0*distillation", "x*distillation", "a+", "-1*probe:a"]
)
def test_words_that_are_no_score_say_what_is(words):
    with pytest.raises(NasError, match="a score is distillation, probe:LABEL, or a sum"):
        make_score(words, ScoreContext(None))


@pytest.mark.parametrize(
    ("words", "audio", "kind", "said"),
    [
        ("probe:taste", True, NasError, "probe:taste is no score: a probe is of speaker, language"),
        ("probe:speaker", False, NasError, "needs speech with that label"),
        ("probe:language", True, AudioError, "of 1 classes with 5 or more in train"),
        ("probe:intent", True, AudioError, "has 0 train and 0 dev utterances"),
    ],
)
def test_probes_that_cannot_be_made(model, speech, words, audio, kind, said):
    with pytest.raises(kind, match=said):
        get_score(words, model, audio=speech if audio else None)


def test_synthetic_scores_are_named_with_their_seed(model):
    subnets = [model.space.smallest, model.space.largest]
    assert get_score("synthetic:3", model)(subnets) == synthetic(model.space, seed=3)(subnets)
    assert get_score("synthetic", model)(subnets) == synthetic(model.space)(subnets)
    assert get_score("2*synthetic", model)(subnets) == [2 * value for value in synthetic(model.space)(subnets)]


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ("synthetic:x", {}, "the argument of synthetic is a seed"),
        ("distillation:x", {}, "distillation takes no argument"),
        ("synthetic", {"successive": True}, "successive evaluation is for the score distillation"),
        ("distillation+synthetic", {"successive": True}, "successive evaluation is for the score distillation"),
        ("2*distillation", {"successive": True}, "successive evaluation is for the score distillation"),
    ],
)
def test_what_a_score_cannot_honour_is_refused(model, words, options, message):
    with pytest.raises(NasError, match=message):
        get_score(words, model, **options)
