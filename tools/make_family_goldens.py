"""Golden logits for options of the families that their fixtures do not use.

    python make_family_goldens.py torch OUT_DIR [name ...]   # checkpoints and transformers' logits
    python make_family_goldens.py mlx OUT_DIR [name ...]     # then mlx-lm's, where it differs or stops

Each option is a change of a small base config; OUT_DIR/<name>/ gets config.json, model.safetensors
(random BF16 weights, as transformers writes them) and golden.safetensors: ids.S, logits.S of the
last 8 positions, nll.S, argmax.S for sequences S; mlx.logits.S where mlx-lm differs by more than
1e-4, hf_only where it cannot run the model. f32 everywhere. ram/runtime/parity_test.cc reads them.
"""
import hashlib
import json
import math
import os
import re
import sys
import tempfile

import numpy as np

LENGTHS = (28, 75)
LAST = 8

# ---- Bases and options ----------------------------------------------------------------------------

SMALL = {"attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 48, "initializer_range": 0.02,
         "intermediate_size": 64, "max_position_embeddings": 128, "num_attention_heads": 4,
         "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 1000.0,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 64,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
MOE = {"moe_intermediate_size": 32, "num_experts": 5, "num_experts_per_tok": 2, "norm_topk_prob": True,
       "decoder_sparse_step": 1, "mlp_only_layers": []}
LATENT = {"kv_lora_rank": 32, "q_lora_rank": 40, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
          "v_head_dim": 24, "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2,
          "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
          "norm_topk_prob": True, "routed_scaling_factor": 1.5, "num_key_value_heads": 4,
          "attention_bias": False, "topk_method": "noaux_tc", "scoring_func": "sigmoid"}
DELTA = {"head_dim": 16, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_num_key_heads": 2,
         "linear_num_value_heads": 4, "linear_value_head_dim": 24, "full_attention_interval": 2,
         "attention_bias": False}
WINDOW = {"use_sliding_window": True, "sliding_window": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
        "beta_fast": 8.0, "beta_slow": 1.0}

BASES = {
    "llama": ("LlamaForCausalLM", {"head_dim": 16, "attention_bias": False, "mlp_bias": False}),
    "mistral": ("MistralForCausalLM", {"sliding_window": 16}),
    "qwen2": ("Qwen2ForCausalLM", {"max_window_layers": 2, "sliding_window": 16, "use_sliding_window": False}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16, "max_window_layers": 2, "sliding_window": None,
                                   "use_sliding_window": False}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", MOE | {"shared_expert_intermediate_size": 40, "max_window_layers": 2,
                                                "sliding_window": 16, "use_sliding_window": False}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", MOE | {"head_dim": 16, "sliding_window": None, "use_sliding_window": False}),
    "mixtral": ("MixtralForCausalLM", {"intermediate_size": 32, "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None}),
    "olmoe": ("OlmoeForCausalLM", {"intermediate_size": 32, "num_experts": 5, "num_experts_per_tok": 2, "norm_topk_prob": False,
                                   "attention_bias": False, "clip_qkv": None}),
    "olmo2": ("Olmo2ForCausalLM", {"attention_bias": False}),
    "phi3": ("Phi3ForCausalLM", {"original_max_position_embeddings": 128, "partial_rotary_factor": 1.0,
                                 "sliding_window": None, "num_attention_heads": 3, "num_key_value_heads": 3}),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
                                     "query_pre_attn_scalar": 16, "sliding_window": 16,
                                     "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0,
                                     "tie_word_embeddings": True}),
    "gemma3_text": ("Gemma3ForCausalLM", {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
                                          "query_pre_attn_scalar": 24, "sliding_window": 16, "sliding_window_pattern": 2,
                                          "rope_local_base_freq": 100.0, "num_hidden_layers": 4,
                                          "tie_word_embeddings": True}),
    "gpt_oss": ("GptOssForCausalLM", {"head_dim": 16, "intermediate_size": 32, "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 16,
                                      "swiglu_limit": 7.0, "rope_scaling": YARN | {"truncate": False}}),
    "llama4_text": ("Llama4ForCausalLM", {"head_dim": 16, "attention_chunk_size": 16, "attn_scale": 0.1,
                                          "attn_temperature_tuning": True, "floor_scale": 8, "interleave_moe_layer_step": 1,
                                          "intermediate_size_mlp": 64, "moe_layers": [], "num_experts_per_tok": 1,
                                          "num_local_experts": 4, "use_qk_norm": True, "attention_bias": False,
                                          "num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}),
    "llama4": ("Llama4ForConditionalGeneration", {}),
    "glm4_moe": ("Glm4MoeForCausalLM", {"head_dim": 16, "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2,
                                        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
                                        "norm_topk_prob": True, "routed_scaling_factor": 1.5, "use_qk_norm": True,
                                        "attention_bias": True, "partial_rotary_factor": 0.5, "rope_scaling": None}),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM", LATENT | {"rms_norm_eps": 1e-6}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", LATENT),
    "qwen3_next": ("Qwen3NextForCausalLM", MOE | DELTA | {"shared_expert_intermediate_size": 32, "partial_rotary_factor": 0.25}),
    "qwen3_5_text": ("Qwen3_5ForCausalLM", DELTA | {"rope_parameters": {
        "rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1],
        "mrope_interleaved": True}}),
    "qwen3_5_moe_text": ("Qwen3_5MoeForCausalLM", DELTA | {
        "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.25}}),
}

LONG = {"rope_type": "longrope", "type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0],
        "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}
OPTIONS = {  # name: (base, changes)
    "llama_linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "llama_yarn": ("llama", {"rope_scaling": YARN}),
    "llama_yarn_factor": ("llama", {"rope_scaling": YARN | {"attention_factor": 1.3}}),
    "llama_dynamic": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "llama_v5": ("llama", {"rope_theta": None, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 2000.0, "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 32}}),
    "llama_biases": ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
    "llama_derived": ("llama", {"head_dim": None, "num_attention_heads": 3, "num_key_value_heads": 3,
                                "tie_word_embeddings": True}),
    "mistral_open": ("mistral", {"sliding_window": None, "head_dim": 20}),
    "qwen2_windows": ("qwen2", WINDOW | {"max_window_layers": 1}),
    "qwen3_windows": ("qwen3", WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}),
    "qwen3_yarn": ("qwen3", {"rope_scaling": YARN, "tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen2_moe_norm": ("qwen2_moe", WINDOW | {"norm_topk_prob": True, "num_experts_per_tok": 3}),
    "qwen3_moe_sparse": ("qwen3_moe", {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3],
                                       "norm_topk_prob": False}),
    "qwen3_moe_windows": ("qwen3_moe", WINDOW | {"num_experts_per_tok": 1, "tie_word_embeddings": True}),
    "qwen3_moe_yarn": ("qwen3_moe", {"rope_scaling": YARN}),
    "mixtral_window": ("mixtral", {"sliding_window": 16, "num_experts_per_tok": 3}),
    "olmoe_norm": ("olmoe", {"norm_topk_prob": True, "num_experts_per_tok": 3, "num_key_value_heads": 4}),
    "olmo2_biases": ("olmo2", {"attention_bias": True, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "phi3_long": ("phi3", {"rope_scaling": LONG, "original_max_position_embeddings": 32}),
    "phi3_partial": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": 16, "num_key_value_heads": 1}),
    "gemma2_plain": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None,
                                "query_pre_attn_scalar": 20}),
    "gemma2_layers": ("gemma2", {"layer_types": ["full_attention", "sliding_attention"]}),
    "gemma3_linear": ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    "gemma3_v5": ("gemma3_text", {
        "rope_theta": None, "rope_local_base_freq": None, "sliding_window_pattern": None,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}}),
    "gpt_oss_truncate": ("gpt_oss", {"rope_scaling": YARN | {"truncate": True}, "num_experts_per_tok": 1}),
    "gpt_oss_plain": ("gpt_oss", {"rope_scaling": None, "num_key_value_heads": 4, "swiglu_limit": 2.0}),
    "llama4_dense": ("llama4_text", {"no_rope_layers": [1, 0, 1, 0]}),
    "llama4_untuned": ("llama4_text", {"attn_temperature_tuning": False, "use_qk_norm": False, "attention_chunk_size": 24}),
    "llama4_every_layer": ("llama4", {"interleave_moe_layer_step": 1, "use_qk_norm": False, "attention_bias": True,
                                      "intermediate_size": 32, "num_local_experts": 2}),
    "glm4_moe_plain": ("glm4_moe", {"use_qk_norm": False, "attention_bias": False, "partial_rotary_factor": 0.25,
                                    "first_k_dense_replace": 0, "n_shared_experts": 2}),
    "glm4_moe_groups": ("glm4_moe", {"n_group": 3, "topk_group": 2, "norm_topk_prob": False, "num_experts_per_tok": 3}),
    "glm4_moe_top1": ("glm4_moe", {"num_experts_per_tok": 1}),
    "glm4_moe_lite_direct": ("glm4_moe_lite", {"q_lora_rank": None, "n_group": 2, "n_shared_experts": 2}),
    "glm4_moe_lite_yarn": ("glm4_moe_lite", {"rope_scaling": YARN | {"mscale_all_dim": 0.8, "mscale": 1.2},
                                             "attention_bias": True}),
    "deepseek_v3_direct": ("deepseek_v3", {"q_lora_rank": None, "n_group": 2, "topk_group": 1, "norm_topk_prob": False,
                                           "first_k_dense_replace": 0, "num_hidden_layers": 2}),
    "deepseek_v3_yarn": ("deepseek_v3", {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 0.9},
                                         "n_group": 3, "topk_group": 2, "num_experts_per_tok": 3}),
    "deepseek_v3_halves": ("deepseek_v3", {"rope_interleave": False, "attention_bias": True, "n_shared_experts": 2}),
    "qwen3_next_ratio": ("qwen3_next", {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 3, "norm_topk_prob": False,
                                        "decoder_sparse_step": 2, "partial_rotary_factor": 0.5}),
    "qwen3_next_equal": ("qwen3_next", {"linear_num_key_heads": 4, "num_key_value_heads": 4}),
    "qwen3_5_dense": ("qwen3_5_text", {"linear_conv_kernel_dim": 2, "tie_word_embeddings": True}),
    "qwen3_5_moe_three": ("qwen3_5_moe_text", {"linear_num_value_heads": 6, "num_experts_per_tok": 3,
                                               "num_hidden_layers": 3, "full_attention_interval": 3}),
}


# mlx-lm misreads these configs; ram compress writes the keys that it does read.
MISREAD_BY_MLX = ("llama_v5",)


def config_of(name):
    base, changes = OPTIONS[name]
    architecture, values = BASES[base]
    if base == "llama4":
        text = config_of("llama4_dense") | {"moe_layers": None, "no_rope_layers": [1, 1, 1, 0]} | changes
        text = {k: v for k, v in text.items() if v is not None and k != "architectures"} | {"rope_scaling": None}
        vision = {"model_type": "llama4_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "intermediate_size": 16, "image_size": 28, "patch_size": 14, "vision_output_dim": 16,
                  "projector_input_dim": 16, "projector_output_dim": 16}
        return {"architectures": [architecture], "model_type": "llama4", "text_config": text, "vision_config": vision,
                "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    config = {"architectures": [architecture], "model_type": base} | SMALL | values | changes
    # None takes a key away, except where null means something.
    keep = ("sliding_window", "q_lora_rank", "attn_logit_softcapping", "final_logit_softcapping", "clip_qkv", "rope_scaling")
    return {k: v for k, v in config.items() if v is not None or k in keep}


# ---- Weights --------------------------------------------------------------------------------------

def value(name, shape, kind, rng):
    """Random values by role, scaled so that every part of the network changes the logits."""
    one_plus = kind.startswith(("gemma", "qwen3_next", "qwen3_5")) and not name.endswith("linear_attn.norm.weight")
    n = rng.standard_normal(shape)
    if name.endswith("e_score_correction_bias"):
        return 0.15 * n
    if name.endswith("A_log"):
        return np.log(rng.uniform(0.3, 8.0, shape))
    if name.endswith("dt_bias"):
        return rng.uniform(-4.0, 0.5, shape)
    if name.endswith("conv1d.weight"):
        return 0.5 * n
    if re.search(r"norm\d?\.weight$", name) and len(shape) == 1:
        # Multiples of 1/64, so that 1 + w is the same in BF16.
        return np.round(64 * (rng.uniform(-0.5, 0.5, shape) if one_plus else rng.uniform(0.5, 1.5, shape))) / 64
    if name.endswith("bias") or len(shape) == 1:
        return 0.3 * n
    if "embed_tokens" in name:
        return 0.15 * n
    if "lm_head" in name:
        return 2.0 / math.sqrt(shape[-1]) * n
    in_major = kind in ("llama4_text", "gpt_oss") and re.search(r"experts\.(gate_up_proj|down_proj)$", name)
    gain = 1.5 if re.search(r"(gate|router)\.weight$", name) or re.search(r"[qk]_proj\.weight$|q_b_proj|kv_b_proj|qkv_proj", name) else 1.0
    if kind == "gpt_oss" and "gate_up_proj" in name:
        gain = 3.0
    return gain / math.sqrt(shape[-2] if in_major else shape[-1]) * n


def make_torch(folder, name, seed):
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    config = config_of(name)
    kind = config.get("text_config", config)["model_type"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    cls = getattr(transformers, config["architectures"][0])
    with tempfile.TemporaryDirectory() as tmp:  # Names and shapes as transformers writes them.
        model = cls._from_config(transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)
        model.save_pretrained(tmp)
        shapes = {k: tuple(v.shape) for k, v in load_file(os.path.join(tmp, "model.safetensors")).items()}
    tensors = {}
    for key in sorted(shapes):
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "little"))
        w = torch.from_numpy(np.ascontiguousarray(value(key, shapes[key], kind, rng).astype(np.float32)))
        keep = key.endswith("e_score_correction_bias") or (kind.startswith("qwen3_5") and key.endswith("A_log"))
        tensors[key] = w if keep else w.to(torch.bfloat16)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})

    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    model = model.float().eval()
    out, gap = {}, math.inf
    rng = np.random.default_rng([seed, 77])
    for s, length in enumerate(LENGTHS):
        ids = torch.from_numpy(rng.integers(3, config.get("text_config", config)["vocab_size"], length))
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
        nll = -torch.log_softmax(logits.double(), -1)[:-1].gather(1, ids[1:, None])[:, 0]
        top = logits.topk(2, -1).values
        gap = min(gap, (top[:, 0] - top[:, 1]).min().item())
        out |= {f"ids.{s}": ids.int(), f"logits.{s}": logits[-LAST:].contiguous(), f"nll.{s}": nll.float(),
                f"argmax.{s}": logits.argmax(-1).int()}
    save_file(out, os.path.join(folder, "golden.safetensors"))
    return gap, logits.std().item(), nll.mean().item()


def make_mlx(folder):
    import mlx.core as mx
    from mlx_lm.utils import load_model
    from pathlib import Path
    mx.set_default_device(mx.cpu)
    path = os.path.join(folder, "golden.safetensors")
    golden = {k: v for k, v in mx.load(path).items() if not k.startswith("mlx.") and k != "hf_only"}
    worst = 0.0
    try:
        model, _ = load_model(Path(folder), strict=True)
        model.set_dtype(mx.float32)
        different = {}
        for s in range(len(LENGTHS)):
            logits = model(golden[f"ids.{s}"][None])[0][-LAST:].astype(mx.float32)
            different[f"mlx.logits.{s}"] = logits
            worst = max(worst, mx.abs(logits - golden[f"logits.{s}"]).max().item())
        if worst > 1e-4:
            golden |= different
    except Exception as e:  # noqa: BLE001: whatever stops it, there is nothing to compare with.
        golden["hf_only"] = mx.zeros(1)
        worst = " ".join(f"{type(e).__name__}: {e}".split())[:120]
    mx.save_safetensors(path, golden)
    return worst


if __name__ == "__main__":
    step, out_dir = sys.argv[1:3]
    for name in sys.argv[3:] or OPTIONS:
        folder = os.path.join(out_dir, name)
        if step == "mlx":
            if name not in MISREAD_BY_MLX:
                print(f"{name:24s} mlx-lm - transformers: {make_mlx(folder)}", flush=True)
            continue
        for seed in range(1, 20):  # The first without a near tie of an argmax.
            gap, std, nll = make_torch(folder, name, seed)
            if gap > 1e-3:
                break
        size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
        print(f"{name:24s} seed {seed} {size / 1e3:.0f} kB, std {std:.2f}, nll {nll:.2f}, gap {gap:.1e}", flush=True)
