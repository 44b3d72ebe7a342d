"""Tasks end to end on a tiny subnet: tones are told apart by a frozen random network."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from evaluators.tasks import TASKS, evaluate
from evaluators.tasks.data import read_dataset
from evaluators.tasks.features import HiddenStates, load_upstream
from evaluators.tasks.settings import FitSettings
from evaluators.tasks.transcription import ctc_loss, decode, fits
from search_spaces import AudioError, NasError
from supernet import load_extracted, save_supernet
from supernet.audio import load_audio, normalise
from tests.evaluators.tasks.conftest import write_manifest
from tests.supernet.conftest import SPACE

QUICK = FitSettings((1e-2,), seeds=2, epochs=30, batch=8)


def test_speakers_are_found_and_verified(exported, manifest):
    upstream = load_upstream(exported)
    found = evaluate(upstream, "speaker", manifest, QUICK)
    assert found["results"]["accuracy"]["value"] > 0.8
    assert len(found["results"]["accuracy"]["by_seed"]) == 2
    assert found["data"]["classes"] == 3
    assert found["chance"] == 0.3333
    assert sum(found["head"]["layer_weights"][0]) == pytest.approx(1, abs=1e-3)
    checked = evaluate(upstream, "verification", manifest, QUICK)["results"]
    assert checked["trials"] == 15
    assert checked["eer"]["value"] < 0.5
    assert 0 <= checked["min_dcf"]["value"] <= 1


def test_letters_are_written_down(exported, manifest):
    recipe = FitSettings((3e-2,), seeds=1, epochs=100, patience=100, batch=4)
    found = evaluate(load_upstream(exported), "asr", manifest, recipe, hidden=8, alphabet="low")
    assert found["data"]["alphabet"] == " low"
    assert found["data"]["head"] == "BLSTM of 8"
    assert 0 <= found["results"]["cer"]["value"] < 1
    assert set(found["results"]) == {"cer", "wer", "examples"}


def test_phones_have_a_rate_of_their_own(exported, manifest, tmp_path):
    said = {"low": "L OW", "mid": "M IH D", "HIGH  l": "HH AY L"}
    rows = [{**row, "phones": said[row["text"]]} for row in map(json.loads, manifest.read_text().splitlines())]
    recipe = FitSettings((3e-2,), seeds=1, epochs=60, patience=60, batch=4)
    found = evaluate(load_upstream(exported), "phones", write_manifest(tmp_path / "p.jsonl", rows), recipe, hidden=8)
    assert found["data"]["alphabet"] == ("AY", "D", "HH", "IH", "L", "M", "OW")
    assert set(found["results"]) == {"per", "examples"}
    assert 0 <= found["results"]["per"]["value"] < 1
    assert {example["text"] for example in found["results"]["examples"]} <= set(said.values())
    rows[-1]["phones"] = "ZH"
    with pytest.raises(AudioError, match="1 phones of dev and test are not in train: ZH"):
        evaluate(load_upstream(exported), "phones", write_manifest(tmp_path / "p.jsonl", rows), recipe)


def test_hidden_states_are_those_of_the_subnet_and_are_computed_once(exported, manifest, tmp_path):
    upstream = load_upstream(exported)
    example = read_dataset(manifest, "speaker").train[0]
    net = load_extracted(exported)
    with torch.no_grad():
        states = torch.stack(net(torch.from_numpy(normalise(load_audio(example.audio)))[None]).hidden_states, 2)[0]
    kept = HiddenStates(upstream, pooled=False, folder=tmp_path)
    kept.fill([example])
    assert kept[example].dtype == torch.float16
    assert torch.allclose(kept[example].float(), states, rtol=1e-2, atol=1e-2)
    means = HiddenStates(upstream, pooled=True, folder=tmp_path)
    means.fill([example])
    assert torch.allclose(means[example][0].float(), states.mean(0), rtol=1e-2, atol=1e-2)
    heard = []
    upstream.net = lambda wav: heard.append(wav)
    again = HiddenStates(upstream, pooled=False, folder=tmp_path)
    again.fill([example])
    assert not heard
    assert torch.equal(again[example], kept[example])


def test_means_are_all_that_a_linear_head_needs():
    from evaluators.tasks.heads import UtteranceHead

    torch.manual_seed(0)
    head = UtteranceHead(3, 4, 2).eval()
    with torch.no_grad():
        head.sum.logits.normal_()
    frames = torch.randn(9, 3, 4)
    by_frame = head.linear(head.norm(head.sum(frames))).mean(0)
    assert torch.allclose(head(frames.mean(0)[None])[0], by_frame, atol=1e-6)


def test_one_recording_of_a_supernet_and_a_subnet(model, manifest, tmp_path):
    folder = save_supernet(model, tmp_path / "s")
    space = model.space
    for subnet in (space.smallest, None):
        upstream = load_upstream(folder, subnet)
        assert upstream.layers == (subnet or space.largest).depth + 1
    with pytest.raises(NasError, match="unknown task 'taste'; known: speaker"):
        evaluate(upstream, "taste", manifest)


def test_hidden_states_that_are_not_finite_name_the_recording(exported, manifest):
    upstream = load_upstream(exported)
    with torch.no_grad():
        upstream.net.encoder.norm.bias.fill_(torch.nan)
    with pytest.raises(AudioError, match="hidden states of 'ann0' hold NaN"):
        evaluate(upstream, "speaker", manifest)


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


def test_every_task_says_what_it_needs():
    assert set(TASKS) == {
        "speaker",
        "language",
        "keyword",
        "intent",
        "emotion",
        "verification",
        "asr",
        "phones",
        "diarization",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "taste"), "unknown task 'taste'; known: speaker, language"),
        (("--task", "language"), "every train recording has the language 'en'"),
        (("--task", "emotion"), "36 of 36 recordings have no 'emotion': ann0"),
        (("--task", "speaker", "--learning-rate", "0"), "learning rates must be numbers above 0"),
        (("--task", "speaker", "--model", "nothing"), "no supernet 'nothing'"),
    ],
)
def test_bad_words_end_with_one_line(exported, manifest, arguments, said):
    command = [sys.executable, "-m", "cli", "eval", "--manifest", str(manifest), "--model", str(exported), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_writes_its_result(exported, manifest, tmp_path):
    arguments = ("--model", exported, "--task", "intent", "--manifest", manifest, "--seeds", 1, "--epochs", 3)
    command = [sys.executable, "-m", "cli", "eval", *map(str, arguments), "--out", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["task"] == "intent"
    assert record["upstream"]["subnet"]["embed_dim"] == SPACE["embed_dims"][0]
