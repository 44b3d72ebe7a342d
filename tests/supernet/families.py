"""A small model of each family with stock transformers classes, every weight random, norms and biases too."""

import warnings

import torch

CONVS = {"conv_dim": [12] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 48, **CONVS}
PRE_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
MODELS = {
    "hubert-base": ("Hubert", {}),
    "hubert-large": ("Hubert", PRE_NORM),
    "hubert-xl": ("Hubert", {**PRE_NORM, "hidden_size": 40, "num_attention_heads": 4, "intermediate_size": 120}),
    "hubert-no-input-norm": ("Hubert", {"feat_proj_layer_norm": False}),
    "wav2vec2-base": ("Wav2Vec2", {}),
    "wav2vec2-large": ("Wav2Vec2", {"hidden_size": 40, "num_attention_heads": 4, "conv_bias": True}),
    "xls-r": ("Wav2Vec2", PRE_NORM),
    "wavlm-base": ("WavLM", {"num_buckets": 16, "max_bucket_distance": 40}),
    "wavlm-large": ("WavLM", {"num_buckets": 16, "max_bucket_distance": 40, **PRE_NORM}),
    "data2vec": ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}),
    "unispeech-sat": ("UniSpeechSat", {}),
    "unispeech-sat-large": ("UniSpeechSat", PRE_NORM),
    "whisper": ("Whisper", {}),
}
WHISPER = {
    "d_model": 24, "encoder_layers": 3, "encoder_attention_heads": 3, "encoder_ffn_dim": 48, "decoder_layers": 2,
    "decoder_attention_heads": 3, "decoder_ffn_dim": 32, "num_mel_bins": 80, "max_source_positions": 100,
    "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
    "max_target_positions": 16, "begin_suppress_tokens": None, "suppress_tokens": None,
}  # fmt: skip


def stock(name):
    """The transformers model of this name: an encoder, or a whole Whisper."""
    import transformers

    torch.manual_seed(0)
    kind, changes = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**(WHISPER if kind == "Whisper" else {**SIZES, **changes}))
    whole = kind == "Whisper"
    model = getattr(transformers, f"{kind}ForConditionalGeneration" if whole else f"{kind}Model")(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return model


def saved(name, folder):
    """A folder with this model and its feature extractor; returns the model."""
    import transformers

    model = stock(name)
    model.save_pretrained(folder)
    if MODELS[name][0] == "Whisper":
        seconds = model.config.max_source_positions // 50
        transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=seconds).save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return model


@torch.no_grad()
def states(model, wav, lengths=None):
    """The last hidden state that transformers computes, (B, T, D)."""
    if hasattr(model.config, "encoder_layers"):
        import transformers

        encoder, seconds = model.get_encoder(), wav.shape[1] // 16_000
        extractor = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=seconds)
        mel = extractor(list(wav.numpy()), sampling_rate=16_000, return_tensors="pt").input_features
        assert mel.shape[-1] == 2 * model.config.max_source_positions, "the window must be the model's"
        return encoder(mel).last_hidden_state
    mask = None if lengths is None else (torch.arange(wav.shape[1]) < lengths[:, None]).long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of WavLM's own masks
        return model(wav, attention_mask=mask).last_hidden_state


def add_tokenizer(folder):
    """A tokenizer of bytes and Whisper's special tokens, for the vocabulary of `WHISPER`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<|endoftext|>", "<|startoftranscript|>"]
    letters = ["\u0120", *"abcdefghijklmnopqrstuvwxyz", *"ABCDEFGHIJKLMNOPQR"]
    words = {word: i for i, word in enumerate([*special, *letters, "<|notimestamps|>"])}  # the last: 49
    special = [*special, "<|notimestamps|>"]
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<pad>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|endoftext|>")
    fast.save_pretrained(folder)


def saved_whole_whisper(folder):
    """A folder with a whole Whisper that `generate` can use: tokenizer and settings; returns the model."""
    model = saved("whisper", folder)
    add_tokenizer(folder)
    settings = model.generation_config
    settings.suppress_tokens, settings.pad_token_id, settings.no_timestamps_token_id = [0, 1, 3, 49], 2, 49
    settings.save_pretrained(folder)
    return model
