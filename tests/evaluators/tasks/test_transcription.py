"""CTC: letters and phones."""

import json

import numpy as np
import pytest
import torch

from evaluators.tasks import evaluate
from evaluators.tasks.features import load_upstream
from evaluators.tasks.settings import FitSettings
from evaluators.tasks.transcription import ctc_loss, decode, fits, spelling
from search_spaces import AudioError
from tests.evaluators.tasks.conftest import write_manifest


def test_letters_are_written_down(exported, manifest):
    recipe = FitSettings((3e-2,), seeds=1, epochs=100, batch=4)
    found = evaluate(load_upstream(exported), "asr", manifest, recipe, hidden=8, alphabet="low")
    assert found["data"]["alphabet"] == " low"
    assert found["data"]["head"] == "BLSTM of 8"
    assert 0 <= found["results"]["cer"]["value"] < 1
    assert set(found["results"]) == {"cer", "wer", "examples"}


def test_phones_have_a_rate_of_their_own(exported, manifest, tmp_path):
    said = {"low": "L OW", "mid": "M IH D", "HIGH  l": "HH AY L"}
    rows = [{**row, "phones": said[row["text"]]} for row in map(json.loads, manifest.read_text().splitlines())]
    recipe = FitSettings((3e-2,), seeds=1, epochs=60, batch=4)
    found = evaluate(load_upstream(exported), "phones", write_manifest(tmp_path / "p.jsonl", rows), recipe, hidden=8)
    assert found["data"]["alphabet"] == ("AY", "D", "HH", "IH", "L", "M", "OW")
    assert set(found["results"]) == {"per", "examples"}
    assert 0 <= found["results"]["per"]["value"] < 1
    assert {example["text"] for example in found["results"]["examples"]} <= set(said.values())
    rows[-1]["phones"] = "ZH"
    with pytest.raises(AudioError, match="1 phones of dev and test are not in train: ZH"):
        evaluate(load_upstream(exported), "phones", write_manifest(tmp_path / "p.jsonl", rows), recipe)


def test_decoding_joins_repeats_and_drops_blanks():
    def said(letters, **options):
        return decode(torch.eye(4)[letters].mul(0.9).add(0.025).log(), " ab", **options)

    assert said([2, 2, 0, 2, 3, 3, 0]) == "aab"
    assert said([1, 2, 1, 1, 3, 1]) == "a b"
    assert said([2, 2, 0, 2, 3, 3, 0], beam=4) == "aab"


def test_a_beam_sums_over_alignments():
    # The textbook case: blank is the likeliest letter of both frames (0.6 each, 0.36 for the empty text), but the
    # three alignments of "a" have 0.4 * 0.4 + 2 * 0.4 * 0.6 = 0.64 together.
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert decode(log_probs, "a") == ""
    assert decode(log_probs, "a", beam=5) == "a"


def test_the_loss_is_minus_the_log_probability_of_all_alignments():
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert float(ctc_loss(log_probs, torch.tensor([2]), [[1]])) == pytest.approx(-np.log(0.64), rel=1e-5)
    assert fits("aab", 4)
    assert not fits("aab", 3)
    assert float(ctc_loss(log_probs, torch.tensor([2]), [[1, 1]], lenient=True)) == 0


def test_on_dev_wrong_letters_choose_and_the_loss_tells_apart_who_spells_nothing():
    truth = torch.tensor([[2, 0, 3]])  # "ab"

    def figure(row):
        return spelling([(row.log_softmax(-1)[None], torch.tensor([3]), ["ab"])], " ab")

    sure, unsure = 20 * torch.eye(4)[torch.tensor([2, 0, 2])], torch.eye(4)[truth[0]]
    blank, hopeless = torch.tensor([3.0, 0, 0, 0]).repeat(3, 1), torch.tensor([9.0, 0, 0, 0]).repeat(3, 1)
    assert figure(unsure) > figure(sure) > figure(blank) > figure(hopeless)
    assert -0.02 < figure(unsure) < 0
    assert -0.8 < figure(sure) < -0.5, "one of two letters is wrong, however unlikely"
