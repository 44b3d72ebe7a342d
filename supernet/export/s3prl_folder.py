"""The subnet as an upstream of s3prl: `UpstreamExpert`, `hubconf.py` and weights. It does not need this package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from search_spaces import Subnet
from supernet import layers
from supernet.export import s3prl_expert
from supernet.export.base import ModelExporter, Runner
from supernet.export.hugging_face import described
from supernet.model import HubertSupernet

__all__ = ["S3prlExporter", "load_expert"]

_EITHER = """try:
    from .{module} import {name}  # in s3prl/upstream/NAME/
except ImportError:
    from {module} import {name}  # on the path: torch.hub, or s3prl's --from_hf_hub
"""
_HUBCONF = f'''"""Entry points of torch.hub and of s3prl (`-u searched_hubert`)."""

{_EITHER.format(module="expert", name="UpstreamExpert as _UpstreamExpert")}

def searched_hubert(ckpt=None, *args, **kwargs):
    """The subnet beside this file; `ckpt` is another subnet.pt."""
    return _UpstreamExpert(ckpt, *args, **kwargs)
'''


class S3prlExporter(ModelExporter):
    """`s3prl/`: `expert.py`, `hubconf.py`, `subnet_layers.py` and `subnet.pt`."""

    loading = """
import torch

upstream = torch.hub.load("{folder}", "searched_hubert", source="local")
hidden_states = upstream([torch.randn(16_000), torch.randn(12_000)])["hidden_states"]
"""
    note = (
        "For s3prl's runner, copy the folder to `s3prl/upstream/searched_hubert`, add "
        "`from s3prl.upstream.searched_hubert.hubconf import *` to `s3prl/hub.py` and give it `-u searched_hubert`."
    )

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        target = folder / "s3prl"
        target.mkdir()
        content = {
            **described(model, subnet),
            "frame_rule": model.frame_rule,
            "normalize": model.prepare.normalize,
            "eps": model.prepare.eps,
            "hop": model.space.network.hop,
            "model": {name: value.cpu() for name, value in model.extract(subnet).state_dict().items()},
        }
        torch.save(content, target / "subnet.pt")
        expert = Path(s3prl_expert.__file__).read_text(encoding="utf-8")
        ours = "from supernet.layers import Hubert\n"
        assert ours in expert
        expert = expert.replace(ours, _EITHER.format(module="subnet_layers", name="Hubert"))
        (target / "expert.py").write_text(expert, encoding="utf-8")
        (target / "subnet_layers.py").write_text(Path(layers.__file__).read_text(encoding="utf-8"), encoding="utf-8")
        (target / "hubconf.py").write_text(_HUBCONF, encoding="utf-8")
        (target / "requirements.txt").write_text("torch\n", encoding="utf-8")

    def read(self, folder: Path, dtype: str) -> Runner:
        expert = load_expert(folder / "s3prl").eval()

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            sizes = [wav.shape[1]] * len(wav) if lengths is None else lengths.tolist()
            return tuple(expert([wave[:size] for wave, size in zip(wav, sizes)])["hidden_states"])

        return run


def load_expert(folder: Path) -> torch.nn.Module:
    """The folder's upstream, loaded as a package, as s3prl loads it from `s3prl/upstream/NAME/`."""
    name = "_s3prl_export"
    spec = importlib.util.spec_from_loader(name, None, is_package=True)
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    try:
        expert: torch.nn.Module = importlib.import_module(f"{name}.hubconf").searched_hubert()
        return expert
    finally:
        for module in [each for each in sys.modules if each.split(".")[0] == name]:
            del sys.modules[module]
