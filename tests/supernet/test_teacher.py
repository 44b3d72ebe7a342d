"""Teachers: their hidden states as targets, refused folders, and the cache."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from search_spaces import AudioError, CheckpointError
from supernet.audio import load_audio, read_manifest
from supernet.preprocessor import Preprocessor
from supernet.teacher import TargetCache, load_teacher

RNG = np.random.default_rng(0)
WAVES = [RNG.standard_normal(8_000).astype(np.float32) for _ in range(2)]


def frames_of(samples):
    return (samples - 400) // 320 + 1


def test_targets_are_the_layer_normed_hidden_states_of_transformers(teacher_folder):
    from transformers import HubertModel

    reference = HubertModel.from_pretrained(teacher_folder).eval()
    teacher = load_teacher(teacher_folder, [2, (1, 3)])
    wav = torch.from_numpy(np.stack([Preprocessor()(wave) for wave in WAVES]))
    with torch.no_grad():
        states = [F.layer_norm(h, (16,)) for h in reference(wav, output_hidden_states=True).hidden_states]
    expected = torch.stack([states[2], (states[1] + states[3]) / 2], 1)
    targets = teacher(WAVES, 24)
    assert targets.shape == (2, 2, 24, 16)
    assert torch.allclose(targets, expected, atol=1e-5)
    assert not any(value.requires_grad for value in teacher.parameters())


def test_missing_frames_at_the_end_repeat_the_last(teacher_folder):
    teacher = load_teacher(teacher_folder)
    targets = teacher(WAVES, 26)
    assert torch.equal(targets[:, :, :24], teacher(WAVES, 24))
    for frame in (24, 25):
        assert torch.equal(targets[:, :, frame], targets[:, :, 23])


def test_three_layers_are_regressed_by_default(teacher_folder):
    teacher = load_teacher(teacher_folder)
    assert (teacher.kind, teacher.layers, teacher.dim) == ("hubert", ((1,), (2,), (3,)), 16)
    assert len(teacher.fingerprint) == 64


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_incomplete_folders_name_the_missing_file(teacher_folder, tmp_path, missing):
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"needs {missing}"):
        load_teacher(folder)


def test_broken_folders_are_refused_in_one_line(teacher_folder, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    config = json.loads((folder / "config.json").read_text())
    for text, message in (
        ("{", "no model_type in it"),
        ("[]", "no model_type in it"),
        (json.dumps({**config, "model_type": "bert"}), "must be one of hubert, wav2vec2, wavlm, whisper; got 'bert'"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            load_teacher(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(CheckpointError, match="cannot load teacher") as caught:
        load_teacher(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"has hidden states 0\.\.3; got layer -1"):
        load_teacher(teacher_folder, [-1])


def test_whisper_refuses_recordings_beyond_its_window(tmp_path):
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1
    )
    WhisperEncoder(config).save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    teacher = load_teacher(tmp_path, [1])
    assert teacher([WAVES[0], WAVES[1][:5_000]], 24).shape == (2, 1, 24, 16)
    with pytest.raises(AudioError, match="at most 29 s; got 30 s: split the recording"):
        teacher([np.zeros(29 * 16_000 + 1, np.float32)], 24)


def test_the_cache_computes_each_utterance_once(teacher_folder, corpus, tmp_path):
    teacher, utterances = load_teacher(teacher_folder), read_manifest(corpus)
    cache = TargetCache(tmp_path, teacher, frames_of)
    assert cache.missing(utterances) == utterances
    done = []
    cache.fill(utterances, done.append)
    assert sum(done) == pytest.approx(sum(utterance.seconds for utterance in utterances))
    assert cache.missing(utterances) == []
    assert cache.folder.name == f"hubert-{teacher.fingerprint[:12]}-1-2-3"
    wave = load_audio(utterances[3].audio)
    expected = teacher([wave], frames_of(len(wave)))[0].transpose(0, 1)
    assert np.array_equal(cache[utterances[3].id], expected.half().numpy())
    done.clear()
    TargetCache(tmp_path, teacher, frames_of).fill(utterances, done.append)
    assert done == []


def test_statistics_are_those_of_all_frames(teacher_folder, corpus, tmp_path):
    utterances = read_manifest(corpus)
    cache = TargetCache(tmp_path, load_teacher(teacher_folder), frames_of)
    cache.fill(utterances)
    frames = np.concatenate([cache[utterance.id] for utterance in utterances]).astype(np.float64)
    mean, std = cache.statistics(utterances)
    assert mean.shape == std.shape == (3, 16)
    np.testing.assert_allclose(mean, frames.mean(0), atol=1e-4)
    np.testing.assert_allclose(std, frames.std(0) + 1e-3, atol=1e-4)
    few = np.concatenate([cache[utterance.id] for utterance in utterances[::10]]).astype(np.float64)
    np.testing.assert_allclose(cache.statistics(utterances, 2)[0], few.mean(0), atol=1e-4)


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


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONV = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def stock(name, folder, **options):
    """A folder that transformers itself wrote, of a model with random weights."""
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, name)
    if name.startswith("Whisper"):
        config = transformers.WhisperConfig(**WHISPER)
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
    else:
        config = model.config_class(**SIZES, **CONV)
    made = model(config).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.05 * torch.randn_like(value))
    made.save_pretrained(folder, **options)
    return made


def encoder_of(model, name):
    return model.get_encoder() if name.startswith("Whisper") else getattr(model, model.base_model_prefix, model)


@pytest.mark.parametrize(
    "name",
    [
        "HubertModel",
        "HubertForCTC",
        "Wav2Vec2Model",
        "Wav2Vec2ForCTC",
        "WavLMModel",
        "WavLMForCTC",
        "WhisperModel",
        "WhisperForConditionalGeneration",
    ],
)
@pytest.mark.parametrize("options", [{}, {"max_shard_size": "8KB"}], ids=["whole", "sharded"])
def test_every_weight_of_a_stock_folder_arrives(name, options, tmp_path):
    made = stock(name, tmp_path, **options)
    teacher = load_teacher(tmp_path)
    expected = dict(encoder_of(made, name).named_parameters())
    own = dict(teacher.model.named_parameters())
    assert set(own) == set(expected)
    for key, value in expected.items():
        assert torch.equal(own[key], value), key
    wave = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    assert torch.equal(teacher([wave], 49), load_teacher(tmp_path)([wave], 49))


@pytest.mark.parametrize("name", ["HubertModel", "WavLMModel", "WhisperForConditionalGeneration"])
@pytest.mark.parametrize("fault", ["missing", "nan", "renamed"])
def test_weights_that_do_not_arrive_are_named(name, fault, tmp_path):
    from safetensors.torch import load_file, save_file

    stock(name, tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    key = next(key for key in weights if key.endswith("encoder.layers.1.final_layer_norm.weight"))
    if fault == "nan":
        weights[key] = torch.full_like(weights[key], float("nan"))
    else:
        value = weights.pop(key)
        if fault == "renamed":
            weights[f"adapter.{key}"] = value
    save_file(weights, file, metadata={"format": "pt"})
    message = (
        "contains NaN" if fault == "nan" else r"lacks 1 of \d+ weights: \S*encoder.layers.1.final_layer_norm.weight"
    )
    with pytest.raises(CheckpointError, match=message):
        load_teacher(tmp_path)


def test_shards_that_are_missing_are_named(tmp_path):
    stock("HubertModel", tmp_path, max_shard_size="8KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"lacks {shard.name}, which model.safetensors.index.json lists"):
        load_teacher(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"cannot read .*index\.json"):
        load_teacher(tmp_path)
