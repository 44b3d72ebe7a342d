"""The code in a Hugging Face export whose layers differ in size: the subnet's own layers, beside this file.

`SubnetModel` hears waveforms, as HubertModel does; `SubnetWhisper` is Whisper with such an encoder. The file is copied
unchanged, but for the import of `Hubert`.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from supernet.layers import Hubert

__all__ = ["SubnetConfig", "SubnetModel", "SubnetWhisper"]


def _module(config: Any) -> Hubert:
    """The subnet's module that `config.network` and `config.subnet` describe."""
    return Hubert(SimpleNamespace(**config.network), SimpleNamespace(**config.subnet))  # type: ignore[arg-type]


def _output(states: tuple[torch.Tensor, ...], with_states: bool | None, as_dict: bool | None) -> Any:
    """The hidden states as transformers gives them."""
    output = BaseModelOutput(states[-1], states if with_states else None)
    return output if as_dict is not False else output.to_tuple()


class SubnetConfig(PreTrainedConfig):  # type: ignore[misc]
    """`network`: the parts of the network; `subnet`: its embed dim, and heads and FFN dim of each layer."""

    model_type = "speech-subnet"
    network: dict[str, Any] | None = None
    subnet: dict[str, Any] | None = None


class SubnetModel(PreTrainedModel):  # type: ignore[misc]
    """input_values (B, S) at 16 kHz and attention_mask (B, S) -> last_hidden_state (B, T, D)."""

    config_class = SubnetConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.net = _module(config)
        self.masked_spec_embed = nn.Parameter(torch.zeros(self.net.encoder.dim))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Every weight comes from the file."""

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **ignored: Any,
    ) -> Any:
        lengths = None if attention_mask is None else attention_mask.sum(-1)
        states = self.net(input_values, lengths).hidden_states
        return _output(states, output_hidden_states, return_dict)


class _Encoder(nn.Module):
    """Stands where WhisperEncoder does: input_features (B, mels, frames) -> last_hidden_state (B, T, D)."""

    main_input_name = "input_features"

    def __init__(self, theirs: Any, config: Any) -> None:
        super().__init__()
        self.config, self.net = config, _module(config)
        self.max_source_positions = config.max_source_positions
        object.__setattr__(self, "conv1", theirs.conv1)  # `generate` reads their strides
        object.__setattr__(self, "conv2", theirs.conv2)

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **ignored: Any,
    ) -> Any:
        front_end = self.net.front_end
        states = self.net.encoder(front_end.of_mel(input_features.to(next(front_end.parameters()).dtype)))
        return _output(states, output_hidden_states, return_dict)


class SubnetWhisper(WhisperForConditionalGeneration):  # type: ignore[misc]
    """`generate`, pipelines and training work as with Whisper."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.encoder = _Encoder(self.model.encoder, config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Every weight comes from the file."""
