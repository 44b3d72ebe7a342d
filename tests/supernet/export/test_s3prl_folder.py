import subprocess
import sys
import warnings

import pytest
import torch

from supernet.export import export_subnet
from supernet.export.s3prl_folder import load_expert

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from s3prl.upstream.interfaces import Featurizer

WAVES = [torch.randn(size, generator=torch.Generator().manual_seed(size)) + 0.3 for size in (16_000, 9_000)]


@pytest.fixture(scope="module")
def folder(supernet, small_space, tmp_path_factory):
    out = tmp_path_factory.mktemp("s3prl") / "out"
    export_subnet(supernet, small_space.middle, out, ["s3prl"], {})
    return out / "s3prl"


@torch.no_grad()
def test_an_upstream_gives_the_hidden_states_of_the_slice(folder, supernet, small_space):
    states = load_expert(folder).eval()(WAVES)["hidden_states"]
    wav = torch.nn.utils.rnn.pad_sequence([(w - w.mean()) / w.std(correction=0) for w in WAVES], batch_first=True)
    with supernet.active(small_space.middle):
        ours = supernet(wav, torch.tensor([16_000, 9_000])).hidden_states
    assert isinstance(states, list)
    for a, b in zip(ours, states, strict=True):
        assert ((a - b).abs().max() / a.abs().max()) < 5e-5


@pytest.mark.filterwarnings("ignore")
def test_s3prls_featurizer_takes_it_as_its_runner_does(folder, small_space):
    """The runner calls `Upstream(ckpt=..., model_config=..., refresh=...)` and hands the upstream to a Featurizer."""
    sys.path.insert(0, str(folder))
    try:
        import hubconf

        upstream = hubconf.searched_hubert(ckpt=None, model_config=None, refresh=False)
    finally:
        sys.path.remove(str(folder))
    featurizer = Featurizer(upstream, "hidden_states", upstream_device="cpu")
    assert (featurizer.output_dim, featurizer.downsample_rate) == (small_space.middle.embed_dim, 320)
    features = featurizer(WAVES, upstream(WAVES))
    assert [len(each) for each in features] == [
        49,
        28,
    ]  # the batch has 49 frames; s3prl keeps len // 320 of them, rounded
    sum(each.square().mean() for each in features).backward()
    assert featurizer.weights.grad is not None
    assert all(value.grad is not None for value in upstream.parameters())


def test_it_needs_torch_and_nothing_of_ours(folder, small_space, tmp_path):
    code = (
        "import sys, torch\n"
        "sys.modules.update(dict.fromkeys(['supernet', 'search_spaces', 'safetensors', 'transformers']))\n"
        "up = torch.hub.load(sys.argv[1], 'searched_hubert', source='local')\n"
        "print(len(up([torch.randn(16000)])['hidden_states']), up.get_downsample_rates('hidden_states'))\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(small_space.middle.depth + 1), "320"]
