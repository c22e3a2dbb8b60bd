"""ram eval kl against numpy in f64, from the logits of ram logits; llama.cpp's file read and written here."""
import json
import struct

import numpy as np
from harness import ROOT, Report, arguments, run, run_json
from safetensors.numpy import load_file

MOE = ROOT / "models" / "moe-8x"
CONTEXT, WINDOWS = 64, 4
TOLERANCE = 1e-6


def logits_of(args, model, ids, out):
    run(args.ram, "logits", model, "--ids", ",".join(map(str, ids)), "-o", out, "--overwrite")
    return load_file(out)["logits"].astype(np.float64)


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergences(base, model, targets):
    """Every number of every token, from log-probabilities [tokens, vocabulary]."""
    p, q, at = np.exp(base), np.exp(model), np.arange(len(targets))
    mixed = np.log((p + q) / 2)
    top = [np.argsort(-x, axis=1, kind="stable")[:, :5] for x in (base, model)]
    return {"kl": (p * (base - model)).sum(1),
            "reverse_kl": (q * (model - base)).sum(1),
            "jensen_shannon": ((p * (base - mixed)).sum(1) + (q * (model - mixed)).sum(1)) / 2,
            "delta_p": q[at, targets] - p[at, targets],
            "base_nll": -base[at, targets],
            "nll": -model[at, targets],
            "top5": np.array([len(set(a) & set(b)) / 5 for a, b in zip(*top)]),
            "same_top": (top[0][:, 0] == top[1][:, 0]).astype(np.uint8)}


def windows_in(path):
    """The tokens of llama.cpp's file, and its rows as (ln p, whether it counts)."""
    data = path.read_bytes()
    magic, context, vocabulary, chunks = struct.unpack("<8s3i", data[:20])
    assert magic == b"_logits_"
    tokens = np.frombuffer(data, "<i4", chunks * context, 20).reshape(chunks, context)
    width = 2 * ((vocabulary + 1) // 2) + 4
    rows = np.frombuffer(data, "<u2", offset=20 + tokens.nbytes).reshape(-1, width)
    header = np.ascontiguousarray(rows[:, :4]).view("<f4").astype(np.float64)
    return tokens, header[:, 1:2] + header[:, :1] * rows[:, 4:4 + vocabulary]


def check_summary(report, found, expected, windows):
    """The summary that the command prints, from numpy's numbers of every token."""
    for name in ("kl", "reverse_kl", "jensen_shannon", "delta_p"):
        values = expected[name]
        for key, level in (("p99.9", 99.9), ("p99", 99), ("p95", 95), ("p90", 90), ("p50", 50), ("p10", 10), ("p5", 5), ("p1", 1)):
            report.check(abs(found[name][key] - np.percentile(values, level)) < TOLERANCE, f"{name} {key}")
        report.check(abs(found[name]["mean"]["value"] - values.mean()) < TOLERANCE, f"mean {name}")
        means = values.reshape(windows, -1).mean(1)
        error = means.std(ddof=1) / np.sqrt(windows)
        report.check(abs(found[name]["mean"]["standard_error"] - error) < TOLERANCE, f"standard error of {name}")
    report.check(abs(found["rms_delta_p"] - np.sqrt((expected["delta_p"] ** 2).mean())) < TOLERANCE, "RMS delta p")
    report.check(abs(found["same_top"]["value"] - expected["same_top"].mean()) < TOLERANCE, "same top")
    report.check(abs(found["top5"]["value"] - expected["top5"].mean()) < TOLERANCE, "top 5")
    correlation = np.corrcoef(expected["base_nll"], expected["nll"])[0, 1]
    report.check(abs(found["correlation"] - correlation) < TOLERANCE, "correlation")
    ratio = (expected["nll"] - expected["base_nll"]).mean()
    report.check(abs(found["log_ratio"]["value"] - ratio) < TOLERANCE, "log ratio")


def main():
    args, report = arguments(), Report()
    small, kld = args.scratch / "small", args.scratch / "base.kld"
    run(args.ram, "compress", MOE, "--budget", "4bpw", "-o", small)
    words = ("--protocol", "llama.cpp", "--context", CONTEXT, "--windows", WINDOWS)
    found = run_json(args.ram, "eval", "kl", MOE, small, *words, "--save-base", kld, "-o", args.scratch)["models"][0]
    tokens = load_file(args.scratch / "small.kl.safetensors")

    # The exact divergence, from logits of whole windows.
    windows, rows = windows_in(kld)
    first = CONTEXT // 2
    exact, model_rows = [], []
    for ids in windows.tolist():
        base, model = (log_softmax(logits_of(args, folder, ids, args.scratch / "logits"))[first:-1] for folder in (MOE, small))
        exact.append(divergences(base, model, np.array(ids[first + 1:])))
        model_rows.append(model)
    expected = {name: np.concatenate([part[name] for part in exact]) for name in exact[0]}
    for name, values in expected.items():
        worst = np.abs(tokens[name].astype(np.float64) - values).max()
        report.check(worst < TOLERANCE, f"{name} of every token: off by {worst}")
    check_summary(report, found, expected, WINDOWS)

    # What llama.cpp makes of its own file: probabilities above e^-16 only, as they are stored.
    from_file = run_json(args.ram, "eval", "kl", "--base-file", kld, small)["models"][0]
    model = np.concatenate(model_rows)
    kept = np.where(rows > -16, np.exp(rows) * (rows - model), 0).sum(1)
    report.check(abs(from_file["kl"]["mean"]["value"] - kept.mean()) < TOLERANCE, "KL by llama.cpp's rule")
    report.check(abs(from_file["kl"]["max"] - kept.max()) < 2 * TOLERANCE, "largest KL by llama.cpp's rule")
    targets = windows[:, first + 1:].ravel()
    base_nll = -rows[np.arange(len(targets)), targets]
    report.check(abs(from_file["base_nll"]["value"] - base_nll.mean()) < TOLERANCE, "NLL of the base in the file")
    print(json.dumps({"mean_kl": found["kl"]["mean"]["value"], "numpy": expected["kl"].mean(), "from_file": kept.mean()}))
    report.finish()


main()
