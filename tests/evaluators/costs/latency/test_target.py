import pytest

from evaluators.costs.latency.target import Target, machine
from search_spaces import NasError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", Target()),
        ("torch", Target()),
        ("onnxruntime,threads=1,seconds=2", Target("onnxruntime")),
        ("threads=2, seconds = 1.5 ,backend=onnxruntime", Target("onnxruntime", threads=2, seconds=1.5)),
        ("onnx-int8,threads=2", Target("onnxruntime", threads=2, dtype="int8")),
        ("server-gpu", Target("torch", "cuda", batch=8, seconds=10, dtype="fp16")),
    ],
)
def test_targets_are_read(text, target):
    assert Target.parse(text) == target
    assert Target.parse(str(target)) == target
    assert Target.from_dict(target.to_dict()) == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tflite", "unknown backend 'tflite'.*torch, torch-compile, onnxruntime.*onnx-int8"),
        ("backend=tflite", "unknown backend 'tflite'"),
        ("device=tpu", "unknown device 'tpu'; known: cpu, cuda"),
        ("speed=3", "unknown word 'speed'; known: backend|unknown word 'speed' in a target"),
        ("threads=many", "must be a number"),
        ("threads=0", "1 or more"),
        ("seconds=-1", "positive"),
        ("torch,dtype=int8", "unknown dtype of torch 'int8'; known: fp32, bf16, fp16"),
    ],
)
def test_other_words_are_refused_in_one_line(text, says):
    with pytest.raises(NasError, match=says) as caught:
        Target.parse(text)
    assert "\n" not in str(caught.value)


def test_a_file_beside_the_user_adds_presets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "targets.toml").write_text('[phone]\nbackend = "onnxruntime"\nthreads = 4\n')
    assert Target.parse("phone").threads == 4
    (tmp_path / "targets.toml").write_text("phone = 3\n")
    with pytest.raises(NasError, match="one table a target"):
        Target.parse("phone")


def test_what_this_machine_lacks_is_said():
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(NasError, match="device=cuda is not on this machine"):
            Target.parse("torch,device=cuda").check_here()
    with pytest.raises(NasError, match=r"over the .* cores of this machine"):
        Target.parse("threads=4096").check_here()
    Target().check_here()
    assert machine()["cores"] >= 1
