"""The teacher and its cached targets, as training uses them."""

import numpy as np
import pytest
import torch

from search_spaces import CheckpointError
from supernet.audio import read_manifest
from supernet.teacher import TargetCache, load_teacher


def test_the_target_cache_survives_a_torn_end(small_space, corpus, teacher_folder, tmp_path):
    teacher, utterances = load_teacher(teacher_folder), read_manifest(corpus)
    cache = TargetCache(tmp_path, teacher, small_space.network.frames)
    cache.fill(utterances)
    wanted = {u.id: cache[u.id] for u in utterances}
    data = cache.folder / "targets.f16"
    data.write_bytes(data.read_bytes()[:-1000])
    with (cache.folder / "index.jsonl").open("a") as index:
        index.write('["torn", 1')
    again = TargetCache(tmp_path, teacher, small_space.network.frames)
    assert 0 < len(again.missing(utterances)) < len(utterances)
    again.fill(utterances)
    for name, target in wanted.items():
        np.testing.assert_array_equal(again[name], target)


def test_whisper_targets_lie_on_the_students_frames(tmp_path):
    """A click moves the target at the student's frame that is centred on it, not the one before."""
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1
    )
    WhisperEncoder(config).save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    teacher = load_teacher(tmp_path, layers=(0,))
    quiet = (np.random.default_rng(0).normal(size=16_000) * 1e-3).astype(np.float32)
    click = quiet.copy()
    click[320 * 20 + 200] = 1.0  # the centre of the student's frame 20
    change = (teacher([click], 49) - teacher([quiet], 49)).square().sum((0, 1, 3))
    assert abs(int(change.argmax()) - 20) <= 1
    assert abs(float((change * torch.arange(49)).sum() / change.sum()) - 20) < 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "needs config.json"),
        ("{}", "not a Hugging Face config"),
        ('{"model_type": "bert"}', "must be one of hubert"),
    ],
)
def test_folders_that_hold_no_teacher_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
        (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        load_teacher(tmp_path)


def test_layers_the_teacher_does_not_have_are_refused(teacher_folder):
    with pytest.raises(CheckpointError, match=r"has hidden states 0\.\.3; got layer 4"):
        load_teacher(teacher_folder, layers=(4,))


def test_a_target_may_be_the_mean_of_several_layers(teacher_folder):
    wave = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    apart = load_teacher(teacher_folder, layers=(1, 2, 3))([wave], 49)
    mean, last = load_teacher(teacher_folder, layers=((1, 2), 3))([wave], 49)[0]
    torch.testing.assert_close(mean, (apart[0, 0] + apart[0, 1]) / 2)
    torch.testing.assert_close(last, apart[0, 2])
