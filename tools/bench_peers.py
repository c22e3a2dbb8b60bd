#!/usr/bin/env python3
"""Perplexity-shaped speed of ram and of others on one machine, in one run.

    python3 -m venv v && v/bin/pip install numpy safetensors torch transformers gguf
    v/bin/python tools/bench_peers.py --ram build/ram [--llama-cpp DIR] [--threads 1] [--context 2048]

Makes a Llama of 271 million random BF16 weights (hidden 1024, MLP 2816, 16 layers, 16 heads,
vocabulary 32000) and runs the same windows of tokens through
  ram                    original, and packed as 4,64: f32-accurate, every position scored; where the
                         machine has AMX also without it
  torch + transformers   BF16 and F32, every position scored
  llama.cpp              llama-perplexity of DIR: BF16, Q8_0, Q4_0, Q4_K_M; scores the second half of
                         the positions. Three chunks less one chunk, so that loading does not count

Rounds are interleaved, A B C A B C ..., and the best of each is printed: on a shared machine the
best is what the program can do. Absolute numbers belong to this machine; the ratios are the result.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HIDDEN, MLP, LAYERS, HEADS, VOCABULARY = 1024, 2816, 16, 16, 32000


def tensors():
    """Name in a Hugging Face folder, name in GGUF, shape."""
    yield "model.embed_tokens.weight", "token_embd.weight", (VOCABULARY, HIDDEN)
    for n in range(LAYERS):
        hf, gguf = f"model.layers.{n}.", f"blk.{n}."
        yield hf + "input_layernorm.weight", gguf + "attn_norm.weight", (HIDDEN,)
        for part, short in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output")):
            yield hf + f"self_attn.{part}_proj.weight", gguf + f"attn_{short}.weight", (HIDDEN, HIDDEN)
        yield hf + "post_attention_layernorm.weight", gguf + "ffn_norm.weight", (HIDDEN,)
        yield hf + "mlp.gate_proj.weight", gguf + "ffn_gate.weight", (MLP, HIDDEN)
        yield hf + "mlp.up_proj.weight", gguf + "ffn_up.weight", (MLP, HIDDEN)
        yield hf + "mlp.down_proj.weight", gguf + "ffn_down.weight", (HIDDEN, MLP)
    yield "model.norm.weight", "output_norm.weight", (HIDDEN,)
    yield "lm_head.weight", "output.weight", (VOCABULARY, HIDDEN)


def value(name, shape):
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    rng = np.random.default_rng(sum(name.encode()) * 1009 + len(name))
    w = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[1]))
    return (w.view(np.uint32) & 0xFFFF0000).view(np.float32)  # BF16 values.


def make_folder(folder):
    if (folder / "model.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
              "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": HEADS, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "max_position_embeddings": 8192, "hidden_act": "silu",
              "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    header, offset = {}, 0
    for name, _, shape in tensors():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, _, shape in tensors():
            f.write((value(name, shape).view(np.uint32) >> 16).astype("<u2").tobytes())


def make_gguf(path):
    import gguf
    if path.exists():
        return
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_context_length(8192)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(MLP)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(VOCABULARY)
    w.add_tokenizer_model("llama")
    w.add_token_list(["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] +
                     [f"t{i}" for i in range(VOCABULARY - 259)])
    w.add_token_scores([0.0] * VOCABULARY)
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (VOCABULARY - 259))
    for name, short, shape in tensors():
        v = value(name, shape)
        if len(shape) == 1:
            w.add_tensor(short, v)
        else:
            w.add_tensor(short, (v.view(np.uint32) >> 16).astype(np.uint16),
                         raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def run_ram(ram, folder, context, threads, isa=None):
    out = subprocess.run([ram, "bench", "model", str(folder), "--context", str(context), "--threads", str(threads),
                          "--new-tokens", "1", "--runs", "1", "--json"] + (["--isa", isa] if isa else []),
                         check=True, capture_output=True, text=True)
    return json.loads(out.stdout)["score_tokens_per_second"]


def best_isa(ram):
    out = subprocess.run([ram, "bench", "model", "--shape", "llama-layer", "--context", "16", "--new-tokens", "0",
                          "--runs", "1", "--json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)["engine"]


def run_llama_cpp(folder, model, work, context, threads):
    text = work / "text.txt"
    if not text.exists():  # A token a byte.
        rng = np.random.default_rng(3)
        text.write_bytes(bytes(rng.integers(97, 123, 65536, dtype=np.uint8)))
    seconds = {}
    for chunks in (1, 3):
        start = time.perf_counter()
        subprocess.run([f"{folder}/llama-perplexity", "-m", str(model), "-f", str(text), "-c", str(context), "-b",
                        str(context), "-t", str(threads), "--chunks", str(chunks)], check=True, capture_output=True,
                       text=True, errors="replace")
        seconds[chunks] = time.perf_counter() - start
    return 2 * context / (seconds[3] - seconds[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ram", default="build/ram")
    parser.add_argument("--llama-cpp", help="folder of llama-perplexity and llama-quantize")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=Path("/tmp/ram-bench-peers"))
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = args.work / "llama-271m"
    make_folder(folder)
    if args.torch:
        return torch_server(folder, args)

    packed = args.work / "llama-271m-4-64"
    if not packed.exists():
        subprocess.run([args.ram, "compress", str(folder), "--budget", "4.6bpw", "--menu", "4,64", "-o", str(packed), "--quiet"],
                       check=True)
    runs = {"ram bf16, f32-accurate": lambda: run_ram(args.ram, folder, args.context, args.threads),
            "ram 4,64, f32-accurate": lambda: run_ram(args.ram, packed, args.context, args.threads)}
    if "amx" in best_isa(args.ram):
        for name, model in (("bf16", folder), ("4,64", packed)):
            runs[f"ram {name}, f32-accurate, without AMX"] = lambda m=model: run_ram(
                args.ram, m, args.context, args.threads, "avx3_dl")
    if not args.no_torch:
        for dtype in ("bfloat16", "float32"):
            runs[f"torch + transformers, {dtype}"] = lambda d=dtype: torch_speed(d, args)
    if args.llama_cpp:
        make_gguf(args.work / "bf16.gguf")
        for kind in ("BF16", "Q8_0", "Q4_0", "Q4_K_M"):
            model = args.work / f"{kind.lower()}.gguf"
            if not model.exists():
                subprocess.run([f"{args.llama_cpp}/llama-quantize", str(args.work / "bf16.gguf"), str(model), kind],
                               check=True, capture_output=True)
            runs[f"llama.cpp {kind}"] = lambda m=model: run_llama_cpp(
                args.llama_cpp, m, args.work, args.context, args.threads)

    best = {}
    for r in range(args.rounds):
        for name, run in runs.items():
            try:
                best[name] = max(best.get(name, 0), run())
            except subprocess.CalledProcessError as e:
                print(f"{name}: {(e.stderr or '').strip().splitlines()[-1:] or e}", file=sys.stderr)
    first = best["ram bf16, f32-accurate"]
    print(f"{args.threads} thread(s), context {args.context}, best of {args.rounds}: tokens/s, and ram bf16 relative to it")
    for name, rate in best.items():
        print(f"  {name:36s} {rate:8.1f}   {first / rate:6.2f}x")


def torch_speed(dtype, args):
    """In a process of its own: its threads and its memory are gone afterwards."""
    out = subprocess.run([sys.executable, __file__, "--torch", "--work", str(args.work), "--context", str(args.context),
                          "--threads", str(args.threads)], check=True, capture_output=True, text=True,
                         env={**os.environ, "RAM_BENCH_DTYPE": dtype})
    return float(re.search(r"tokens/s ([0-9.]+)", out.stdout)[1])


def torch_server(folder, args):
    import torch
    import transformers
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, os.environ["RAM_BENCH_DTYPE"])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, VOCABULARY, (1, args.context)))
    best = 1e9
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item()
            best = min(best, time.perf_counter() - start)
    print(f"tokens/s {args.context / best:.2f}")


if __name__ == "__main__":
    main()
