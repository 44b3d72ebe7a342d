"""The parts of a network: checked together, and written only where they differ from HuBERT Base's."""

import pytest

from search_spaces import Network, SpaceError, get_space

BASE = get_space("lighthubert-base").network
MEL = {
    "conv_layers": ((64, 3, 1), (64, 3, 2)), "width": 64, "heads": 4, "ffn_dim": 256, "num_layers": 4, "head_dim": 16,
    "pos_conv_kernel": 1, "pos_conv_groups": 1, "front_end": "mel", "mels": 80, "conv_norm": "none",
    "conv_bias": True, "input_norm": False, "positions": "table", "max_frames": 1500, "norm_first": True,
    "key_bias": False,
}  # fmt: skip


def test_only_parts_unlike_hubert_bases_are_written():
    assert set(BASE.to_dict()) == {
        "conv_layers", "width", "heads", "ffn_dim", "num_layers", "head_dim", "pos_conv_kernel", "pos_conv_groups",
    }  # fmt: skip
    mel = Network(**MEL)
    written = mel.to_dict()
    assert set(written) == set(MEL)
    assert Network(**{**written, "conv_layers": tuple(map(tuple, written["conv_layers"]))}) == mel


def test_a_mel_front_end_has_a_frame_every_20_ms_and_an_end():
    mel = Network(**MEL)
    assert (mel.hop, mel.receptive_field, mel.max_samples) == (320, 400, 480_000)
    assert mel.lengths(480_000) == [3000, 3000, 1500]
    assert mel.frames(399) == 0
    assert [mel.frames(n) for n in (400, 479, 480, 16_000)] == [1, 1, 2, 50]
    assert BASE.lengths(16_000) == [3199, 1599, 799, 399, 199, 99, 49]
    assert BASE.max_samples is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"front_end": "stft"}, "front_end must be one of conv, mel; got 'stft'"),
        ({"conv_norm": "batch"}, "conv_norm must be one of group, layer, none"),
        ({"norm_first": 1}, "norm_first must be true or false; got 1"),
        ({"mels": -1}, "mels must be a whole number in 0.."),
        ({"mels": 80}, "mels must be given for front_end 'mel', and only for it"),
        ({"max_frames": 10}, "max_frames must be given for a table, and only so"),
        ({"positions": "table"}, "max_frames must be given for a table, and only so"),
        ({"relative_buckets": 320}, "relative_. must be given together"),
        ({"relative_buckets": 30, "relative_distance": 800}, "relative_buckets must be a multiple of 4"),
        ({"relative_buckets": 320, "relative_distance": 80}, "must be over relative_buckets / 4"),
        ({"pos_conv_depth": 0}, "pos_conv_depth must be a whole number in 1.."),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        Network(**{**BASE.to_dict(), "conv_layers": BASE.conv_layers, **changes})


def test_a_mels_last_convolution_is_as_wide_as_the_layers():
    with pytest.raises(SpaceError, match="the last of a mel's conv_layers must have width=64"):
        Network(**{**MEL, "conv_layers": ((64, 3, 1), (32, 3, 2))})
