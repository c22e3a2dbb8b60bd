#!/usr/bin/env python3
"""Measures what quantization costs: models of `ram compress` against models of mlx-lm of the same bytes.

    python3 measure_quality.py MODEL TEXT --ram build/ram --windows 32 --length 512

MODEL is a checkpoint, TEXT a file. For every baseline (--baselines) mlx-lm itself quantizes MODEL; the bytes of its
safetensors files are the budget of every arm (--arms) of ram. All are loaded by mlx-lm (strictly) and run in float32
on the same windows of TEXT, which do not overlap. Per window: the mean over tokens of the KL divergence of the
quantized model from the original over the whole vocabulary, in nats, log-softmax in float64; and perplexity.

    baseline   uniform:BITS,GROUP or a recipe of mlx-lm and its group: mixed_4_6:GROUP
    arm        OBJECTIVE:QUANTIZER; objectives weights, ram, and two controls:
               flat   weights with every class and depth 1, head and embedding as they are
               equal  all of it 1, head and embedding too

Printed per arm, paired with its baseline by window: ratio of the mean divergences with a 95 % bootstrap interval, mean
difference with Student's t and its 95 % interval; the ratio to the first arm; and "predicted", the plan's cost by the
fitted sensitivities and the rate table as a share of the baseline's. All models are in memory at once, and divergences
are computed on the CPU: meant for small models. Interrupted, it reports the windows that are done. docs/quality.md has
results.

Needs numpy, mlx-lm.
"""
import argparse
import contextlib
import json
import math
import pathlib
import shutil
import signal
import struct
import subprocess
import sys

import mlx.core as mx
import numpy as np
from mlx_lm.convert import convert
from mlx_lm.utils import dequantize_model, load_model
from tokenizers import Tokenizer

PRIORS = pathlib.Path(__file__).resolve().parent.parent / "ram" / "plan" / "priors.json"
BASELINES = ["uniform:4,64", "mixed_4_6:64"]
ARMS = ["weights:rtn", "weights:rtn+", "weights:opt", "ram:rtn", "flat:rtn", "equal:rtn"]


def safetensors_bytes(folder):
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


def with_dtype(source, dtype, out):
    """Copy of a checkpoint with its floating-point tensors in dtype."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*.safetensors"))
    for file in source.glob("*.safetensors"):
        tensors = mx.load(str(file))
        tensors = {k: v.astype(dtype) if mx.issubdtype(v.dtype, mx.floating) else v for k, v in tensors.items()}
        mx.save_safetensors(str(out / file.name), tensors, {"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config["torch_dtype"] = str(dtype).rsplit(".", 1)[-1]
    (out / "config.json").write_text(json.dumps(config, indent=2))
    return out


def write_baseline(source, spec, out):
    """A model as `mlx_lm.convert -q` writes it."""
    kind, sizes = spec.split(":")
    sizes = [int(s) for s in sizes.split(",")]
    recipe = None if kind == "uniform" else kind
    with contextlib.redirect_stdout(sys.stderr):
        convert(str(source), str(out), quantize=True, q_bits=None if recipe else sizes[0], q_group_size=sizes[-1],
                quant_predicate=recipe)
    return out


def write_priors(work):
    """The two controls: tables without knowledge of classes, and without any."""
    flat = json.loads(PRIORS.read_text())
    flat["origin"] = "control"
    flat["class_factors"] = dict.fromkeys(flat["class_factors"], 1)
    flat["depth"] = [[0, 1], [1, 1]]
    tables = {"flat": flat, "equal": {**flat, "head": 1, "embedding": 1, "tied_embedding": 1}}
    for name, table in tables.items():
        (work / f"{name}.json").write_text(json.dumps(table))


def ram(args, *arguments):
    subprocess.run([args.ram, *map(str, arguments), "--quiet", "--cache", str(args.work / "cache")], check=True)


def write_arm(args, source, arm, budget, out):
    objective, quantizer = arm.split(":")
    priors = []
    if objective in ("flat", "equal"):
        priors = ["--priors", args.work / f"{objective}.json"]
        objective = "weights"
    ram(args, "compress", source, "--budget", budget, "--objective", objective, "--quantizer", quantizer, *priors,
        "-o", out)
    return out


def stored_choices(folder):
    """{module: "bits,group"} of what a model directory holds; modules in 16 bits are absent."""
    quantization = json.loads((folder / "config.json").read_text())["quantization"]
    names = set()
    for file in folder.glob("*.safetensors"):
        with open(file, "rb") as f:
            names |= json.loads(f.read(struct.unpack("<Q", f.read(8))[0])).keys()
    choices = {}
    for name in names:
        if name.endswith(".scales"):
            module = quantization.get(name.removesuffix(".scales"), quantization)
            choices[name.removesuffix(".scales")] = f"{module['bits']},{module['group_size'] or 64}"
    return choices


def predicted_cost(folder, rates, alpha):
    """Sum of alpha x relative squared error, by plain rounding, of a model directory."""
    choices = stored_choices(folder)
    cost = 0.0
    for module in rates["modules"]:
        if module["name"] in choices and module["sum_squares"] > 0:
            error = module["sum_squares_error"][module["choices"].index(choices[module["name"]])]
            cost += alpha[module["name"]] * error / module["sum_squares"]
    return cost


def load_float32(folder):
    model, _ = load_model(folder, strict=True)
    model.set_dtype(mx.float32)
    return dequantize_model(model)  # The same values; dense products are several times faster on a CPU.


def log_probabilities(model, tokens):
    logits = np.array(model(mx.array(tokens)[None])[0], copy=True)
    assert logits.dtype == np.float32
    logits = logits[:-1].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def evaluate(models, windows):
    """{name: (KL, NLL)}, arrays over the windows: means over tokens. The first model is the reference."""
    results = {name: [] for name in models}
    try:
        for number, tokens in enumerate(windows):
            reference = None
            row = []
            for model in models.values():
                logp = log_probabilities(model, tokens)
                if reference is None:
                    reference, p = logp, np.exp(logp)
                row.append(((p * (reference - logp)).sum(-1).mean(), -logp[np.arange(len(logp)), tokens[1:]].mean()))
            for name, values in zip(results, row):
                results[name].append(values)
            print(f"window {number + 1} of {len(windows)}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return {name: np.array(values).T for name, values in results.items()}


def t_quantile(df):
    """97.5 % point of Student's t (Cornish-Fisher; within 0.001 from 6 degrees of freedom)."""
    z = 1.959963984540054
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2) + (
        3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)


def paired(arm, base):
    n = len(arm)
    difference = arm - base
    error = difference.std(ddof=1) / math.sqrt(n)
    half = t_quantile(n - 1) * error
    draws = np.random.default_rng(42).multinomial(n, [1 / n] * n, 10000)
    low, high = np.quantile((draws @ arm) / (draws @ base), [0.025, 0.975])
    return {"ratio": arm.mean() / base.mean(), "ratio_interval": [low, high], "difference": difference.mean(),
            "difference_interval": [difference.mean() - half, difference.mean() + half], "t": difference.mean() / error}


def print_tables(report):
    original = report["original"]
    print(f"\n{report['windows']} windows of {report['length']} tokens; original: {original['bytes']:,} bytes, "
          f"perplexity {original['perplexity']:.4f}")
    for base in report["baselines"]:
        print(f"\n| {base['name']} | bytes | KL | perplexity | ratio of KL | difference of KL | t | to the first arm "
              "| predicted |")
        print("|---|---|---|---|---|---|---|---|---|")
        print(f"| mlx-lm | {base['bytes']:,} | {base['kl']:.5f} | {base['perplexity']:.3f} | 1 | | | | 1 |")
        for arm in base["arms"]:
            p, first = arm["paired"], ""
            if arm is not base["arms"][0]:
                q = paired(np.array(arm["kl_windows"]), np.array(base["arms"][0]["kl_windows"]))
                first = f"{q['ratio']:.2f} ({q['ratio_interval'][0]:.2f} to {q['ratio_interval'][1]:.2f})"
            (low, high), (least, most) = p["ratio_interval"], p["difference_interval"]
            print(f"| {arm['name']} | {arm['bytes']:,} | {arm['kl']:.5f} | {arm['perplexity']:.3f} "
                  f"| **{p['ratio']:.3f}** ({low:.3f} to {high:.3f}) "
                  f"| {p['difference']:+.5f} ({least:+.5f} to {most:+.5f}) | {p['t']:+.1f} | {first} "
                  f"| {arm['predicted']:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--ram", default="build/ram", help="the command")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    parser.add_argument("--baselines", nargs="+", default=BASELINES)
    parser.add_argument("--arms", nargs="*", default=ARMS)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], help="the original in this type first")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("quality-work"),
                        help="a new folder for the models")
    parser.add_argument("--json", type=pathlib.Path, help="write the result, every window, here")
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    source = args.model
    if args.dtype:
        source = with_dtype(source, getattr(mx, args.dtype), args.work / "original")
    # Not through transformers, which drops characters that a Llama vocabulary lacks.
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    ids = tokenizer.encode(args.text.read_bytes().decode()).ids
    count = min(args.windows, len(ids) // args.length)
    windows = np.array(ids[:count * args.length]).reshape(count, args.length)

    write_priors(args.work)
    ram(args, "measure", source, "-o", args.work / "rates.json")
    rates = json.loads((args.work / "rates.json").read_text())
    folders = {"original": source}
    for base in args.baselines:
        folders[base] = write_baseline(source, base, args.work / base)
        budget = safetensors_bytes(folders[base])
        for arm in args.arms:
            folders[f"{base}/{arm}"] = write_arm(args, source, arm, budget, args.work / f"{base}-{arm}")
    # Sensitivities as ram computes them for this model; any plan has them.
    reference_plan = args.work / "plan.json"
    ram(args, "plan", args.work / "rates.json", "--budget", safetensors_bytes(source), "-o", reference_plan)
    alpha = {m["name"]: m["alpha"] for m in json.loads(reference_plan.read_text())["modules"]}

    results = evaluate({name: load_float32(folder) for name, folder in folders.items()}, windows)
    if len(results["original"]) == 0:
        sys.exit("no window was finished")
    summary = {name: {"name": name.split("/")[-1], "bytes": safetensors_bytes(folder), "kl": results[name][0].mean(),
                      "perplexity": math.exp(results[name][1].mean()), "kl_windows": results[name][0].tolist(),
                      "nll_windows": results[name][1].tolist()} for name, folder in folders.items()}
    report = {"model": args.model.name, "text": args.text.name, "dtype": args.dtype,
              "windows": len(results["original"][0]), "length": args.length, "original": summary["original"],
              "baselines": []}
    for base in args.baselines:
        cost = predicted_cost(folders[base], rates, alpha)
        arms = []
        for arm in args.arms:
            name = f"{base}/{arm}"
            arms.append({**summary[name], "paired": paired(results[name][0], results[base][0]),
                         "predicted": predicted_cost(folders[name], rates, alpha) / cost})
        report["baselines"].append({**summary[base], "arms": arms})
    print_tables(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
