import pytest
import torch

from search_spaces import CheckFailed, NasError, RunError
from supernet.export import export_subnet


def test_exports_are_written_whole_or_not_at_all(model, small_space, tmp_path, monkeypatch):
    files = export_subnet(model, small_space.middle, tmp_path / "new" / "out", ["json", "safetensors"], {})
    names = ["README.md", "config.json", "lighthubert.json", "model.safetensors", "subnet.json"]
    assert [file.name for file in files] == names
    with pytest.raises(RunError, match="is not an empty folder"):
        export_subnet(model, small_space.middle, tmp_path / "new" / "out", ["json"], {})
    with pytest.raises(NasError, match="unknown export format 'gguf'; known: json, safetensors, onnx"):
        export_subnet(model, small_space.middle, tmp_path / "other", ["json", "gguf"], {})
    monkeypatch.setattr("supernet.export.base.largest_difference", lambda *_: 1.0)
    with pytest.raises(CheckFailed, match="differs from the supernet's slice"):
        export_subnet(model, small_space.middle, tmp_path / "other", ["json", "safetensors"], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_an_empty_folder_may_be_filled(model, small_space, tmp_path):
    export_subnet(model, small_space.middle, tmp_path, ["json"], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "lighthubert.json", "subnet.json"]


@pytest.mark.parametrize("name", ["torch-export", "hf", "s3prl"])
def test_what_does_not_equal_the_slice_leaves_nothing(model, small_space, tmp_path, monkeypatch, name):
    """The written weights differ from the slice in one bias."""
    extract = type(model).extract

    def spoilt(self, subnet=None):
        net = extract(self, subnet)
        with torch.no_grad():
            net.encoder.layers[-1].fc2.bias[0] += 0.1
        return net

    monkeypatch.setattr(type(model), "extract", spoilt)
    with pytest.raises(CheckFailed, match="differs from the supernet's slice by"):
        export_subnet(model, small_space.middle, tmp_path / "out", ["json", name], {})
    assert not list(tmp_path.iterdir())


def test_scores_of_rounded_weights_are_put_into_the_card(model, small_space, tmp_path):
    about = {"score_fp32": 0.5, "score_of": "noise"}

    def score(run):
        wav = torch.randn(1, 8_000)
        features = model.front_end(wav)
        whole, encoded = run(wav), run.encode(features, 8_000)
        assert all(torch.allclose(a, b, rtol=0, atol=2e-2) for a, b in zip(whole, encoded, strict=True))
        return 0.625

    with torch.no_grad():
        export_subnet(model, small_space.middle, tmp_path / "out", ["json", "safetensors"], about, "fp16", score)
    assert "0.625 (+0.12500 of float32's 0.5, noise)" in (tmp_path / "out" / "README.md").read_text()


def test_requests_that_no_format_can_meet_are_refused(model, small_space, tmp_path):
    for formats, dtype, message in (
        ([], "fp32", "no export format; known: json, safetensors, onnx"),
        (["json"], "int4", "unknown dtype 'int4'; known: fp32, fp16, int8"),
        (["json", "hf"], "fp16", "format 'hf' is written in fp32 only; got dtype 'fp16'"),
    ):
        with pytest.raises(NasError, match=message):
            export_subnet(model, small_space.middle, tmp_path / "out", formats, {}, dtype)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is not an empty folder"):
        export_subnet(model, small_space.middle, tmp_path / "file", ["json"], {})
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
