"""A run knows what it was made of: other files at the same paths are noticed, whatever command meets them."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import cli
from nas.commands.identity import check_identity, check_weights, digest_of_folder, digest_of_speech, identify
from search_spaces import CheckFailed, IdentityError, RunError
from supernet import load_supernet, save_supernet


def nas(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A supernet in a folder, and a run of it; then another network lies at the same path."""
    folder = tmp_path_factory.mktemp("identity")
    net, run = folder / "net", folder / "run"
    shutil.copytree("supernet/pretrained/hubert-tiny", net)
    result = nas("search", "--supernet", net, "--evals", 12, "--out", run)
    assert result.exit_code == 0, result.output
    model = load_supernet(net)
    for value in model.parameters():
        value.data.mul_(1.01)
    save_supernet(model, net)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("export", "run", "--out", "exported"),
        ("export", "run", "--out", "exported", "--supernet", "hubert-tiny-changed"),
        ("export", "run/best.json", "--supernet", "net", "--out", "exported"),
        ("search", "--resume", "run", "--evals", 20),
        ("eval", "--model", "net", "--subnet", "run/best.json", "--task", "asr", "--manifest", "none.jsonl"),
    ],
)
def test_every_command_that_meets_another_supernet_ends_with_4(others, words, monkeypatch):
    monkeypatch.chdir(others)
    if not (others / "hubert-tiny-changed").exists():
        shutil.copytree(others / "net", others / "hubert-tiny-changed")
    result = nas(*words)
    assert isinstance(result.exception, IdentityError), result.output
    assert result.exception.exit_status == 4
    assert not (others / "exported").exists()


def test_the_run_s_own_supernet_is_exported_from_another_place(others, tmp_path):
    assert nas("export", others / "run", "--supernet", "hubert-tiny", "--out", tmp_path / "x").exit_code == 0


def test_a_changed_manifest_recording_teacher_or_space_has_another_digest(tmp_path):
    manifest, teacher = tmp_path / "m.jsonl", tmp_path / "teacher"
    manifest.write_text(json.dumps({"audio": "a.wav", "seconds": 1}) + "\n")
    first = digest_of_speech(manifest)
    (tmp_path / "a.wav").write_bytes(b"x")
    assert digest_of_speech(manifest) != first
    teacher.mkdir()
    (teacher / "model.safetensors").write_bytes(b"a")
    before = digest_of_folder(teacher)
    (teacher / "model.safetensors").write_bytes(b"b")
    assert digest_of_folder(teacher) != before
    model = load_supernet("hubert-tiny")
    space = tmp_path / "space.toml"
    space.write_text("a")
    known = identify(model, str(manifest), str(teacher), str(space))
    assert set(known) == {"supernet", "audio", "teacher", "space"}
    space.write_text("b")
    with pytest.raises(CheckFailed, match="another space"):
        check_identity(known, identify(model, str(manifest), str(teacher), str(space)), tmp_path)


def test_runs_of_earlier_versions_know_nothing_and_are_not_refused(tmp_path):
    model = load_supernet("hubert-tiny")
    check_identity(None, identify(model), tmp_path)
    check_weights(None, model, tmp_path)
    with pytest.raises(RunError, match="--supernet"):
        check_weights("0" * 12, model, tmp_path)
