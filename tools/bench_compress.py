"""ram compress from end to end on a synthetic checkpoint, against what it cannot do without.

    tools/bench_compress.py --ram build/ram --folder /tmp/bench [--gigabytes 4] [--threads 2]

Makes a checkpoint of the Qwen3 layout with Gaussian BF16 weights (once; any other program would do), then times in one
run: reading all of it once, writing the bytes of the result once, the measuring kernel (as the command reports
it, all threads together, divided by them), and the whole command. Prints the ratio of the last to the sum of the
first three, and the peak memory of the command as the kernel counts it.
"""
import argparse
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import time
from pathlib import Path

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD, VOCABULARY = 2048, 6144, 16, 8, 128, 65536


def gaussian_bf16(count, seed):
    values = random.Random(seed)
    words = (struct.unpack("<I", struct.pack("<f", values.gauss(0, 0.02)))[0] for _ in range(count))
    return b"".join(struct.pack("<H", (w + 0x7FFF + (w >> 16 & 1)) >> 16) for w in words)


def tensors(layers):
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (HIDDEN,)
        yield p + "post_attention_layernorm.weight", (HIDDEN,)
        yield p + "self_attn.q_norm.weight", (HEAD,)
        yield p + "self_attn.k_norm.weight", (HEAD,)
        yield p + "self_attn.q_proj.weight", (HEADS * HEAD, HIDDEN)
        yield p + "self_attn.k_proj.weight", (KV_HEADS * HEAD, HIDDEN)
        yield p + "self_attn.v_proj.weight", (KV_HEADS * HEAD, HIDDEN)
        yield p + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield p + "mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield p + "mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield p + "mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def make_checkpoint(folder, gigabytes):
    size = lambda shape: 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    layer = sum(size(s) for n, s in tensors(1)) - sum(size(s) for n, s in tensors(0))
    layers = max(1, round((gigabytes * 1e9 - sum(size(s) for _, s in tensors(0))) / layer))
    folder.mkdir(parents=True)
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
              "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD,
              "vocab_size": VOCABULARY, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
              "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in tensors(layers):
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size(shape)]}
        at += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    block = gaussian_bf16(1 << 21, seed=1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        shift = 0
        while at > 0:
            shift = (shift + 2 * 4099) % len(block)  # No two chunks alike.
            piece = (block[shift:] + block[:shift])[: min(at, len(block))]
            file.write(piece)
            at -= len(piece)


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def read_once(path):
    buffer = bytearray(4 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def write_once(path, num_bytes):
    piece = os.urandom(4 << 20)
    with open(path, "wb", buffering=0) as file:
        for _ in range(num_bytes // len(piece)):
            file.write(piece)
        os.fsync(file.fileno())
    path.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ram", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--budget", default="4.5bpw")
    args = parser.parse_args()
    source, out = args.folder / f"source-{args.gigabytes:g}", args.folder / "out"
    if not source.exists():
        print(f"making {args.gigabytes:g} GB ...", flush=True)
        make_checkpoint(source, args.gigabytes)
    weights = source / "model.safetensors"
    read_once(weights)  # Into the page cache, as far as it fits: the same for all that follows.
    read = timed(lambda: read_once(weights))

    shutil.rmtree(out, ignore_errors=True)
    words = [args.ram, "compress", source, "--budget", args.budget, "-o", out, "--no-cache", "--threads", args.threads]
    start = time.perf_counter()
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=True)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    kernels = [float(s) for s in re.findall(r"kernel ([\d.]+) s", done.stderr)]
    written = sum(f.stat().st_size for f in out.glob("*.safetensors"))
    write = timed(lambda: write_once(args.folder / "written", written))
    compute = sum(kernels) / args.threads
    print(done.stderr.strip())
    print(f"read once {read:.1f} s, write once {write:.1f} s, compute {compute:.1f} s (kernels, per thread); sum {read + write + compute:.1f} s")
    print(f"compress {whole:.1f} s = {whole / (read + write + compute):.2f} x the sum; peak memory {peak / 1e6:.0f} MB")


main()
