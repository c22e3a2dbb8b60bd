#!/usr/bin/env python3
"""Runs llama-perplexity and ram over the same model and text, and compares what they say of every token.

    python3 tools/compare_llama_perplexity.py --ram build/ram --llama-perplexity llama.cpp/build/bin/llama-perplexity

MODEL (--model, default models/moe-8x; Llama and Qwen3-MoE layouts) and a copy of it that ram compresses to 4 bits are
written as GGUF files of F32: what llama.cpp runs are the same weights, products of F32, a cache of F32. Then:

  1. llama-perplexity on MODEL writes its --kl-divergence-base file; its perplexity of every chunk is compared with that
     of `ram eval perplexity --protocol llama.cpp`, its tokens with ram's.
  2. `ram eval kl --base-file` reads that file and gives the divergence of the compressed model.
  3. llama-perplexity --kl-divergence does the same; and again with a file that `ram eval kl --save-base` wrote.

Needs numpy and gguf. docs/perplexity.md has a result.
"""
import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BITS = 4


# ---- Weights ----

def read_tensors(folder):
    """Every tensor of a model in f32; quantized modules as their loader sees them."""
    raw = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + size])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = (8 + size + at for at in entry["data_offsets"])
            raw[name] = decode(entry["dtype"], data[begin:end]).reshape(entry["shape"])
    group = json.loads((folder / "config.json").read_text()).get("quantization", {}).get("group_size")
    tensors = {}
    for name, values in raw.items():
        module = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if module + ".scales" in raw:
            values = dequantize(values, raw[module + ".scales"], raw[module + ".biases"], group)
        tensors[name] = values
    return tensors


def decode(dtype, data):
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.frombuffer(data, {"F32": "<f4", "F16": "<f2", "U32": "<u4"}[dtype])
    return values if dtype == "U32" else values.astype(np.float32)


def dequantize(words, scales, biases, group):
    codes = (words[..., None] >> np.arange(0, 32, BITS, dtype=np.uint32)) & (2**BITS - 1)
    codes = codes.reshape(*scales.shape, group).astype(np.float32)
    return (codes * scales[..., None] + biases[..., None]).reshape(*scales.shape[:-1], -1)


def permute(rows, heads):
    """Rows of q and k: halves of a head, as transformers rotates them, to pairs, as llama.cpp's llama does."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


# ---- GGUF ----

def write_gguf(folder, path):
    config = json.loads((folder / "config.json").read_text())
    moe = config["model_type"] == "qwen3_moe"
    heads, kv_heads, layers = (config[key] for key in ("num_attention_heads", "num_key_value_heads", "num_hidden_layers"))
    out = gguf.GGUFWriter(str(path), "qwen3moe" if moe else "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(layers)
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_key_length(config["head_dim"])
    out.add_value_length(config["head_dim"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_vocab_size(config["vocab_size"])
    if moe:
        out.add_expert_count(config["num_experts"])
        out.add_expert_used_count(config["num_experts_per_tok"])
        out.add_expert_feed_forward_length(config["moe_intermediate_size"])
    else:
        out.add_rope_dimension_count(config["head_dim"])
    add_vocabulary(out, folder, config)

    tensors = read_tensors(folder)
    out.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"])
    out.add_tensor("output_norm.weight", tensors["model.norm.weight"])
    if "lm_head.weight" in tensors:
        out.add_tensor("output.weight", tensors["lm_head.weight"])
    for n in range(layers):
        ours, theirs = f"model.layers.{n}.", f"blk.{n}."
        for name, other in (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
                            ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output")):
            out.add_tensor(f"{theirs}{other}.weight", tensors[f"{ours}{name}.weight"])
        for name, count in (("q", heads), ("k", kv_heads)):
            rows = tensors[f"{ours}self_attn.{name}_proj.weight"]
            out.add_tensor(f"{theirs}attn_{name}.weight", rows if moe else permute(rows, count))
            if moe:
                out.add_tensor(f"{theirs}attn_{name}_norm.weight", tensors[f"{ours}self_attn.{name}_norm.weight"])
        if moe:
            out.add_tensor(f"{theirs}ffn_gate_inp.weight", tensors[f"{ours}mlp.gate.weight"])
        for part in ("gate", "up", "down"):
            if moe:
                stacked = tensors.get(f"{ours}mlp.switch_mlp.{part}_proj.weight")
                if stacked is None:
                    stacked = np.stack([tensors[f"{ours}mlp.experts.{e}.{part}_proj.weight"]
                                        for e in range(config["num_experts"])])
                out.add_tensor(f"{theirs}ffn_{part}_exps.weight", stacked)
            else:
                out.add_tensor(f"{theirs}ffn_{part}.weight", tensors[f"{ours}mlp.{part}_proj.weight"])
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def add_vocabulary(out, folder, config):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    model = tokenizer["model"]
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    texts = {**{id_: text for text, id_ in model["vocab"].items()}, **special}
    texts = [texts[i] for i in range(config["vocab_size"])]
    byte_level = not model["byte_fallback"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    out.add_tokenizer_model("gpt2" if byte_level else "llama")
    out.add_token_list(texts)
    types = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(texts))]
    if byte_level:
        out.add_tokenizer_pre("qwen2")
        out.add_token_merges(merges)
    else:
        # SentencePiece merges what has the largest score: the order of the merges.
        rank = {}
        for place, merge in enumerate(merges):
            rank.setdefault(merge.replace(" ", ""), -float(place))
        out.add_token_scores([rank.get(text, 0.0) for text in texts])
        for i, text in enumerate(texts):
            if re.fullmatch(r"<0x[0-9A-F]{2}>", text):
                types[i] = gguf.TokenType.BYTE
        types[0] = gguf.TokenType.UNKNOWN
    out.add_token_types(types)
    if config.get("bos_token_id") is not None:
        out.add_bos_token_id(config["bos_token_id"])
    out.add_eos_token_id(config["eos_token_id"])
    out.add_add_bos_token(bool(settings.get("add_bos_token")))


# ---- The programs ----

def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def run_json(*words):
    done = subprocess.run([str(word) for word in (*words, "--json", "--quiet")], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def llama(args, model, *words):
    return run(args.llama_perplexity, "-m", model, "-c", args.context, "--chunks", args.chunks, "-t", args.threads,
               "-b", args.context, "-fa", "off", "-ctk", "f32", "-ctv", "f32", "-ngl", 0, *words)


def value_of(text, label):
    """The number behind a line's label in what llama-perplexity prints."""
    found = re.search(rf"^{re.escape(label)}\s*:\s*(-?[\d.]+)", text, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def chunk_nll(running):
    """Mean NLL of every chunk from running perplexities."""
    total = np.log(running) * np.arange(1, len(running) + 1)
    return np.diff(total, prepend=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ram", default="build/ram")
    parser.add_argument("--llama-perplexity", required=True)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "moe-8x")
    parser.add_argument("--text", type=Path, default=ROOT / "data" / "wikitext-2" / "test.txt")
    parser.add_argument("--budget", default="35%", help="of the compressed copy")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(args, Path(scratch))


def compare(args, scratch):
    small, base_gguf, small_gguf = scratch / "small", scratch / "base.gguf", scratch / "small.gguf"
    bos = json.loads((args.model / "tokenizer_config.json").read_text()).get("add_bos_token")
    windows = ("--data", args.text, "--protocol", "llama.cpp", "--context", args.context, "--windows", args.chunks,
               "--bos", "replace" if bos else "none")
    run_json(args.ram, "compress", args.model, "--menu", f"{BITS},32", "--budget", args.budget, "-o", small)
    write_gguf(args.model, base_gguf)
    write_gguf(small, small_gguf)

    theirs_base, ours_base = scratch / "llama.kld", scratch / "ram.kld"
    log = llama(args, base_gguf, "-f", args.text, "--kl-divergence-base", theirs_base)
    running = np.array([float(value) for value in re.findall(r"\[\d+\]([\d.]+),", log)])
    ours = run_json(args.ram, "eval", "perplexity", args.model, *windows, "-o", scratch / "base.scores")[0]
    nll = np.array(ours["window_nll"])
    own_running = np.exp(np.cumsum(nll) / np.arange(1, len(nll) + 1))
    print(f"{args.model.name}: {len(running)} chunks of {args.context}, {ours['tokens']} scored tokens")
    print(f"perplexity        llama.cpp {running[-1]:.4f}   ram {ours['perplexity']:.4f}")
    print(f"running, chunks   largest difference {np.abs(running - own_running).max():.5f} (four decimals are printed)")
    print(f"NLL of a chunk    largest difference {np.abs(chunk_nll(running) - nll).max():.2g}")

    saved = run_json(args.ram, "eval", "kl", args.model, small, *windows, "--save-base", ours_base)["models"][0]
    tokens = [np.frombuffer(path.read_bytes(), "<i4", 3 + args.chunks * args.context, 8) for path in (theirs_base, ours_base)]
    same = np.array_equal(*tokens) or (bos and np.array_equal(*(t[3:].reshape(args.chunks, -1)[:, 1:] for t in tokens)))
    print(f"tokens            {'the same' if same else 'DIFFERENT'}")

    read = run_json(args.ram, "eval", "kl", "--base-file", theirs_base, *(("--bos", "replace") if bos else ()), small)["models"][0]
    of_theirs = llama(args, small_gguf, "--kl-divergence", "--kl-divergence-base", theirs_base)
    of_ours = llama(args, small_gguf, "--kl-divergence", "--kl-divergence-base", ours_base)
    print("\ncompressed model        llama.cpp, its base  llama.cpp, ram's base   ram, llama.cpp's base   ram, exact")
    rows = (("Mean PPL(Q)", lambda m: np.exp(m["nll"]["value"]), "{:.6f}"),
            ("Mean PPL(base)", lambda m: np.exp(m["base_nll"]["value"]), "{:.6f}"),
            ("Mean    KLD", lambda m: m["kl"]["mean"]["value"], "{:.6f}"),
            ("Maximum KLD", lambda m: m["kl"]["max"], "{:.6f}"),
            ("99.0%   KLD", lambda m: m["kl"]["p99"], "{:.6f}"),
            ("Median  KLD", lambda m: m["kl"]["p50"], "{:.6f}"),
            ("RMS Δp", lambda m: 100 * m["rms_delta_p"], "{:.3f}"),
            ("Same top p", lambda m: 100 * m["same_top"]["value"], "{:.3f}"))
    worst = 0
    for label, of_ram, form in rows:
        numbers = [value_of(of_theirs, label), value_of(of_ours, label), of_ram(read), of_ram(saved)]
        print(f"{label:22}" + "".join(form.format(number).rjust(21) for number in numbers))
        worst = max(worst, abs(numbers[0] / numbers[2] - 1))
    print(f"\nlargest relative difference of llama.cpp and ram on the same file: {worst:.2g}")
    sys.exit(0 if same and worst < 1e-3 else 1)


main()
