"""Log probabilities of a text against those of transformers' whole model."""

import pytest
import torch

from search_spaces import CheckpointError, NasError
from supernet import load_supernet
from supernet.decoder import TextDecoder
from supernet.order import convert
from tests.supernet.families import add_tokenizer, saved


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    theirs = saved("whisper", folder / "theirs")
    add_tokenizer(folder / "theirs")
    return theirs, convert(str(folder / "theirs"), folder / "ours")


@torch.no_grad()
def test_log_probabilities_are_those_of_the_whole_model(whole):
    import transformers

    theirs, model = whole
    decoder = TextDecoder.of(model)
    tokens = decoder.tokens("some words", None)
    assert tokens[0, :2].tolist() == [3, 49]  # start, no timestamps: too few tokens for several languages
    assert tokens[0, -1] == 2
    wave = 0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    extractor = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    mel = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    logits = theirs(input_features=mel, decoder_input_ids=tokens[:, :-1]).logits[0, 1:]
    ours = decoder(model(wave[None]).last_hidden_state, tokens)[0]
    assert ours.shape == (tokens.shape[1] - 2, theirs.config.vocab_size)
    assert torch.allclose(ours, logits.log_softmax(-1), atol=1e-4)
    assert decoder.texts(tokens) == [" some words"]
    with pytest.raises(NasError, match="a text of 34 tokens: the decoder takes 16"):
        decoder.tokens("some words" * 3, None)


def test_a_supernet_without_decoder_is_refused():
    with pytest.raises(NasError, match="has no decoder: make it from a whole Whisper"):
        TextDecoder.of(load_supernet("hubert-tiny"))


def test_a_broken_tokenizer_is_one_line(tmp_path):
    saved("whisper", tmp_path / "theirs")
    model = convert(str(tmp_path / "theirs"), tmp_path / "ours")
    (tmp_path / "ours" / "rest" / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot load the decoder in .*rest: ") as caught:
        TextDecoder.of(model)
    assert "\n" not in str(caught.value)
