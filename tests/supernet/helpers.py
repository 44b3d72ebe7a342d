"""What several test files of this room need."""

import pytest

from search_spaces import CheckpointError
from supernet import load_supernet

# A Hugging Face HuBERT of two narrow layers.
NARROW = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 5,
}  # fmt: skip


def assert_refused(path, message):
    """`load_supernet` refuses `path` with a one-line error that matches `message`."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load_supernet(path)
    assert "\n" not in str(caught.value)
