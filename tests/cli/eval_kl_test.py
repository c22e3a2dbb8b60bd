"""ram eval kl: divergence from a base, its cache, llama.cpp's file, and what it refuses."""
import json
import math
import os
import shutil
import struct

from cli_harness import (BABY, INPUT, MACHINE, MOE, USAGE, Test, copy_model, make_llama, names_in,
                         read_json, read_safetensors)

FEW = ("--windows", 3, "--context", 64)


def compressed(t):
    out = t.scratch / "moe-4bpw"
    if not out.exists():
        t.succeeds(t.run("compress", MOE, "--budget", "4bpw", "-o", out))
    return out


def test_against_itself(t):
    found = t.json("eval", "kl", MOE, MOE, *FEW)
    model = found["models"][0]
    for name in ("kl", "reverse_kl", "jensen_shannon", "delta_p"):
        t.equal((model[name]["mean"]["value"], model[name]["max"], model[name]["min"]), (0, 0, 0), f"{name} of equal models")
    t.equal(model["same_top"]["value"], 1, "same top")
    t.equal(found["base_own_kl"], {"mean": 0, "max": 0}, "own error of exact logits")
    t.equal(found["window_tokens"], [63, 63, 63], "scored tokens")


def test_against_compressed(t):
    small = compressed(t)
    found = t.json("eval", "kl", MOE, small, MOE, *FEW, "-o", t.scratch / "tokens")
    model = found["models"][0]
    t.check(0 < model["kl"]["mean"]["value"] < 2, f"mean KL {model['kl']['mean']}")
    t.check(0 < model["jensen_shannon"]["max"] <= math.log(2), "Jensen-Shannon is at most ln 2")
    t.check(abs(sum(model["window_kl"]) / 3 - model["kl"]["mean"]["value"]) < 1e-12, "mean over windows of one size")
    levels = [model["kl"][key] for key in ("min", "p1", "p5", "p10", "p50", "p90", "p95", "p99", "p99.9", "max")]
    t.equal(levels, sorted(levels), "quantiles ascend")
    t.check(abs(model["nll"]["value"] - model["base_nll"]["value"] - model["log_ratio"]["value"]) < 1e-12, "ratio of perplexities")
    pair = found["pairs"][0]
    t.equal((pair["a"], pair["b"]), (MOE.name, small.name), "pair")
    t.check(abs(pair["kl_difference"]["value"] + model["kl"]["mean"]["value"]) < 1e-12, "paired difference")
    t.equal(names_in(t.scratch / "tokens"), sorted([f"{MOE.name}.kl.safetensors", f"{small.name}.kl.safetensors"]), "files")
    dtype, shape, data = read_safetensors(t.scratch / "tokens" / f"{small.name}.kl.safetensors")["kl"]
    t.equal((dtype, shape), ("F64", [189]), "numbers of tokens")
    mean = sum(struct.unpack("<189d", data)) / 189
    t.check(abs(mean - model["kl"]["mean"]["value"]) < 1e-12, "their mean is the mean")
    # The perplexity of ram eval perplexity, of the same windows.
    other = t.json("eval", "perplexity", small, *FEW, "-o", t.scratch / "small.scores")[0]
    t.check(abs(other["mean_nll"] - model["nll"]["value"]) < 1e-5, "the NLL that ram eval perplexity gives")
    for columns in (80, 120):
        done = t.run("eval", "kl", MOE, small, *FEW, env={**os.environ, "COLUMNS": str(columns)})
        t.succeeds(done)
        t.check("Divergence from moe-8x" in done.stdout, "heading")
        t.check(max(map(len, done.stdout.splitlines())) <= columns, f"at most {columns} columns")


def test_cache(t):
    small, cache = compressed(t), t.scratch / "base.logits"
    words = ("eval", "kl", MOE, small, *FEW)
    plain = t.json(*words)
    first = t.json(*words, "--cache", cache)
    before = cache.read_bytes()
    again = t.json(*words, "--cache", cache)
    t.equal(cache.read_bytes(), before, "the cache is only read")
    for found in (first, again):
        t.equal(found["models"][0]["kl"], plain["models"][0]["kl"], "the same numbers with a cache and without")
    t.check("; from " in again["base_kept"], f"says that it was taken from the cache: {again['base_kept']}")
    half = t.json(*words, "--cache-type", "u16")
    mean, exact = (found["models"][0]["kl"]["mean"]["value"] for found in (half, plain))
    t.check(0 < half["base_own_kl"]["mean"] < 1e-6 and abs(mean - exact) < 1e-4 * exact + 1e-6, f"u16: {mean}, exact {exact}")
    t.equal([name for name in names_in(t.scratch) if "ram-base" in name], [], "nothing is left behind")

    t.refuses(t.run("eval", "kl", MOE, small, "--windows", 2, "--context", 64, "--cache", cache), INPUT, "other tokens", "--restart")
    t.refuses(t.run("eval", "kl", small, MOE, *FEW, "--cache", cache), INPUT, "holds the base moe-8x")
    t.refuses(t.run(*words, "--cache", cache, "--precision", "fast"), INPUT, "precision f32")
    t.refuses(t.run(*words, "--cache", cache, "--cache-type", "u16"), INPUT, "holds logits of f32")
    # Other weights of the same shapes.
    a, b = (make_llama(t.scratch / f"llama-{seed}", vocabulary=2048, seed=seed) for seed in (1, 2))
    for folder in (a, b):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(MOE / name, folder / name)
    ab = t.scratch / "ab.logits"
    t.json("eval", "kl", a, *FEW, "--cache", ab)
    t.json("eval", "kl", a, b, *FEW, "--cache", ab)
    t.refuses(t.run("eval", "kl", b, a, *FEW, "--cache", ab), INPUT, "a base of other weights")
    t.json("eval", "kl", b, a, *FEW, "--cache", ab, "--restart")
    cut = t.scratch / "cut.logits"
    cut.write_bytes(before[:-100])
    t.refuses(t.run(*words, "--cache", cut), INPUT, "cut.logits")


def test_top_k(t):
    """The tail as one outcome: low by what the whole rows say, against the exact divergence of every token."""
    small, cache = compressed(t), t.scratch / "top.logits"
    words = ("eval", "kl", MOE, small, MOE, "--windows", 16, "--context", 256)

    def kl_of(folder):
        data = read_safetensors(t.scratch / folder / f"{small.name}.kl.safetensors")["kl"][2]
        return struct.unpack(f"<{len(data) // 8}d", data)

    exact = t.json(*words, "-o", t.scratch / "exact")
    exact_kl = kl_of("exact")
    sizes = []
    for top_k in (8, 64, 512):
        found = t.json(*words, "--top-k", top_k, "--cache", cache, "--restart", "-o", t.scratch / "top")
        sizes.append(cache.stat().st_size)
        model, true = found["models"][0], exact["models"][0]
        error = model["tail_error"]["kl"]
        t.equal(model["tail_error"]["rows"], 64, "whole rows: every 64th of 4,080")
        missing = true["kl"]["mean"]["value"] - model["kl"]["mean"]["value"]
        low, high = error["interval"]
        t.check(low <= missing <= high, f"top {top_k}: too low by {missing}, printed {error}")
        t.check(missing > 0 and low > 0, f"top {top_k}: the tail only takes away, {missing}")
        t.check(all(kept <= whole + 1e-6 for kept, whole in zip(kl_of("top"), exact_kl)), f"top {top_k}: no token gains")
        for name in ("delta_p", "same_top", "top5", "base_nll", "nll"):
            kept, whole = (part[name]["mean"] if "mean" in part[name] else part[name] for part in (model, true))
            t.check(abs(kept["value"] - whole["value"]) < 1e-6, f"top {top_k}: {name} is exact")
        own = found["models"][1]
        t.check(abs(own["kl"]["max"]) < 1e-6 and abs(own["tail_error"]["kl"]["value"]) < 1e-6, f"the base itself: {own['kl']}")
    again = t.json(*words, "--top-k", 512, "--cache", cache)
    t.equal(again["models"][0]["kl"], found["models"][0]["kl"], "from the cache")
    t.check(sizes == sorted(sizes) and sizes[0] < 0.05 * 4080 * 2048 * 4, f"bytes {sizes}")
    t.refuses(t.run(*words, "--top-k", 64, "--cache", cache), INPUT, "holds the 512 most likely tokens", "--restart")
    t.refuses(t.run(*words, "--cache", cache), INPUT, "holds the 512 most likely tokens")
    t.refuses(t.run(*words, "--top-k", 2047), INPUT, "--top-k 2047", "at most 2046")
    t.refuses(t.run(*words, "--top-k", 4), USAGE, "top-k")
    text = t.run(*words, "--top-k", 64)
    t.succeeds(text)
    for fragment in ("too low by", "measured on 64 rows", "within (95 %)", "the 64 most likely of 2,048"):
        t.check(fragment in " ".join(text.stdout.split()), f"{fragment}: {text.stdout}")
    t.check(max(map(len, text.stdout.splitlines())) <= 80, "at most 80 columns")


def test_llama_cpp(t):
    small, base = compressed(t), t.scratch / "base.kld"
    words = ("--protocol", "llama.cpp", *FEW)
    exact = t.json("eval", "kl", MOE, small, *words, "--save-base", base)["models"][0]
    data = base.read_bytes()
    magic, context, vocabulary, chunks = struct.unpack("<8s3i", data[:20])
    t.equal((magic, context, vocabulary, chunks), (b"_logits_", 64, 2048, 3), "header")
    t.equal(len(data), 20 + 4 * 3 * 64 + 3 * 31 * 2 * (2048 + 4), "size")
    found = t.json("eval", "kl", "--base-file", base, small)["models"][0]
    mean, true_mean = found["kl"]["mean"]["value"], exact["kl"]["mean"]["value"]
    t.check(abs(mean - true_mean) < 0.01 * true_mean, f"KL from 16 bits and 16 nats {mean}, exact {true_mean}")
    t.check(abs(found["nll"]["value"] - exact["nll"]["value"]) < 1e-12, "NLL of the model")
    t.check(abs(found["base_nll"]["value"] - exact["base_nll"]["value"]) < 1e-3, "NLL of the base")
    t.check(t.json("eval", "kl", "--base-file", base, MOE)["models"][0]["kl"]["mean"]["value"] < 1e-5, "the base itself")
    t.refuses(t.run("eval", "kl", MOE, small, *words, "--save-base", base), INPUT, "exists already")
    t.refuses(t.run("eval", "kl", MOE, small, *FEW, "--save-base", t.scratch / "x.kld"), INPUT, "--protocol llama.cpp")
    wrong = t.scratch / "wrong.kld"
    for contents, fragment in ((b"", "not a file of llama-perplexity"), (b"GGUF" + data[4:], "does not begin with"),
                               (data[:-1], "cut short"), (data + b"x", "bytes at the end")):
        wrong.write_bytes(contents)
        t.refuses(t.run("eval", "kl", "--base-file", wrong, small), INPUT, "wrong.kld", fragment)
    t.refuses(t.run("eval", "kl", "--base-file", base, BABY), INPUT, "a vocabulary of")
    t.refuses(t.run("eval", "kl", "--base-file", base, small, "--windows", 2), INPUT, "brings its own tokens")


def test_own_text(t):
    small = compressed(t)
    words = ("eval", "kl", MOE, small, "--text", "self", "--windows", 4, "--context", 24)
    found = t.json(*words)
    t.equal(found["window_tokens"], [23] * 4, "tokens that the base wrote")
    t.check(found["models"][0]["kl"]["mean"]["value"] > 0, "a divergence")
    t.equal(t.json(*words)["models"][0]["kl"], found["models"][0]["kl"], "the same seed, the same text")
    t.check(t.json(*words, "--seed", 7)["models"][0]["kl"] != found["models"][0]["kl"], "another seed, another text")


def test_refuses(t):
    t.refuses(t.run("eval", "kl"), USAGE, "MODEL", "ram eval kl --help")
    t.refuses(t.run("eval", "kl", MOE, *FEW), INPUT, "give a model beside the base")
    t.refuses(t.run("eval", "kl", MOE, t.scratch / "none", *FEW), INPUT, "none")
    t.refuses(t.run("eval", "kl", MOE, BABY, *FEW), INPUT, "a vocabulary of")
    empty = t.scratch / "empty.txt"
    empty.write_text("")
    t.refuses(t.run("eval", "kl", MOE, MOE, "--data", empty), INPUT, "the text is empty")
    t.refuses(t.run("eval", "kl", MOE, MOE, "--text", "self", "--data", empty), INPUT, "--text self")
    # Weights that are not numbers.
    broken = copy_model(MOE, t.scratch / "broken")
    data = bytearray((broken / "model.safetensors").read_bytes())
    data[-4096:] = b"\xc0\x7f" * 2048  # BF16 NaN.
    (broken / "model.safetensors").write_bytes(data)
    t.refuses(t.run("eval", "kl", MOE, broken, *FEW, "--quiet"), INPUT, "broken", "NaN")
    # Another tokenizer of the same size makes other tokens.
    other = copy_model(MOE, t.scratch / "other")
    tokenizer = read_json(other / "tokenizer.json")
    del tokenizer["model"]["merges"][-500:]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    t.refuses(t.run("eval", "kl", MOE, other, *FEW), INPUT, "its tokenizer makes other tokens")


def test_disk(t):
    done = t.run("eval", "kl", MOE, MOE, *FEW, "--cache", "/proc/base.logits")
    t.check(done.returncode in (INPUT, MACHINE), f"a folder that cannot be written to: {done.returncode} {done.stderr}")


def main():
    t = Test()
    for test in (test_against_itself, test_against_compressed, test_cache, test_top_k, test_llama_cpp, test_own_text, test_refuses, test_disk):
        test(t)
    t.finish()


main()
