"""Every weight of a file is accounted for."""

import pytest
import torch
from safetensors.torch import save_file

from search_spaces import CheckpointError
from supernet import load_supernet


def one_line(path, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        load_supernet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Sparse invariant:UserWarning")
def test_tensors_that_are_not_plain_numbers(tmp_path):
    file = tmp_path / "file.pt"
    for value in (
        torch.eye(3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, device="meta"),
        torch.zeros(1, dtype=torch.float16).expand(10**14),  # a small file that asks for 400 TB
    ):
        torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": {"mask_emb": value}}, file)
        one_line(file, "mask_emb must be a plain tensor of real numbers")


def test_weights_under_two_names_and_heads_of_no_layer_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    value = torch.zeros(768)
    save_file({"masked_spec_embed": value, "hubert.masked_spec_embed": value + 1}, tmp_path / "model.safetensors")
    one_line(tmp_path, "one weight under two names: .*masked_spec_embed and .*masked_spec_embed")
    for heads in ({"layer_pred_heads.12.weight": torch.zeros(8, 768)}, {"layer_pred_heads.3.weight": torch.zeros(())}):
        torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": heads}, tmp_path / "file.pt")
        one_line(tmp_path / "file.pt", r"layer_pred_heads must be matrices of layers 0\.\.11")
