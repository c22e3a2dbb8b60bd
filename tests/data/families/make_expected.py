#!/usr/bin/env python3
"""What mlx-lm makes of every fixture: the names, shapes and values that our catalog must give.

For each folder beside this script: load with mlx-lm (strict), cast as mlx_lm.convert does with
bfloat16, and note for every parameter its shape, dtype and the SHA-256 of its bytes; then what
`mlx_lm.convert -q` chooses for each module, and what the caches hold. Then the parameters of models
that mlx-lm builds from other configs, changed in one thing each. Writes expected.json.

mlx-lm 0.32.2 cannot load gpt_oss with BF16 experts: those tensors are split here from the layout of
transformers (in-major, gate and up interleaved).

    python make_expected.py
"""

import copy
import hashlib
import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm import __version__ as mlx_lm_version
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.models.cache import ArraysCache, KVCache, make_prompt_cache
from mlx_lm.utils import _get_classes, load_model, quantize_model

HERE = Path(__file__).resolve().parent
BASELINES = [("4,64", ""), ("3,128", ""), ("4,64", "mixed_3_6"), ("2,32", "mixed_2_6")]
TOKENS = 20  # Fewer than every window of the fixtures.


def data_of(array):
    if array.dtype == mx.bfloat16:
        array = array.view(mx.uint16)
    return np.array(array).tobytes()


def entry(array):
    names = {mx.bfloat16: "BF16", mx.float32: "F32", mx.uint32: "U32", mx.uint8: "U8"}
    return {
        "shape": list(array.shape),
        "dtype": names[array.dtype],
        "sha256": hashlib.sha256(data_of(array)).hexdigest(),
    }


def cast(model):
    keep = getattr(model, "cast_predicate", lambda _: True)

    def set_dtype(name, value):
        if keep(name) and mx.issubdtype(value.dtype, mx.floating):
            return value.astype(mx.bfloat16)
        return value

    model.update(tree_map_with_path(set_dtype, model.parameters()))


def split_gpt_oss_experts(weights):
    """The BF16 layout of transformers -> the names and shapes of mlx-lm."""
    out = {}
    for name, value in weights.items():
        base = name.replace("_bias", ".bias") if name.endswith("_bias") else name + ".weight"
        if "experts.gate_up_proj" in name:
            if not name.endswith("_bias"):
                value = value.swapaxes(1, 2)  # [E, 2I, H]
            gate, up = value[:, 0::2], value[:, 1::2]
            out[base.replace("gate_up_proj", "gate_proj")] = mx.contiguous(gate)
            out[base.replace("gate_up_proj", "up_proj")] = mx.contiguous(up)
        elif "experts.down_proj" in name:
            out[base] = value if name.endswith("_bias") else mx.contiguous(value.swapaxes(1, 2))
        else:
            out[name] = value
    return out


def load(path):
    config = json.loads((path / "config.json").read_text())
    if path.name != "gpt_oss":
        return load_model(path, lazy=False, strict=True)
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    model.load_weights(
        list(split_gpt_oss_experts(mx.load(str(path / "model.safetensors"))).items()), strict=True
    )
    return model, config


def parameters(model):
    """Every parameter; MXFP4 modules both as stored and decoded."""
    out = {}
    modules = dict(model.named_modules())
    for name, value in tree_flatten(model.parameters()):
        module = modules[name.rsplit(".", 1)[0]]
        if getattr(module, "mode", None) != "mxfp4":
            out[name] = entry(value)
        elif name.endswith(".weight"):
            decoded = mx.dequantize(value, module.scales, group_size=32, bits=4, mode="mxfp4")
            out[name] = entry(decoded.astype(mx.bfloat16))
            out[name]["codes_sha256"] = hashlib.sha256(data_of(value)).hexdigest()
            out[name]["scales_sha256"] = hashlib.sha256(data_of(module.scales)).hexdigest()
        elif name.endswith(".bias"):
            out[name] = entry(value)
    return out


def baseline(path, choice, recipe):
    """Module -> choice, after quantize_model has really run."""
    model, config = load(path)
    cast(model)
    bits, group_size = map(int, choice.split(","))
    predicate = None
    if recipe:
        predicate = mixed_quant_predicate_builder(recipe, model, group_size)
    model, _ = quantize_model(
        model, copy.deepcopy(config), group_size, bits, quant_predicate=predicate
    )
    out = {}
    for name, module in model.named_modules():
        if hasattr(module, "bits"):
            mxfp4 = module.mode == "mxfp4"
            out[name] = "mxfp4" if mxfp4 else f"{module.bits},{module.group_size}"
        elif hasattr(module, "to_quantized"):
            out[name] = "16"
    return out


def state(model):
    """What the caches hold after TOKENS tokens, counted."""
    cache = make_prompt_cache(model)
    model(mx.arange(TOKENS)[None] % 50, cache=cache)
    out = {"cache": 0, "window": 0, "window_tokens": 0, "recurrent_bytes": 0}
    for layer in cache:
        if isinstance(layer, ArraysCache):
            out["recurrent_bytes"] += sum(array.nbytes for array in layer.cache)
            continue
        keys, values = layer.state[0], layer.state[1]
        per_token = sum(a.shape[1] * a.shape[3] for a in (keys, values))
        if isinstance(layer, KVCache):
            out["cache"] += per_token
        else:
            out["window"] += per_token
            out["window_tokens"] = getattr(layer, "max_size", None) or layer.chunk_size
    return out


# Name, config that is changed, changes. "text:" is inside text_config; None removes.
VARIANTS = [
    ("llama with biases", "llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama, defaults", "llama", {"head_dim": None, "num_key_value_heads": None,
                                  "tie_word_embeddings": None}),
    ("llama, not tied, sliding", "llama", {
        "tie_word_embeddings": False, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    ("llama as mistral", "mistral", {"tie_word_embeddings": None}),
    ("qwen2, defaults", "qwen2", {"tie_word_embeddings": None}),
    ("qwen2, not tied", "qwen2", {"tie_word_embeddings": False}),
    ("qwen3, tied", "qwen3", {"tie_word_embeddings": True}),
    ("qwen3_moe with dense layers", "qwen3_moe", {"num_hidden_layers": 5, "mlp_only_layers": [3],
                                                  "decoder_sparse_step": 2}),
    ("qwen3_moe, tied", "qwen3_moe", {"tie_word_embeddings": True}),
    ("qwen2_moe", "qwen2_moe", {"num_key_value_heads": None, "tie_word_embeddings": True}),
    ("mixtral, tied", "mixtral", {"tie_word_embeddings": True, "head_dim": 99}),
    ("mixtral, defaults", "mixtral", {"num_key_value_heads": None, "num_local_experts": None,
                                      "tie_word_embeddings": None}),
    ("llama4, all layers have experts", "llama4", {"text:interleave_moe_layer_step": 1}),
    ("llama4 with biases", "llama4", {"text:attention_bias": True,
                                      "text:interleave_moe_layer_step": 3}),
    ("glm4_moe_lite without q_lora", "glm4_moe_lite", {"q_lora_rank": "null"}),
    ("glm4_moe_lite with biases", "glm4_moe_lite", {"attention_bias": True,
                                                    "n_shared_experts": 2}),
    ("glm4_moe_lite, every second", "glm4_moe_lite", {"num_hidden_layers": 5, "moe_layer_freq": 2,
                                                      "n_shared_experts": "null"}),
    ("deepseek_v3, dense", "deepseek_v3", {"n_routed_experts": None}),
    ("deepseek_v3, defaults", "deepseek_v3", {
        "q_lora_rank": None, "kv_lora_rank": None, "qk_rope_head_dim": None, "v_head_dim": None,
        "qk_nope_head_dim": None, "n_shared_experts": None, "first_k_dense_replace": None}),
    ("glm4_moe with norms, no biases", "glm4_moe", {"use_qk_norm": True, "attention_bias": False}),
    ("glm4_moe without norms", "glm4_moe", {"use_qk_norm": False, "first_k_dense_replace": 0}),
    ("gpt_oss, four layers", "gpt_oss", {"num_hidden_layers": 4, "layer_types": None}),
    ("qwen3_next with dense layers", "qwen3_next", {"mlp_only_layers": [1],
                                                    "full_attention_interval": 2,
                                                    "tie_word_embeddings": True}),
    ("qwen3_next with biases", "qwen3_next", {"attention_bias": True, "decoder_sparse_step": 2}),
    ("qwen3_5_moe, tied", "qwen3_5_moe", {"text:tie_word_embeddings": True,
                                          "text:head_dim": None}),
    ("qwen3_5, dense", "qwen3_5_moe", {"model_type": "qwen3_5", "text:num_experts": None,
                                       "text:intermediate_size": 96}),
    ("gemma3_text, pattern 2", "gemma3_text", {"sliding_window_pattern": 2}),
    ("olmo2 with biases", "olmo2", {"attention_bias": True, "mlp_bias": True,
                                    "tie_word_embeddings": None}),
    ("olmoe with biases", "olmoe", {"attention_bias": True, "num_key_value_heads": 2}),
    ("phi3, tied", "phi3", {"tie_word_embeddings": True, "num_key_value_heads": None}),
    ("gemma2", "gemma2", {"head_dim": 48}),
    ("llama4_text", "llama", {"model_type": "llama4_text", "intermediate_size_mlp": 224,
                              "no_rope_layers": [1, 1, 0], "use_qk_norm": True,
                              "tie_word_embeddings": False}),
]


def variant(name, family, changes):
    config = json.loads((HERE / family / "config.json").read_text())
    config.pop("vision_config", None)
    for key, value in changes.items():
        where = config["text_config"] if key.startswith("text:") else config
        key = key.removeprefix("text:")
        where.pop(key, None)
        if value is not None:
            where[key] = None if value == "null" else value
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(copy.deepcopy(config)))
    if family == "gemma3_text":
        model.sanitize({})  # Ties the head.
    shapes = {key: list(value.shape) for key, value in tree_flatten(model.parameters())}
    return {"name": name, "config": config, "shapes": shapes}


def nested_gemma3():
    """gemma3 takes vocab_size from outside of text_config."""
    inner = json.loads((HERE / "gemma3_text" / "config.json").read_text())
    config = {"model_type": "gemma3", "text_config": inner, "vocab_size": inner["vocab_size"]}
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(copy.deepcopy(config)))
    model.language_model.sanitize({})
    shapes = {key: list(value.shape) for key, value in tree_flatten(model.parameters())}
    return {"name": "gemma3", "config": config, "shapes": shapes}


def main():
    mx.set_default_device(mx.cpu)
    result = {"mlx_lm": mlx_lm_version, "families": {}}
    for path in sorted(p for p in HERE.iterdir() if (p / "config.json").exists()):
        print(path.name, file=sys.stderr)
        model, _ = load(path)
        cast(model)
        result["families"][path.name] = {
            "tensors": parameters(model),
            "state": state(model),
            "baselines": [
                {"uniform": choice, "recipe": recipe, "modules": baseline(path, choice, recipe)}
                for choice, recipe in BASELINES
            ],
        }
    result["variants"] = [variant(*v) for v in VARIANTS] + [nested_gemma3()]
    text = json.dumps(result, indent=0, sort_keys=True)
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
