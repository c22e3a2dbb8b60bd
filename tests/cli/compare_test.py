"""ram compare: published tables judged again, what may not be paired, what it prints and refuses."""
import hashlib
import json
import math
import os
import struct
import unicodedata

from cli_harness import DATA, INPUT, USAGE, Test, read_json

GLM, QWEN3, LOGS = DATA / "stats" / "glm_replay.csv", DATA / "stats" / "qwen3_replay.csv", DATA / "ppl-logs"
GLM_LOG = LOGS / "GLM-4.7-Flash.txt"


def write_scores(path, name, windows, precision="f32", engine="ram-cpu", text=None):
    """A score file as docs/format.md describes it; windows: token id -> NLL of two tokens."""
    hashes = [hashlib.sha256(struct.pack("<3i", first, 1, 2)).digest() for first in windows]
    tensors = {"window_nll": ("F64", [len(windows)], b"".join(struct.pack("<d", sum(v) / 2) for v in windows.values())),
               "window_tokens": ("U64", [len(windows)], struct.pack(f"<{len(windows)}Q", *[2] * len(windows))),
               "window_start": ("U64", [len(windows)], struct.pack(f"<{len(windows)}Q", *windows))}
    if text:
        parts = [f"{text} {first}".encode() for first in windows]
        ends = [sum(map(len, parts[:i + 1])) for i in range(len(parts))]
        tensors["text_ends"] = ("U64", [len(parts)], struct.pack(f"<{len(parts)}Q", *ends))
        tensors["text"] = ("U8", [ends[-1]], b"".join(parts))
    tensors["token_nll"] = ("F32", [2 * len(windows)], b"".join(struct.pack("<2f", *v) for v in windows.values()))
    tensors["token_sha256"] = ("U8", [len(windows), 32], b"".join(hashes))
    description = {"model": {"name": name, "bytes": 1 << 30, "bits_per_weight": 4.5, "structure_hash": ""},
                   "numerics": {"engine": engine, "precision": precision, "isa": ""},
                   "protocol": "ram-wikitext2", "settings": "windows of 3", "resolution": 0, "windows": len(windows),
                   "text": {"name": "test", "sha256": "", "bytes": 0, "words": 0},
                   "tokens_sha256": hashlib.sha256(b"".join(hashes)).hexdigest()}
    header, at = {"__metadata__": {"format": "ram.scores.v1", "scores": json.dumps(description), "sha256": "0" * 64}}, 0
    for key, (dtype, shape, data) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-(len(head) + 8) % 64)
    data = struct.pack("<Q", len(head)) + head + b"".join(data for _, _, data in tensors.values())
    path.write_bytes(data.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + hashlib.sha256(data).hexdigest().encode(), 1))
    return path


def model_windows(shift, first=0, count=40):
    return {i: (1.5 + 0.05 * (i % 7) + shift * (1 + i % 3), 2.0) for i in range(first, first + count)}


def pair_of(group, a, b):
    return next(pair for pair in group["pairs"] if (pair["a"], pair["b"]) == (a, b))


def test_glm_replay(t):
    group = t.json("compare", GLM)["groups"][0]
    outliers = {i for i, nll in enumerate(group["models"][0]["nll"]) if nll > math.log(100)}
    t.equal(len(outliers), 5, "outliers of BF16")
    pair = pair_of(group, "Q4", "BF16")
    t.check(pair["mean"]["value"] < 0 < pair["trimmed_mean"]["interval"][0], "Q4: mean and typical window disagree")
    t.equal((pair["finding"], pair["inversion"]), ("inversion", "apparent"), "finding of Q4 against BF16")
    flip = pair["flip_set"]["windows"]
    t.check(3 <= len(flip) <= 5 and set(flip) <= outliers and pair["flip_set"]["fragile"], f"flip set {flip}")
    sentence = next(s for s in group["verdict"] if "Q4 ahead of BF16" in s)
    t.check("Rank inversion" in sentence and all(group["labels"][w] in sentence for w in flip), sentence)
    text = t.run("compare", GLM).stdout
    t.check("inversion" in text and "Windows that decide" in text, text[-500:])
    based = t.json("compare", GLM, "--base", "BF16")["groups"][0]
    t.equal([(p["a"], p["b"]) for p in based["pairs"]], [("FP16", "BF16"), ("Q4", "BF16"), ("RAM-15.8", "BF16")],
            "--base BF16")


def test_qwen3_replay(t):
    group = t.json("compare", QWEN3)["groups"][0]
    t.equal([round(m["median"], 3) for m in group["models"]], [8.971, 8.974], "medians")
    t.equal(group["pairs"][0]["finding"], "unresolved", "8.971 against 8.974")
    t.check("unresolved" in group["verdict"][0], group["verdict"])


def test_logs(t):
    model = t.json("compare", GLM_LOG)["groups"][0]["models"][0]
    t.equal((round(model["corpus"], 2), round(model["median"], 2), model["outliers_over_100"], len(model["nll"])),
            (8.60, 5.81, 46, 813), "GLM-4.7-Flash")
    t.check(model["heavy_tailed"] and model["tail_index"]["alpha"] < 1, "GLM-4.7-Flash: tail")
    qwen = (LOGS / "Qwen3.5-0.8B.txt", LOGS / "Qwen3.5-35B-A3B.txt")
    group = t.json("compare", *qwen)["groups"][0]
    t.equal(group["pairs"][0]["finding"], "resolved", "0.8B and 35B")
    t.check(not group["tokens_known"] and any("assumed" in note for note in group["notes"]), group["notes"])
    t.refuses(t.run("compare", GLM_LOG, *qwen), INPUT, "other windows", "--allow-different-windows")
    groups = t.json("compare", GLM_LOG, *qwen, "--allow-different-windows")["groups"]
    t.equal([len(g["models"]) for g in groups], [1, 2], "groups")
    named = t.json("compare", f"small={qwen[0]}", f"large={qwen[1]}")["groups"][0]
    t.equal([m["name"] for m in named["models"]], ["small", "large"], "NAME=FILE")


def test_scores(t):
    a = write_scores(t.scratch / "a.scores", "A", model_windows(0), text="words of window")
    b = write_scores(t.scratch / "b.scores", "B", model_windows(0.02))
    group = t.json("compare", a, b)["groups"][0]
    t.check(group["tokens_known"] and group["notes"] == [], f"notes: {group['notes']}")
    t.equal(group["pairs"][0]["finding"], "resolved", "B against A")
    t.equal(group["models"][0]["bytes"], 1 << 30, "bytes")
    t.equal(group["pairs"][0]["flip_set"]["texts"][0]["text"].startswith("words of window"), True, "text of a window")
    out = t.scratch / "verdict.json"
    t.succeeds(t.run("compare", a, b, "-o", out))
    t.equal(read_json(out)["groups"][0], group, "-o writes what --json prints")

    other = write_scores(t.scratch / "other.scores", "C", model_windows(0, first=100))
    t.refuses(t.run("compare", a, other), INPUT, "a.scores and", "other.scores cannot be paired", "other tokens")
    part = write_scores(t.scratch / "part.scores", "D", model_windows(0.01, count=25))
    t.refuses(t.run("compare", a, part), INPUT, "share only 25 of 40 and 25", "--common-windows")
    t.equal(t.json("compare", a, part, "--common-windows")["groups"][0]["windows"], 25, "--common-windows")
    bf16 = write_scores(t.scratch / "bf16.scores", "E", model_windows(0.01), precision="bf16")
    t.refuses(t.run("compare", a, bf16), INPUT, "numerics", "ram-cpu in f32", "--allow-different-numerics")
    mixed = t.json("compare", a, bf16, "--allow-different-numerics")["groups"][0]
    t.check(not mixed["same_numerics"] and any("arithmetic" in note for note in mixed["notes"]), mixed["notes"])
    t.refuses(t.run("compare", a, GLM_LOG), INPUT, "cannot be paired")


def test_bad_input(t):
    whole = write_scores(t.scratch / "whole.scores", "A", model_windows(0)).read_bytes()
    bad = t.scratch / "bad.scores"
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:size])
        t.refuses(t.run("compare", bad), INPUT, "bad.scores")
    bad.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    t.refuses(t.run("compare", bad), INPUT, "bad.scores", "damaged")
    bad.write_bytes(whole.replace(b"ram-cpu", b"ram-gpu"))
    t.refuses(t.run("compare", bad), INPUT, "bad.scores", "damaged")
    nan = write_scores(t.scratch / "nan.scores", "A", {**model_windows(0), 7: (math.nan, 1.0)})
    t.refuses(t.run("compare", nan), INPUT, "nan.scores", "window 7")
    t.refuses(t.run("compare", DATA / "stories260K" / "model.safetensors"), INPUT, "not a score file")

    log = GLM_LOG.read_text()
    for name, text, fragments in (
            ("short.log", log[:log.index("[400]")], ("ends after chunk 399 of 813",)),
            ("nan.log", log.replace(log[log.index("[9]"):log.index(",[10]")], "[9]nan"), ("chunk 9", "nan")),
            ("prose.txt", "a text about [1] perplexity\nand more\n", ("not a log of llama-perplexity",)),
            ("empty.log", "", ("empty",)),
            ("empty.csv", "", ("empty",)),
            ("nan.csv", "A,B\n1,2\nnan,2\n", ("line 3", "column A")),
            ("low.csv", "A,B\n1,2\n-1,2\n", ("line 3", "below 0")),
            ("tokens.csv", "tokens,A\n0,2\n", ("line 2", "tokens"))):
        path = t.scratch / name
        path.write_text(text)
        t.refuses(t.run("compare", path), INPUT, name, *fragments)
    t.refuses(t.run("compare", t.scratch / "none.scores"), INPUT, "none.scores")
    t.refuses(t.run("compare", GLM, "--base", "Q5"), INPUT, "--base Q5", "BF16, FP16, Q4")
    t.refuses(t.run("compare", f"one={GLM}"), INPUT, "4 models")
    t.refuses(t.run("compare"), USAGE, "SCORES")
    t.refuses(t.run("compare", GLM, "--values", "bits"), USAGE, "--values")


def test_values(t):
    table = t.scratch / "ppl.csv"
    table.write_text("text,A,B\n" + "".join(f'"a, {i}",{8 + i % 3},{8.5 + i % 3}\n' for i in range(30)))
    model = t.json("compare", table, "--values", "ppl")["groups"][0]["models"][0]
    t.equal(round(model["median"], 9), 9, "--values ppl")
    done = t.run("compare", table)
    t.check(t.succeeds(done) and "--values ppl" in done.stderr, f"perplexities taken for NLL: {done.stderr}")


def width(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def test_output(t):
    texts = write_scores(t.scratch / "texts.scores", "A", model_windows(0), text="größe\n\t" * 30)
    commands = [("compare", GLM), ("compare", GLM, "--detail"), ("compare", QWEN3), ("compare", GLM_LOG),
                ("compare", texts, write_scores(t.scratch / "c.scores", "a model of a very long name " * 4, model_windows(-0.03))),
                ("stats", GLM), ("stats", QWEN3)]
    for columns in (40, 80, 120):
        for locale in ("C", "C.UTF-8"):
            for words in commands:
                done = t.run(*words, env={**os.environ, "COLUMNS": str(columns), "LC_ALL": locale})
                t.succeeds(done)
                wide = [line for line in done.stdout.splitlines() if width(line) > columns]
                t.equal(wide, [], f"{words} in {columns} columns")
                t.check(locale != "C" or (done.stdout.isascii() and "?" not in done.stdout), f"{words}: not ASCII")
                t.equal([line for line in done.stdout.splitlines() if line.lstrip().startswith("% ") and columns > 60], [],
                        f"{words}: a unit without its number")
    for words in commands:
        done = t.run(*words, "--quiet")
        t.equal((done.stdout, done.stderr), ("", ""), f"{words} --quiet")
        json.loads(t.run(*words, "--json").stdout)
        t.equal(t.run(*words, "--json", "--threads", 3).stdout, t.run(*words, "--json").stdout, f"{words} twice")
    t.check("\x1b[" in t.run("compare", GLM, "--color", "always").stdout, "--color always")
    for verb in ("compare", "stats"):
        done = t.run(verb, "--help")
        t.equal([line for line in done.stdout.splitlines() if len(line) > 84], [], f"{verb} --help: wide lines")


def main():
    t = Test()
    for test in (test_glm_replay, test_qwen3_replay, test_logs, test_scores, test_bad_input, test_values, test_output):
        test(t)
    t.finish()


main()
