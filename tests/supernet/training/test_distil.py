import dataclasses
import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from evaluators import scores
from evaluators.costs import params
from search_spaces import AudioError, Budget, CheckpointError, Feasible, NasError, RunError
from supernet import load_supernet
from supernet.audio import read_manifest
from supernet.teacher import TargetCache, load_teacher
from supernet.training.batches import TrainingSpeech
from supernet.training.distil import distil, untrained
from supernet.training.losses import distillation_loss, span_mask, step_subnets
from supernet.training.recipe import LOSSES, StageRecipe
from supernet.training.stage import _follow, train_stage, validate

RECIPE = StageRecipe(
    stage=2, steps=8, batch_seconds=3, checkpoint_every=3, validate_every=4, precision="fp32", mask_from=0.5
)


@pytest.fixture
def prepared(small_space, corpus, teacher_folder, tmp_path):
    teacher = load_teacher(teacher_folder)
    cache = TargetCache(tmp_path / "targets", teacher, small_space.network.frames)
    train, dev = read_manifest(corpus, "train"), read_manifest(corpus, "dev")
    cache.fill([*train, *dev])
    return TrainingSpeech(train, dev, cache, cache.statistics(train))


def fresh(space):
    return untrained(space, (4, 8, 12), 16, seed=0)


@pytest.mark.parametrize("changes", [{}, {"loss": "l1+cosine", "in_place": 0.5, "ema": 0.9}])
def test_killed_and_resumed_is_bit_for_bit_not_killed(small_space, prepared, tmp_path, changes):
    whole, pieces = fresh(small_space), fresh(small_space)
    recipe = dataclasses.replace(RECIPE, **changes)
    assert train_stage(whole, recipe, prepared, tmp_path / "whole")
    done = False
    for _ in range(20):
        if done:
            break
        pieces = fresh(small_space)  # as a new process would
        done = train_stage(pieces, recipe, prepared, tmp_path / "pieces", stop_after=0)
    assert done
    for (name, a), b in zip(whole.state_dict().items(), pieces.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    untimed = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log.read_text().splitlines()]
        for log in (tmp_path / "whole" / "log.jsonl", tmp_path / "pieces" / "log.jsonl")
    ]
    assert untimed[0] == untimed[1]


def test_losses_are_what_their_names_say():
    guess, truth = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[[0.0, 5.0]]]])
    found = {form: float(distillation_loss(None, [guess], truth, None, form)) for form in LOSSES}
    assert found["mse"] == pytest.approx((9 + 1) / 2)
    assert found["l1"] == pytest.approx((3 + 1) / 2)
    cosine = (4 * 5) / (5 * 5)
    assert found["l1+cosine"] == pytest.approx(2 + np.log(1 + np.exp(-cosine)))


def test_a_running_mean_of_the_weights_moves_slower_than_they_do():
    value, mean = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(mean.weight)
    torch.nn.init.ones_(value.weight)
    _follow(mean, value, dataclasses.replace(RECIPE, ema=0.9), step=1000)
    assert mean.weight.item() == pytest.approx(0.1)
    _follow(mean, value, dataclasses.replace(RECIPE, ema=0.999), step=10)  # of the last few only
    assert mean.weight.item() == pytest.approx(0.1 + 0.5 * 0.9)


def test_the_largest_subnets_predictions_can_be_targets(small_space, prepared, tmp_path):
    losses = {}
    for share in (0.0, 1.0):
        recipe = dataclasses.replace(RECIPE, steps=1, in_place=share)
        train_stage(fresh(small_space), recipe, prepared, tmp_path / str(share))
        losses[share] = json.loads((tmp_path / str(share) / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert losses[1.0] < 0.7 * losses[0.0]  # untrained subnets are nearer to each other than to the teacher


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "l3"}, "loss must be one of mse, l1"),
        ({"in_place": 2.0}, "in_place must be in 0..1"),
        ({"ema": 1.0}, "ema in 0..1"),
        ({"in_place": 0.5, "sampler": "uniform"}, "in_place needs the largest subnet"),
    ],
)
def test_recipes_that_cannot_be_followed(changes, said):
    with pytest.raises(NasError, match=said):
        dataclasses.replace(RECIPE, **changes)


def test_training_brings_every_subnet_nearer_to_the_teacher(small_space, prepared, tmp_path):
    model = fresh(small_space)
    recipe = dataclasses.replace(RECIPE, steps=60, learning_rate=3e-3, mask_prob=0.0, validate_every=60)
    before = validate(model, prepared.train, prepared, recipe)
    assert train_stage(model, recipe, prepared, tmp_path / "out")
    after = validate(model, prepared.train, prepared, recipe)
    for subnet in ("smallest", "middle", "largest"):
        assert sum(after[subnet]) < sum(before[subnet])


def test_both_stages_make_a_supernet_that_brings_its_calibration(small_space, corpus, teacher_folder, tmp_path):
    from evaluators.scores import distillation
    from supernet import load_supernet

    recipes = [dataclasses.replace(RECIPE, stage=stage, steps=2) for stage in (1, 2)]
    finished = distil(small_space, load_teacher(teacher_folder), corpus, tmp_path, recipes)
    model = load_supernet(finished)
    assert model.space == small_space
    assert model.provenance["teacher"] == "hubert"
    subnets = [small_space.smallest, small_space.largest]
    scores = distillation(model)(subnets)
    assert scores == distillation(load_supernet(finished))(subnets)
    assert all(np.isfinite(scores))
    again = distil(small_space, load_teacher(teacher_folder), corpus, tmp_path, recipes)
    assert again == finished


def test_other_settings_do_not_go_on_with_a_checkpoint(small_space, prepared, tmp_path):
    train_stage(fresh(small_space), RECIPE, prepared, tmp_path, stop_after=0)
    with pytest.raises(RunError, match="started with batch_seconds=3, now batch_seconds=5"):
        train_stage(fresh(small_space), dataclasses.replace(RECIPE, batch_seconds=5), prepared, tmp_path)
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(RunError, match="cannot read checkpoint"):
        train_stage(fresh(small_space), RECIPE, prepared, tmp_path)


def test_a_loss_that_is_not_finite_names_the_recordings(small_space, prepared, tmp_path):
    model = fresh(small_space)
    with torch.no_grad():
        model.heads[0].weight.fill_(float("nan"))
    with pytest.raises(NasError, match="loss is nan at step 0 of stage 2; recordings: "):
        train_stage(model, RECIPE, prepared, tmp_path)


def test_unknown_settings_are_refused():
    for bad in ({"sampler": "all"}, {"precision": "fp8"}, {"steps": 0}, {"stage": 3}):
        with pytest.raises(NasError):
            dataclasses.replace(RECIPE, **bad)


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
    ("content", "said"),
    [
        (None, "needs config.json"),
        ("{}", "not a Hugging Face config"),
        ('{"model_type": "bert"}', "must be one of hubert"),
    ],
)
def test_folders_that_hold_no_teacher_are_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
        (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=said):
        load_teacher(tmp_path)


def test_layers_the_teacher_does_not_have_are_refused(teacher_folder):
    with pytest.raises(CheckpointError, match=r"has hidden states 0\.\.3; got layer 4"):
        load_teacher(teacher_folder, layers=(4,))


def test_spans_hide_about_as_much_as_asked_and_no_padding():
    rng = np.random.default_rng(0)
    mask = span_mask(rng, [400, 200], 400, prob=0.65)
    assert not mask[1, 200:].any()
    assert 0.35 < mask[0].mean() < 0.65
    assert span_mask(rng, [5], 5, prob=0.65).sum() <= 5


def test_a_sandwich_has_the_largest_the_smallest_and_one_at_random(small_space):
    largest, smallest, drawn = step_subnets(small_space, "sandwich", np.random.default_rng(0))
    assert (largest, smallest) == (small_space.largest, small_space.smallest)
    assert drawn in small_space
    assert len(step_subnets(small_space, "uniform", np.random.default_rng(0))) == 1


def test_the_one_at_random_keeps_one_of_the_budgets(small_space):
    table = params(small_space).table
    low, high = table.range()
    limits = [low + (high - low) // 10, low + (high - low) // 3]
    within = [Feasible(small_space, [(table, limit)]) for limit in limits]
    rng = np.random.default_rng(0)
    sizes = [table.of(step_subnets(small_space, "sandwich", rng, within)[2]) for _ in range(60)]
    assert max(sizes) <= limits[1]
    assert 20 < sum(size <= limits[0] for size in sizes) < 60


def test_training_within_budgets_is_another_recipe(small_space, prepared, tmp_path):
    table = params(small_space).table
    recipe = dataclasses.replace(RECIPE, steps=1, budgets=(Budget("params", table.range()[1]),))
    with pytest.raises(NasError, match="unknown cost 'params' in budget"):
        train_stage(fresh(small_space), recipe, prepared, tmp_path)
    assert train_stage(fresh(small_space), recipe, prepared, tmp_path, tables={"params": table})
    with pytest.raises(RunError, match="was started with budgets="):
        train_stage(fresh(small_space), dataclasses.replace(RECIPE, steps=1), prepared, tmp_path)


def test_a_target_may_be_the_mean_of_several_layers(teacher_folder):
    wave = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    apart = load_teacher(teacher_folder, layers=(1, 2, 3))([wave], 49)
    mean, last = load_teacher(teacher_folder, layers=((1, 2), 3))([wave], 49)[0]
    torch.testing.assert_close(mean, (apart[0, 0] + apart[0, 1]) / 2)
    torch.testing.assert_close(last, apart[0, 2])


def test_a_supernet_of_one_averaged_target_is_scored_by_its_teacher(small_space, corpus, teacher_folder, tmp_path):
    teacher = load_teacher(teacher_folder, layers=[(1, 2, 3)])
    model = load_supernet(distil(small_space, teacher, corpus, tmp_path, [dataclasses.replace(RECIPE, stage=1)]))
    assert (model.head_layers, model.provenance["teacher_layers"]) == ((12,), [[1, 2, 3]])
    score = scores.distillation(model, audio=corpus, teacher=teacher_folder)
    assert all(np.isfinite(score([small_space.largest, small_space.smallest])))


@pytest.mark.slow
def test_kill_9_in_the_middle_of_training_loses_nothing(small_space, corpus, teacher_folder, tmp_path):
    (tmp_path / "space.toml").write_text(_toml(small_space))
    command = [
        sys.executable, "-m", "cli", "train", "--teacher", str(teacher_folder), "--audio", str(corpus),
        "--space", str(tmp_path / "space.toml"), "--stage1-steps", "100", "--stage2-steps", "1", "--batch-seconds", "3",
        "--precision", "fp32",
    ]  # fmt: skip
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    log = tmp_path / "killed" / "stage1" / "log.jsonl"
    with subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL) as process:
        for _ in itertools.count():
            if process.poll() is not None or (log.exists() and log.read_text().count("\n") > 10):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    subprocess.run([*command, "--out", str(tmp_path / "killed")], check=True, capture_output=True)
    weights = [(tmp_path / run / "supernet" / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert weights[0] == weights[1]


def _toml(space):
    lines = []
    description = space.to_dict()
    network = description.pop("network")
    depths = description.pop("depth_map")
    lines += [f"{key} = {json.dumps(value)}" for key, value in description.items()]
    lines += ["[depth_map]", *(f"{depth} = {json.dumps(kept)}" for depth, kept in depths.items())]
    lines += ["[network]", *(f"{key} = {json.dumps(value)}" for key, value in network.items())]
    return "\n".join(lines)


def test_training_goes_on_from_a_trained_supernet(small_space, corpus, teacher_folder, tmp_path):
    teacher = load_teacher(teacher_folder)
    first = distil(small_space, teacher, corpus, tmp_path / "a", [dataclasses.replace(RECIPE, stage=1)])
    again = RECIPE
    second = load_supernet(distil(small_space, teacher, corpus, tmp_path / "b", [again], start=load_supernet(first)))
    assert [recipe["stage"] for recipe in second.provenance["recipes"]] == [1, 2]
    assert not (tmp_path / "b" / "stage1").exists()
    wider = dataclasses.replace(small_space, embed_dims=small_space.embed_dims[:1])
    with pytest.raises(CheckpointError, match="goes on in the supernet's own space"):
        distil(wider, teacher, corpus, tmp_path / "c", [again], start=load_supernet(first))


def test_a_manifest_without_speech_for_validation_is_refused(small_space, corpus, teacher_folder, tmp_path):
    lines = [line for line in corpus.read_text().splitlines() if '"train"' in line]
    only = corpus.with_name("only.jsonl")
    only.write_text("\n".join(lines))
    with pytest.raises(AudioError, match="splits train and dev"):
        distil(small_space, load_teacher(teacher_folder), only, tmp_path, [RECIPE])
