"""The subnet as a Hugging Face folder: a stock model if its config can express the subnet, else with a file of code."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from search_spaces import CheckpointError, Subnet
from search_spaces.files import read_text
from search_spaces.text import first_line
from supernet import layers
from supernet.companion import rest_of_model
from supernet.decoder import TextDecoder
from supernet.export.base import TASK, ModelExporter, Runner
from supernet.families import FAMILIES
from supernet.layers import front_channels
from supernet.model import HubertSupernet
from supernet.weights import KeyTable

__all__ = ["HuggingFaceExporter", "described", "is_stock", "load_whole", "whole_model"]

_CLASSES = {
    "hubert": "Hubert",
    "wav2vec2": "Wav2Vec2",
    "wavlm": "WavLM",
    "data2vec-audio": "Data2VecAudio",
    "unispeech-sat": "UniSpeechSat",
    "unispeech": "UniSpeech",
}
_CODE = "modeling_subnet.py"
_GENERATION = "generation_config.json"
_TIED = {"proj_out.weight", "model.decoder.embed_tokens.weight"}


class HuggingFaceExporter(ModelExporter):
    """`hf/`, for `AutoModel` and `AutoFeatureExtractor`; a Whisper's for `pipeline("automatic-speech-recognition")`.

    Frames of padding follow Hugging Face's rule, whatever the supernet's: LightHuBERT counts one frame more. A stock
    model's first hidden state comes after the positions, ours before them.
    """

    max_difference: ClassVar[Mapping[str, float]] = {"fp32": 2e-5}  # its extractor adds 1e-7 to the variance, we 1e-5
    frame_rule = "conv"
    first_state = 1
    loading = """
import numpy as np
from transformers import AutoFeatureExtractor, {auto}

extractor = AutoFeatureExtractor.from_pretrained("{folder}")
net = {auto}.from_pretrained("{folder}", trust_remote_code={remote_code})
waves = [np.random.randn(16_000), np.random.randn(12_000)]
batch = extractor(waves, sampling_rate=16_000, {options}return_tensors="pt")
{last}
"""
    note = (
        "In a stock model `hidden_states[0]` comes after the positions, as in every HubertModel; padded batches are "
        "masked by Hugging Face's rule. `AutoModelForCTC` and other heads load it only if it is stock (layers alike); "
        "else take `net` as the encoder, or train a head with `nas finetune`. A Whisper is exported with the decoder "
        "and the tokenizer of its source, so that `generate` and pipelines work."
    )

    def write(
        self, model: HubertSupernet, subnet: Subnet, folder: Path, about: Mapping[str, object], dtype: str
    ) -> None:
        target = folder / "hf"
        stock = is_stock(model, subnet)
        if _decoded(model, subnet):
            net = _whisper(model, subnet, stock)
            if _has_tokenizer(model):
                TextDecoder.of(model).complete(net.generation_config)
        else:
            net = _encoder(model, subnet, stock)
        with _without_bars():
            net.eval().save_pretrained(target)
        _write_extractor(model, subnet, target)
        if not stock:
            _write_code(target)

    def library(self, model: HubertSupernet, subnet: Subnet) -> tuple[str, str]:
        return "transformers", "automatic-speech-recognition" if _decoded(model, subnet) else TASK

    def loading_fields(self, model: HubertSupernet, subnet: Subnet) -> Mapping[str, object]:
        decoded = _decoded(model, subnet)
        return {
            "auto": "AutoModelForSpeechSeq2Seq" if decoded else "AutoModel",
            "remote_code": not is_stock(model, subnet),
            "options": "" if decoded else "padding=True, ",
            "last": "tokens = net.generate(**batch)" if decoded else "last = net(**batch).last_hidden_state",
        }

    def read(self, folder: Path, dtype: str) -> Runner:
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSpeechSeq2Seq

        target = folder / "hf"
        code = (target / _CODE).exists()
        extractor = AutoFeatureExtractor.from_pretrained(target)
        config = AutoConfig.from_pretrained(target, trust_remote_code=code)
        auto = AutoModelForSpeechSeq2Seq if config.model_type == "whisper" else AutoModel
        with _without_bars():
            net = auto.from_pretrained(target, trust_remote_code=code).eval()

        def run(wav: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
            sizes = [wav.shape[1]] * len(wav) if lengths is None else lengths.tolist()
            waves = [wave[:size].numpy() for wave, size in zip(wav, sizes)]
            if config.model_type == "whisper":
                return _heard(net, extractor, waves, wav.shape[1])
            batch = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch's, of WavLM's own masks
                output = net(**batch, output_hidden_states=True)
            return (*output.hidden_states[:-1], output.last_hidden_state)

        return run


def _heard(net: Any, extractor: Any, waves: list[Any], samples: int) -> tuple[Tensor, ...]:
    """The encoder's hidden states of a window of `samples`, which a stock WhisperEncoder must be told."""
    mel = extractor(
        waves, sampling_rate=16_000, padding="max_length", max_length=samples, return_tensors="pt"
    ).input_features
    encoder, positions = net.get_encoder(), (mel.shape[-1] + 1) // 2
    before, table = encoder.config.max_source_positions, getattr(encoder, "embed_positions", None)
    encoder.config.max_source_positions = positions
    if table is not None:
        encoder.embed_positions = torch.nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            table.weight.detach()[:positions]
        )
    output = encoder(mel, output_hidden_states=True)
    encoder.config.max_source_positions = before
    if table is not None:
        encoder.embed_positions = table
    return (*output.hidden_states[:-1], output.last_hidden_state)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hides transformers' progress bars, since the files are small."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


# -------------------------------------------------------------------- what is stock


def is_stock(model: HubertSupernet, subnet: Subnet) -> bool:
    """Whether a stock config can express this subnet: equal layers, whose heads together are as wide as D.

    Also, a WavLM's layers must share their relative positions, a Whisper must have its decoder and whole front end, and
    the convolutions of the others a norm.
    """
    network = model.space.network
    alike = len(set(subnet.heads)) == len(set(subnet.ffn_dims)) == 1 and all((subnet.heads[0], subnet.ffn_dims[0]))
    if not alike or network.rotated or subnet.heads[0] * network.head_dim != subnet.embed_dim:
        return False
    if network.mel:
        return _decoded(model, subnet) and not subnet.front_end
    if network.conv_norm == "none":
        return False
    return not network.relative_buckets or _shares_positions(model, subnet)


def _shares_positions(model: HubertSupernet, subnet: Subnet) -> bool:
    """Whether all layers have the first layer's biases, and gates in the order of the heads."""
    sliced = model.sliced_weights(subnet)
    biases = [value for name, value in sliced.items() if name.endswith("relative.weight")]
    blocks = [value.tolist() for name, value in sliced.items() if name.endswith("relative.blocks")]
    ordered = all(own == list(range(len(own))) for own in blocks)
    return ordered and all(torch.equal(value, biases[0]) for value in biases)


def _decoded(model: HubertSupernet, subnet: Subnet) -> bool:
    """Whether it is exported with the decoder of its source, which reads the whole width."""
    rest = None if model.source is None else rest_of_model(model.source)
    network = model.space.network
    return rest is not None and bool(rest.stored) and (network.rotated or subnet.embed_dim == network.width)


def _kind(model: HubertSupernet) -> str:
    """The family whose stock classes have the network's parts; where several do, that of the source."""
    network = model.space.network
    if network.relative_buckets:
        return "wavlm"
    if network.positions == "stack":
        return "data2vec-audio"
    source = str(model.provenance.get("source", "")).removeprefix("Hugging Face ")
    return source if source in _CLASSES and network.input_norm else "hubert"


# -------------------------------------------------------------------- the models


def described(model: HubertSupernet, subnet: Subnet) -> dict[str, dict[str, object]]:
    """Network and subnet as plain containers, for exports that carry a copy of `layers.py`."""
    network = model.space.network
    return {
        "network": {**asdict(network), "conv_layers": [list(layer) for layer in network.conv_layers]},
        "subnet": {
            "embed_dim": subnet.embed_dim,
            "heads": list(subnet.heads),
            "ffn_dims": list(subnet.ffn_dims),
            "front_end": list(subnet.front_end),
        },
    }


def _encoder(model: HubertSupernet, subnet: Subnet, stock: bool) -> Any:
    """An encoder for waveforms, with the mask embedding, which training uses."""
    dim = model.space.network.outer(subnet.embed_dim)
    mask = model.mask_embedding.detach()[:dim].clone().cpu()
    if not stock:
        from supernet.export.modeling_subnet import SubnetConfig, SubnetModel

        about = described(model, subnet)
        auto = {"AutoConfig": f"{_CODE[:-3]}.SubnetConfig", "AutoModel": f"{_CODE[:-3]}.SubnetModel"}
        config = SubnetConfig(**about, hidden_size=dim, num_hidden_layers=subnet.depth, auto_map=auto)
        net = SubnetModel(config)
        net.net.load_state_dict(model.extract(subnet).cpu().state_dict(), strict=True)
        net.masked_spec_embed.data.copy_(mask)
        return net
    import transformers

    kind = _kind(model)
    config = getattr(transformers, f"{_CLASSES[kind]}Config")(**_wav2vec2_config(model, subnet, kind))
    net = getattr(transformers, f"{_CLASSES[kind]}Model")(config)
    net.load_state_dict({"masked_spec_embed": mask, **_renamed(model, subnet, kind)}, strict=True)
    return net


def _wav2vec2_config(model: HubertSupernet, subnet: Subnet, kind: str) -> dict[str, object]:
    network = model.space.network
    _, kernels, strides = zip(*network.conv_layers)
    stack = network.positions == "stack"
    config = {
        "hidden_size": subnet.embed_dim,
        "num_hidden_layers": subnet.depth,
        "num_attention_heads": subnet.heads[0],
        "intermediate_size": subnet.ffn_dims[0],
        "conv_dim": front_channels(network, subnet),
        "conv_kernel": kernels,
        "conv_stride": strides,
        "conv_bias": network.conv_bias,
        "num_conv_pos_embeddings": network.pos_conv_depth if stack else network.pos_conv_kernel,
        "num_conv_pos_embedding_groups": network.pos_conv_groups,
        **(dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")) if kind == "hubert" else {}),
    }
    if stack:
        return {**config, "conv_pos_kernel_size": network.pos_conv_kernel}
    config |= {"feat_extract_norm": network.conv_norm, "do_stable_layer_norm": network.norm_first}
    if network.relative_buckets:
        config |= {"num_buckets": network.relative_buckets, "max_bucket_distance": network.relative_distance}
    if not network.input_norm:
        config["feat_proj_layer_norm"] = False
    return config


def _renamed(model: HubertSupernet, subnet: Subnet, kind: str) -> dict[str, Tensor]:
    """The subnet's weights under the names of a family."""
    table = KeyTable(FAMILIES[kind].names(model.space.network)).inverse()
    renamed: dict[str, Tensor] = {}
    for name, value in model.extract(subnet).state_dict().items():
        if name == "encoder.pos_conv.weight":  # a weight norm: magnitude and direction
            stored = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
            renamed[f"{stored}0"] = torch.linalg.vector_norm(value, dim=(0, 1), keepdim=True)
            renamed[f"{stored}1"] = value
        elif name.endswith("relative.blocks") or (name.endswith("relative.weight") and ".layers.0." not in name):
            continue  # stock layers share the first one's
        else:
            theirs = table.translate(name)
            assert theirs is not None, name
            renamed[theirs] = value.view(1, -1, 1, 1) if name.endswith("relative.const") else value
    return {name: value.cpu() for name, value in renamed.items()}


def _whisper(model: HubertSupernet, subnet: Subnet, stock: bool) -> Any:
    """A whole Whisper: this encoder, and the decoder of its source."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    assert model.source is not None
    rest = rest_of_model(model.source)
    about = {} if stock else described(model, subnet)
    auto = f"{_CODE[:-3]}.SubnetWhisper"
    sizes: dict[str, Any] = {"encoder_layers": subnet.depth if stock else 1}
    if stock:
        sizes |= {"encoder_attention_heads": subnet.heads[0], "encoder_ffn_dim": subnet.ffn_dims[0]}
    else:
        sizes["auto_map"] = {"AutoModelForSpeechSeq2Seq": auto, "AutoModel": auto}
    config = WhisperConfig.from_dict({**rest.config, **about, **sizes, "dtype": "float32", "architectures": None})
    if stock:
        net: Any = WhisperForConditionalGeneration(config)
        encoder = {f"model.encoder.{name}": value for name, value in _renamed(model, subnet, "whisper").items()}
    else:
        from supernet.export.modeling_subnet import SubnetWhisper

        net = SubnetWhisper(config)
        own = model.extract(subnet).cpu().state_dict()
        encoder = {f"model.encoder.net.{name}": value for name, value in own.items()}
    weights = {**encoder, **{name: value.float() for name, value in rest.weights.items()}}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= _TIED, missing
    net.tie_weights()
    if any(file.name == _GENERATION for file in rest.files):
        net.generation_config = GenerationConfig.from_pretrained(model.source)
    return net


def whole_model(model: HubertSupernet, subnet: Subnet) -> Any:
    """A whole Whisper in memory, with this subnet as encoder: `modeling_subnet.SubnetWhisper`."""
    return _whisper(model, subnet, stock=False)


def load_whole(folder: Path) -> Any:
    """The whole Whisper of an export whose layers differ, by our own code: the folder's is not run.

    Raises `CheckpointError`.
    """
    from supernet.export.modeling_subnet import SubnetWhisper

    try:
        with _without_bars():
            net, info = SubnetWhisper.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # transformers raises many kinds of errors for a broken folder
        raise CheckpointError(f"cannot load {folder}: {first_line(error):.200}") from None
    if missing := sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])} - _TIED):
        raise CheckpointError(f"{folder} lacks {len(missing)} weights: {', '.join(missing[:3])}")
    front_end = net.model.encoder.net.front_end
    front_end.mel = layers.LogMel(front_end.convs[0].in_channels)  # its constants are in no file
    return net.eval()


def _write_extractor(model: HubertSupernet, subnet: Subnet, target: Path) -> None:
    """The feature extractor and, of a whole Whisper, the tokenizer."""
    if _decoded(model, subnet):
        assert model.source is not None
        for file in rest_of_model(model.source).files:
            if file.name != _GENERATION:
                shutil.copyfile(file, target / file.name)
        _name_tokenizer(target / "tokenizer_config.json")
        return
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(do_normalize=model.prepare.normalize, return_attention_mask=True)
    extractor.save_pretrained(target)


def _has_tokenizer(model: HubertSupernet) -> bool:
    assert model.source is not None
    return any(file.name in ("tokenizer.json", "vocab.json") for file in rest_of_model(model.source).files)


def _name_tokenizer(file: Path) -> None:
    """Makes a tokenizer of no class of its own a WhisperTokenizer, as pipelines need it."""
    if file.is_file():
        settings = json.loads(read_text(file))
        if isinstance(settings, dict) and not str(settings.get("tokenizer_class")).startswith("Whisper"):
            file.write_text(json.dumps({**settings, "tokenizer_class": "WhisperTokenizer"}, indent=1) + "\n")


def _write_code(target: Path) -> None:
    """`layers.py` and `modeling_subnet.py` as one file, which needs torch and transformers alone."""
    network = Path(layers.__file__).read_text(encoding="utf-8")
    network = re.sub(r"^if TYPE_CHECKING:.*\n(    .*\n)+", "", network, flags=re.M)
    ours = Path(__file__).with_name(_CODE).read_text(encoding="utf-8")
    line = "from supernet.layers import Hubert\n"
    assert line in ours
    (target / _CODE).write_text(f"{network}\n\n{ours.replace(line, '')}", encoding="utf-8")
