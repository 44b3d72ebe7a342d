"""Cross-entropy and divergence of a whole model's decoder, against its own passes one by one."""

import json

import numpy as np
import pytest
import torch

from evaluators.scores import get_score
from search_spaces import AudioError, NasError
from supernet.audio import load_audio, read_manifest
from supernet.decoder import TextDecoder
from supernet.order import convert
from tests.supernet.families import add_tokenizer, saved


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    saved("whisper", folder / "theirs")
    add_tokenizer(folder / "theirs")
    return convert(str(folder / "theirs"), folder / "ours")


@torch.no_grad()
def test_scores_are_means_over_tokens(whisper, speech):
    subnets = [whisper.space.largest, *(whisper.space.sample(np.random.default_rng(i)) for i in range(3))]
    ce, kl = (get_score(name, whisper, audio=speech) for name in ("ce", "kl"))
    used = [u for i, u in enumerate(u for u in read_manifest(speech) if u.split == "dev") if i % 4 != 3]
    decoder, totals = TextDecoder.of(whisper), np.zeros((2, len(subnets)))
    count = 0
    for utterance in used:
        wave, tokens = whisper.heard(load_audio(utterance.audio)), decoder.tokens(utterance.text, None)
        whole = decoder(whisper(wave[None]).last_hidden_state, tokens)[0]
        count += len(whole)
        for i, subnet in enumerate(subnets):
            with whisper.active(subnet):
                own = decoder(whisper(wave[None]).last_hidden_state, tokens)[0]
            totals[0, i] -= float(own.gather(1, tokens[0, 2:, None]).sum())
            totals[1, i] += float((whole.exp() * (whole - own)).sum())
    np.testing.assert_allclose(ce(subnets), totals[0] / count, rtol=1e-4)
    np.testing.assert_allclose(kl(subnets), totals[1] / count, rtol=1e-3, atol=1e-6)
    assert kl(subnets)[0] == pytest.approx(0, abs=1e-6)
    assert ce.held_out is not None
    assert ce.held_out(subnets) != ce(subnets)
    assert not ce.higher_is_better


def test_what_is_missing_is_said(whisper, model, speech, tmp_path):
    with pytest.raises(NasError, match="has no decoder"):
        get_score("kl", model, audio=speech)
    with pytest.raises(NasError, match="needs speech with texts"):
        get_score("kl", whisper)
    lines = [json.loads(line) for line in speech.read_text().splitlines()]
    for line in lines:
        del line["text"]
        line["audio"] = str(speech.parent / line["audio"])
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(AudioError, match="has no texts: ce and kl need"):
        get_score("ce", whisper, audio=tmp_path / "m.jsonl")
    with pytest.raises(NasError, match="takes no argument"):
        get_score("ce:en", whisper, audio=speech)
    with pytest.raises(NasError, match="successive evaluation is for the score distillation"):
        get_score("ce", whisper, audio=speech, successive=True)
