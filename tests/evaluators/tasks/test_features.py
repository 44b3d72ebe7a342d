"""Hidden states of frozen upstreams."""

import pytest
import torch

from evaluators.tasks import evaluate
from evaluators.tasks.data import read_dataset
from evaluators.tasks.features import HiddenStates, load_upstream
from search_spaces import AudioError
from supernet import load_extracted
from supernet.audio import load_audio
from supernet.preprocessor import Preprocessor


def test_hidden_states_are_those_of_the_subnet_and_are_computed_once(exported, manifest, tmp_path):
    upstream = load_upstream(exported)
    example = read_dataset(manifest, "speaker").train[0]
    net = load_extracted(exported)
    with torch.no_grad():
        states = torch.stack(net(torch.from_numpy(Preprocessor()(load_audio(example.audio)))[None]).hidden_states)[:, 0]
    kept = HiddenStates(upstream, pooled=False, folder=tmp_path)
    kept.fill([example])
    assert kept[example].dtype == torch.float16
    assert torch.allclose(kept[example].float(), states, rtol=1e-2, atol=1e-2)
    means = HiddenStates(upstream, pooled=True, folder=tmp_path)
    means.fill([example])
    assert torch.allclose(means[example][:, 0].float(), states.mean(1), rtol=1e-2, atol=1e-2)
    heard = []
    upstream.net = lambda wav: heard.append(wav)
    again = HiddenStates(upstream, pooled=False, folder=tmp_path)
    again.fill([example])
    assert not heard
    assert torch.equal(again[example], kept[example])


class OfLengths:
    """Random hidden states of so many frames, one recording after the other."""

    key, layers, dim, about = "random", 2, 3, {}

    def __init__(self, *lengths):
        self.lengths = iter(lengths)

    def __call__(self, samples):
        return torch.randn(self.layers, next(self.lengths), self.dim)


def test_a_batch_is_zero_behind_the_end_of_a_recording(manifest, tmp_path):
    examples = read_dataset(manifest, "speaker").train[:2]
    kept = HiddenStates(OfLengths(7, 4), pooled=False, folder=tmp_path)
    kept.fill(examples)
    states, lengths = kept.batch(examples)
    assert lengths.tolist() == [7, 4]
    assert torch.equal(states[:, 0], kept[examples[0]].float())
    assert torch.equal(states[:, 1, :4], kept[examples[1]].float())
    assert not states[:, 1, 4:].any()


def test_hidden_states_that_are_not_finite_name_the_recording(exported, manifest):
    upstream = load_upstream(exported)
    with torch.no_grad():
        upstream.net.encoder.norm.bias.fill_(torch.nan)
    with pytest.raises(AudioError, match="hidden states of 'ann0' hold NaN"):
        evaluate(upstream, "speaker", manifest)
