#!/usr/bin/env python3
"""What mlx-lm makes of every fixture: the names, shapes and values that our catalog must give.

For each folder beside this script: load with mlx-lm (strict), cast as mlx_lm.convert does with
bfloat16, and note for every parameter its shape, dtype and the SHA-256 of its bytes; then what
`mlx_lm.convert -q` chooses for each module, and what the caches hold. Writes expected.json.

mlx-lm 0.32.2 cannot load gpt_oss with BF16 experts: those tensors are computed here with numpy from
the published layout (in-major, gate and up interleaved).

    python make_expected.py
"""

import copy
import hashlib
import json
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
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
    text = json.dumps(result, indent=0, sort_keys=True)
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
