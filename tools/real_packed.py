#!/usr/bin/env python3
"""GPTQ and AWQ checkpoints as others write them, read by ram.

Quantizes a small model with GPTQModel in every form that ram reads, decodes what it wrote with the
library's own code, runs the decoded weights through transformers in f32 and compares the logits with
those of `ram logits`. Exits with 1 if one differs by more than 2e-6 of the range of the logits.

    python3 -m venv VENV && VENV/bin/pip install torch transformers wheel
    BUILD_CUDA_EXT=0 VENV/bin/pip install --no-build-isolation gptqmodel==7.7.0
    VENV/bin/python tools/real_packed.py --ram build/ram models/babyllama-105 FOLDER

No GPU is needed. AWQ wants layers whose outputs are a multiple of 64: models/moe-8x has them, and
is quantized in a few minutes; models/babyllama-105 (some seconds for each form) has not.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

FORMS = {
    "4-32-act": {"bits": 4, "group_size": 32, "desc_act": True},
    "4-32-asym": {"bits": 4, "group_size": 32, "sym": False},
    "4-128-v2": {"bits": 4, "group_size": 128, "sym": False, "format": "gptq_v2"},
    "4-row": {"bits": 4, "group_size": -1, "sym": False, "act_group_aware": False},
    "2-32": {"bits": 2, "group_size": 32, "sym": False},
    "3-32": {"bits": 3, "group_size": 32, "sym": False},
    "8-64-act": {"bits": 8, "group_size": 64, "desc_act": True},
    "dynamic": {"bits": 4, "group_size": 32, "dynamic": {"+:.*up_proj.*": {"bits": 8}}},
    "awq": {"bits": 4, "group_size": 32, "method": "awq", "format": "gemm", "sym": False},
    "awq-sym": {"bits": 4, "group_size": 32, "method": "awq", "format": "gemm", "sym": True},
}


def quantize(source, folder, form, vocabulary):
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    torch.manual_seed(0)
    texts = [
        {"input_ids": torch.randint(3, vocabulary, (128,)).tolist(), "attention_mask": [1] * 128}
        for _ in range(32)
    ]
    model = GPTQModel.load(str(source), QuantizeConfig(**form, device="cpu"))
    model.quantize(texts, batch_size=1)
    model.save(str(folder))


def decoded_weights(folder):
    """All weights in f32, packed ones decoded by GPTQModel."""
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    weights = {name: value.float() for name, value in stored.items() if name.endswith(".weight")}
    modules = [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
    if config["quant_method"] == "awq":
        for name in modules:
            weights[name + ".weight"] = dequantize_gemm(
                stored[name + ".qweight"], stored[name + ".qzeros"],
                stored[name + ".scales"].float(), 4, config["group_size"]).T.contiguous()
        return weights
    loaded = GPTQModel.load(str(folder), device="cpu", dtype=torch.float16, backend=BACKEND.TORCH)
    layers = dict(loaded.model.named_modules())
    for name in modules:
        layers[name].scales = layers[name].scales.float()  # F16 in the file: nothing is lost.
        weights[name + ".weight"] = layers[name].dequantize_weight().float().T.contiguous()
    return weights


def transformers_logits(source, weights, ids):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    state = model.state_dict()
    for name, value in state.items():
        stack, _, last = name.rpartition(".")
        if stack.endswith(".experts"):  # Fused in transformers 5.
            parts = ["gate_proj", "up_proj"] if last == "gate_up_proj" else [last]
            state[name] = torch.stack([
                torch.cat([weights[f"{stack}.{e}.{part}.weight"] for part in parts])
                for e in range(value.shape[0])])
        elif name == "lm_head.weight" and config.tie_word_embeddings:
            state[name] = weights["model.embed_tokens.weight"]
        else:
            state[name] = weights[name]
    model.load_state_dict(state)
    with torch.no_grad():
        return model(ids).logits[0]


def check(args, name):
    """The largest difference of a logit, and their range."""
    import torch
    from safetensors.torch import load_file

    folder = args.folder / name
    vocabulary = json.loads((args.model / "config.json").read_text())["vocab_size"]
    if not (folder / "config.json").exists():
        quantize(args.model, folder, FORMS[name], vocabulary)
    torch.manual_seed(1)
    ids = torch.randint(3, vocabulary, (1, 100))
    want = transformers_logits(args.model, decoded_weights(folder), ids)
    out = args.folder / f"{name}.logits.safetensors"
    subprocess.run([args.ram, "logits", folder, "--ids", ",".join(map(str, ids[0].tolist())),
                    "-o", out, "--overwrite", "-q"], check=True)
    got = load_file(out)["logits"].reshape(want.shape)
    return (got - want).abs().max().item(), (want.max() - want.min()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="a small model in BF16, F16 or F32")
    parser.add_argument("folder", type=pathlib.Path, help="for what is written")
    parser.add_argument("--ram", default="build/ram")
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=None)
    args = parser.parse_args()
    if args.forms is None:  # Each in a process of its own: the library keeps state.
        results = [subprocess.run([sys.executable, __file__, "--ram", args.ram, args.model,
                                   args.folder, "--forms", name]).returncode for name in FORMS]
        return max(results)
    failed = False
    for name in args.forms:
        difference, span = check(args, name)
        wrong = not difference <= 2e-6 * span
        failed |= wrong
        print(f"{name:10}  largest difference {difference:.2e} at a range of {span:.1f}"
              f"{'  WRONG' if wrong else ''}", flush=True)
    return int(failed)


if __name__ == "__main__":
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # It asks for two and checks.
    sys.exit(main())
