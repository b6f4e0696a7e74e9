"""Architectures that are known and refused, each with the reason a user reads."""

__all__ = ["REFUSED"]

_ENCODER = "an encoder, which does not generate text"
_ENCODER_DECODER = "an encoder-decoder; only decoder-only models are supported"
_MIXTURE = "a mixture of experts; the exported graph would run every expert for every token"
_STATE_SPACE = "a state-space or recurrent model without the attention cache that the runtime loop keeps"
_MULTIMODAL = "a model of images or sound as well as text; only text decoders are supported"
_WINDOWS = "a decoder that mixes sliding-window and full attention, which the exported graph would lose"
_UNREAD = "a decoder for which no family file exists yet"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            "albert", "bert", "big_bird", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
            "eurobert", "longformer", "megatron-bert", "mobilebert", "modernbert", "mpnet", "nomic_bert", "roberta",
            "roformer", "xlm-roberta",
        ),
        _ENCODER,
    ),
    **dict.fromkeys(
        (
            "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "led", "longt5", "m2m_100",
            "marian", "mbart", "mt5", "nllb", "pegasus", "plbart", "prophetnet", "speech_to_text", "t5", "t5gemma",
            "umt5", "whisper",
        ),
        _ENCODER_DECODER,
    ),
    **dict.fromkeys(
        (
            "dbrx", "deepseek_v2", "deepseek_v3", "ernie4_5_moe", "flex_olmo", "glm4_moe", "gpt_oss", "granitemoe",
            "jetmoe", "llama4", "mixtral", "nllb-moe", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3_next",
            "switch_transformers",
        ),
        _MIXTURE,
    ),
    **dict.fromkeys(
        (
            "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2", "mamba", "mamba2", "nemotron_h",
            "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2",
        ),
        _STATE_SPACE,
    ),
    **dict.fromkeys(
        (
            "clip", "gemma3", "gemma3n", "idefics3", "llava", "mistral3", "mllama", "paligemma", "qwen2_5_vl",
            "qwen2_vl", "qwen3_vl", "smolvlm", "vit",
        ),
        _MULTIMODAL,
    ),
    **dict.fromkeys(("cohere2", "exaone4", "ministral", "olmo3"), _WINDOWS),
    **dict.fromkeys(
        (
            "bloom", "codegen", "cohere", "falcon", "glm", "glm4", "gpt_bigcode", "gpt_neo",
            "gptj", "granite", "helium", "mpt", "nemotron", "olmo", "olmo2", "persimmon", "phi",
            "seed_oss", "stablelm", "starcoder2", "xglm",
        ),
        _UNREAD,
    ),
}  # fmt: skip
"""`model_type` -> why it is refused, completing "This is ..."."""
