#!/usr/bin/env python3
"""Fits ram/plan/priors.json: how much a relative squared error in a tensor matters, by what the tensor is.

    python3 fit_priors.py                               print the fit beside the rounded table
    python3 fit_priors.py --write ram/plan/priors.json  write the table
    python3 fit_priors.py --check ram/plan/priors.json  exit 1 if the file holds anything else

Data: tools/data/tensor-kld. For a tensor t of class c inside the layers of model m, at position x in [0, 1],

    log KL(t) = model[m] + class[c] + depth(x) + noise,      depth linear between KNOTS.

Least squares with Huber weights, the same total weight for every model, and small quadratic penalties: on
classes, which shrinks those that one or two models stand for towards 1; on depth, for size and bends.
Head and embedding are multiples of the geometric mean over the layer tensors of their model: the median over
models. A tied embedding does both jobs and gets their sum. No term in the size of a tensor: a relative error
does the same relative harm to the output of a small tensor as of a large one. docs/allocation.md has more.

Needs numpy.
"""
import argparse
import csv
import json
import math
import pathlib
import re
import statistics
import sys

import numpy as np

DATA = pathlib.Path(__file__).resolve().parent / "data" / "tensor-kld"
MODELS = ["GLM-4.5-Air", "GLM-4.7-Flash", "Qwen3-4B-Instruct-2507", "Qwen3-VL-235B-A22B-Instruct",
          "Qwen3.5-9B", "Qwen3.5-35B-A3B"]
ORIGIN = (f"Fitted by tools/fit_priors.py to the KL divergence that each tensor of six models ({', '.join(MODELS)}) "
          "causes alone at about 2 bits, measured by Thireus/GGUF-Tool-Suite (commit 384c1f85, MIT).")

# Name in a GGUF file, without "blk.N." and ".weight" -> class of the fit.
FIT_CLASS = {
    "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o",
    "ffn_gate": "gate_up", "ffn_up": "gate_up", "ffn_down": "down",
    "ffn_gate_exps": "expert_gate_up", "ffn_up_exps": "expert_gate_up", "ffn_down_exps": "expert_down",
    "ffn_gate_shexp": "shared_expert", "ffn_up_shexp": "shared_expert", "ffn_down_shexp": "shared_expert",
    "attn_kv_a_mqa": "mla_kv_a", "attn_k_b": "mla_embed_q", "attn_v_b": "mla_unembed_out",
    "attn_q_a": "mla_q_a", "attn_q_b": "mla_q_b",
    "attn_qkv": "linear_qkv", "attn_gate": "linear_gate", "ssm_out": "linear_out",
    "ssm_alpha": "linear_alpha_beta", "ssm_beta": "linear_alpha_beta",
    "output": "head", "token_embd": "embedding",
}
# Class of ram/family/catalog.h -> class of the fit, in the order of the file.
CLASSES = {
    "down": "down", "gate": "gate_up", "up": "gate_up", "q": "q", "k": "k", "v": "v", "o": "o",
    "expert_gate": "expert_gate_up", "expert_up": "expert_gate_up", "expert_down": "expert_down",
    "shared_expert": "shared_expert", "first_dense": "first_dense",
    "mla_kv_a": "mla_kv_a", "mla_embed_q": "mla_embed_q", "mla_unembed_out": "mla_unembed_out",
    "mla_q_a": "mla_q_a", "mla_q_b": "mla_q_b",
    "linear_qkv": "linear_qkv", "linear_gate": "linear_gate", "linear_out": "linear_out",
    "linear_alpha_beta": "linear_alpha_beta",
}

KNOTS = [0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1]
# Decisions, not fitted.
DEPTH_SHARE = 0.5     # How much of the fitted depth effect (in logarithms) the table keeps.
STEP = 0.05           # Factors are rounded to this: the data say no more.
BY_HAND = {           # Rounded otherwise: to one decimal, what rests on one or two models towards a neighbour.
    "down": 2.8, "gate_up": 2.3,                # Dense MLPs: two models.
    "mla_kv_a": 1.8, "first_dense": 0.8,        # One model; two models with one layer each.
}
LARGEST_ROUNDING = 0.08  # No rounded factor may be further than this from its fit, relatively.
# Penalties per squared logarithm, where every model has the weight of 100 tensors.
CLASS_PENALTY, DEPTH_PENALTY, BEND_PENALTY = 0.3, 0.4, 0.1


class Tensor:
    def __init__(self, fit_class, position, log_kld):
        self.fit_class = fit_class
        self.position = position  # None outside the layers
        self.log_kld = log_kld    # About the median of the model


def read_model(path):
    """The tensors of one model that every probe has measured."""
    probes, classes, layers = {}, {}, {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["tensor"]
            block = re.match(r"blk\.(\d+)\.", name)
            fit_class = FIT_CLASS.get(re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight"))
            if fit_class is None or not row["kld_nats"]:
                continue
            classes[name] = fit_class
            layers[name] = int(block[1]) if block else None
            probes.setdefault(row["probe_type"], {})[name] = float(row["kld_nats"])
    logs = {}
    for klds in probes.values():
        # The smallest value is what the measurement shows without any error; and below 2 % of the median
        # nothing is known but that it is small.
        noise = min(klds.values())
        middle = statistics.median(klds.values()) - noise
        for name, kld in klds.items():
            logs.setdefault(name, []).append(math.log(max((kld - noise) / middle, 0.02)))
    num_layers = 1 + max(layer for layer in layers.values() if layer is not None)
    has_experts = any(fit_class.startswith("expert") for fit_class in classes.values())
    is_tied = "head" not in classes.values()
    tensors = []
    for name, fit_class in classes.items():
        if len(logs[name]) < len(probes):
            continue
        if has_experts and fit_class in ("gate_up", "down"):
            fit_class = "first_dense"
        if is_tied and fit_class == "embedding":
            fit_class = "tied_embedding"  # One model, saturated: not used.
        position = None if layers[name] is None else (layers[name] + 0.5) / num_layers
        tensors.append(Tensor(fit_class, position, statistics.fmean(logs[name])))
    return tensors


def hat_functions(position):
    """Weights of KNOTS whose sum interpolates linearly at `position`."""
    return np.array([np.interp(position, KNOTS, row) for row in np.eye(len(KNOTS))])


def solve_robustly(design, target, weights, penalty):
    """Penalised least squares; residuals beyond one robust standard deviation count linearly."""
    trust = np.ones(len(target))
    for _ in range(40):
        scaled = design * (weights * trust)[:, None]
        solution = np.linalg.solve(design.T @ scaled + penalty, scaled.T @ target)
        residuals = np.abs(target - design @ solution)
        spread = 1.4826 * np.median(residuals)
        trust = np.minimum(1, spread / np.maximum(residuals, 1e-12))
    return solution


def fit(models):
    """Factors by class, depth factors at KNOTS, and multiples of head and embedding."""
    inside = [[t for t in tensors if t.position is not None] for tensors in models]
    names = sorted({t.fit_class for tensors in inside for t in tensors})
    class_at, depth_at = len(models), len(models) + len(names)
    rows, target, weights = [], [], []
    for m, tensors in enumerate(inside):
        for t in tensors:
            row = np.zeros(depth_at + len(KNOTS))
            row[m] = row[class_at + names.index(t.fit_class)] = 1
            row[depth_at:] = hat_functions(t.position)
            rows.append(row)
            target.append(t.log_kld)
            weights.append(100 / len(tensors))
    penalty = np.diag([1e-6] * len(models) + [CLASS_PENALTY] * len(names) + [DEPTH_PENALTY] * len(KNOTS))
    for left, middle, right in zip(range(len(KNOTS)), range(1, len(KNOTS)), range(2, len(KNOTS))):
        rise, fall = KNOTS[middle] - KNOTS[left], KNOTS[right] - KNOTS[middle]
        bend = np.zeros(len(penalty))  # Change of slope at the middle knot.
        bend[[depth_at + left, depth_at + middle, depth_at + right]] = 1 / rise, -1 / rise - 1 / fall, 1 / fall
        penalty += BEND_PENALTY * np.outer(bend, bend)

    solution = solve_robustly(np.array(rows), np.array(target), np.array(weights), penalty)
    depth = solution[depth_at:]
    depth = depth - np.mean([hat_functions(x) @ depth for x in np.linspace(0, 1, 201)])
    ends = {}
    for end in ("head", "embedding"):
        above_mean = [t.log_kld - statistics.fmean(u.log_kld for u in layer_tensors)
                      for tensors, layer_tensors in zip(models, inside) for t in tensors if t.fit_class == end]
        ends[end] = math.exp(statistics.median(above_mean))
    return dict(zip(names, np.exp(solution[class_at:depth_at]))), np.exp(DEPTH_SHARE * depth), ends


def rounded(value):
    return round(STEP * round(value / STEP), 2)


def shortest(value):
    return json.dumps(int(value) if value == int(value) else value)


def priors_text(factors, depth, head, embedding):
    lines = [f'"{name}": {shortest(factors[fit_class])}' for name, fit_class in CLASSES.items()]
    points = [f"[{shortest(x)}, {shortest(y)}]" for x, y in zip(KNOTS, depth)]
    return "\n".join([
        "{", '"format": "ram.priors.v1",', f'"origin": {json.dumps(ORIGIN)},', '"class_factors": {',
        ",\n".join(lines), "},", f'"depth": [{", ".join(points)}],', f'"head": {head},',
        f'"embedding": {embedding},', f'"tied_embedding": {head + embedding}', "}", ""])


def main():
    options = argparse.ArgumentParser(description="Fits the table of sensitivities (see the top of this file).")
    options.add_argument("--write", metavar="FILE")
    options.add_argument("--check", metavar="FILE")
    arguments = options.parse_args()

    models = [read_model(DATA / f"{name}.csv") for name in MODELS]
    fitted, fitted_depth, ends = fit(models)
    factors = {fit_class: BY_HAND.get(fit_class, rounded(value)) for fit_class, value in fitted.items()}
    depth = [rounded(value) for value in fitted_depth]
    head, embedding = round(ends["head"]), round(ends["embedding"])

    print(f"{'class':<20}{'models':>7}{'tensors':>9}{'fitted':>9}{'table':>8}")
    for fit_class in dict.fromkeys(CLASSES.values()):
        counts = [sum(t.fit_class == fit_class for t in tensors) for tensors in models]
        print(f"{fit_class:<20}{sum(map(bool, counts)):>7}{sum(counts):>9}"
              f"{fitted[fit_class]:>9.3f}{factors[fit_class]:>8}")
    print(f"\n{'position':<20}" + "".join(f"{x:>8}" for x in KNOTS))
    print(f"{'fitted':<20}" + "".join(f"{x:>8.3f}" for x in fitted_depth))
    print(f"{'table':<20}" + "".join(f"{x:>8}" for x in depth))
    print(f"\nhead {ends['head']:.1f} -> {head}, embedding {ends['embedding']:.1f} -> {embedding}, "
          f"tied embedding {head + embedding}")

    pairs = [(factors[c], fitted[c]) for c in fitted] + list(zip(depth, fitted_depth))
    if max(abs(table / value - 1) for table, value in pairs) > LARGEST_ROUNDING:
        sys.exit(f"a rounded factor is more than {LARGEST_ROUNDING:.0%} from its fit")
    text = priors_text(factors, depth, head, embedding)
    if arguments.write:
        pathlib.Path(arguments.write).write_text(text, encoding="utf-8")
    if arguments.check and pathlib.Path(arguments.check).read_text(encoding="utf-8") != text:
        sys.exit(f"{arguments.check} differs from the fit; write it again with --write")


if __name__ == "__main__":
    main()
