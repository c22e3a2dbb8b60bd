"""ram study: arms at equal bytes against independent runs, going on after a kill, noticing what changed, what it refuses."""
import json
import os
import shutil
import signal
import struct
import time

from cli_harness import (BABY, INPUT, MOE, USAGE, Test, copy_model, names_in, read_json, weights_bytes)

FEW = ("--windows", 4, "--context", 64)
ARMS = "bf16,fp16,uniform-4-64,mixed_4_6,weights,ram,flat,shuffled"
SIZES = ("uniform-4-64", "mixed_4_6", "6bpw")


def by_name(found):
    return {arm["name"]: arm for arm in found["arms"]}


def without_seconds(found):
    return {**found, "arms": [{**arm, "seconds": 0} for arm in found["arms"]]}


def study(t, name, *words):
    return t.json("study", MOE, *FEW, "-o", t.scratch / name, *words)


def test_arms(t):
    found = study(t, "whole", "--arms", ARMS, "--budget", "6bpw", "--keep-models")
    arms = by_name(found)
    plans = [f"{method}@{size}" for size in SIZES for method in ("weights", "ram", "flat", "shuffled-1")]
    t.equal(sorted(arms), sorted(["original", "fp16", "uniform-4-64", "mixed_4_6", *plans]), "arms; bf16 is the original")
    t.check(any(note.startswith("bf16: the original is stored so already") for note in found["notes"]), "a note says so")
    t.equal((arms["original"]["kl"]["value"], arms["original"]["bytes"]), (0, weights_bytes(MOE)), "the original")
    t.check(0 <= arms["fp16"]["kl"]["value"] < 1e-6, f"BF16 fits into FP16 but for small numbers: {arms['fp16']['kl']}")
    for size in SIZES:
        budget = next(entry["bytes"] for entry in found["sizes"] if entry["label"] == size)
        if size in arms:
            t.equal(arms[size]["bytes"], budget, f"the size {size} is that of its arm")
        for method in ("weights", "ram", "flat", "shuffled-1"):
            arm = arms[f"{method}@{size}"]
            t.check(budget * 0.995 < arm["bytes"] <= budget, f"{arm['name']} has the bytes of {size}: {arm['bytes']}, {budget}")
            t.equal(weights_bytes(t.scratch / "whole" / "models" / arm["name"]), arm["bytes"], "what was run")
    # The null keeps what each class has, and changes who has it.
    planned = [read_json(t.scratch / "whole" / "arms" / f"{method}@6bpw.plan.json") for method in ("weights", "shuffled-1", "flat")]
    alphas = [[module["alpha"] for module in plan["modules"]] for plan in planned]
    t.check(sorted(alphas[0]) == sorted(alphas[1]) and alphas[0] != alphas[1], "sensitivities are dealt out anew")
    t.equal(set(alphas[2]), {1}, "flat")
    t.equal(planned[1]["priors"]["shuffle_seed"], 1, "seed of the null")
    return found


def test_against_other_verbs(t, found):
    """The same arms made by ram compress, run by ram eval kl and ram eval perplexity."""
    arms = by_name(found)
    budget = arms["uniform-4-64"]["bytes"]
    ours, folder = t.scratch / "ours", t.scratch / "whole" / "models"
    t.succeeds(t.run("compress", MOE, "--budget", budget, "--quantizer", "rtn", "-o", ours))
    models = {"weights@uniform-4-64": ours, "uniform-4-64": folder / "uniform-4-64", "mixed_4_6": folder / "mixed_4_6"}
    kl = t.json("eval", "kl", MOE, *models.values(), *FEW)
    for name, other in zip(models, kl["models"]):
        t.equal(arms[name]["kl"]["value"], other["kl"]["mean"]["value"], f"KL of {name}")
        t.equal(arms[name]["window_kl"], other["window_kl"], f"KL of {name} by window")
    scores = t.json("eval", "perplexity", MOE, ours, *FEW, "-o", t.scratch / "scores")
    for name, other in zip(("original", "weights@uniform-4-64"), scores):
        for mine, its in (("corpus", "perplexity"), ("median", "median"), ("p95", "p95"), ("max", "max")):
            a, b = arms[name]["perplexity"][mine], other[its]
            t.check(abs(a - b) < 1e-5 * b, f"{mine} perplexity of {name}: {a}, {b}")
    # What the study keeps is what the other verbs read.
    compared = t.json("compare", t.scratch / "whole" / "arms" / "original.scores",
                      t.scratch / "whole" / "arms" / "mixed_4_6.scores")
    t.equal([model["name"] for model in compared["groups"][0]["models"]], ["original", "mixed_4_6"], "ram compare reads the scores")
    # A ratio of means, and its standard error by hand.
    pair = next(pair for pair in found["pairs"] if (pair["a"], pair["b"]) == ("weights@uniform-4-64", "uniform-4-64"))
    a, b = arms[pair["a"]]["window_kl"], arms[pair["b"]]["window_kl"]
    squares = sum((x / sum(a) - y / sum(b)) ** 2 for x, y in zip(a, b))
    t.check(abs(2.718281828459045 ** pair["log_kl_ratio"]["value"] - sum(a) / sum(b)) < 1e-9, "ratio of divergences")
    t.check(abs(pair["log_kl_ratio"]["standard_error"] - (4 / 3 * squares) ** 0.5) < 1e-12, "its standard error")


def test_goes_on(t, found):
    """Finished arms stay; a second run gives the same; logits and models are gone."""
    folder = t.scratch / "whole"
    t.equal(names_in(folder), ["arms", "inputs.json", "models", "report.html", "study.json"], "what a study leaves")
    t.equal(without_seconds(read_json(folder / "study.json")), without_seconds(found), "study.json is what --json says")
    before = {name: (folder / "arms" / name).stat().st_mtime_ns for name in names_in(folder / "arms")}
    done = t.run("study", MOE, *FEW, "-o", folder, "--arms", ARMS, "--budget", "6bpw")
    t.succeeds(done)
    t.check("18 of 16" not in done.stderr and "16 of 16 arms are there already" in done.stderr, f"says so: {done.stderr}")
    t.equal({name: (folder / "arms" / name).stat().st_mtime_ns for name in names_in(folder / "arms")}, before, "nothing was run")
    t.equal(read_json(folder / "study.json")["arms"], found["arms"], "the same arms")
    t.check("models" not in names_in(folder), "models are gone without --keep-models")
    page = (folder / "report.html").read_text()
    t.check("Study of moe-8x" in page and "http" not in page.replace("http-equiv", ""), "a page that loads nothing")
    for columns in (80, 140):
        done = t.run("study", MOE, *FEW, "-o", folder, "--arms", ARMS, "--budget", "6bpw", env={**os.environ, "COLUMNS": str(columns)})
        t.check(max(map(len, done.stdout.splitlines())) <= columns, f"at most {columns} columns")
    # Fewer arms of the same study need nothing to be run.
    less = study(t, "whole", "--arms", "uniform-4-64,weights")
    t.equal(sorted(by_name(less)), ["original", "uniform-4-64", "weights@uniform-4-64"], "a part of it")


def test_killed(t):
    words = ("--arms", "uniform-4-64,mixed_4_6,weights,flat")
    whole = study(t, "quiet", *words)
    folder = t.scratch / "killed"
    process = t.start("study", MOE, *FEW, "-o", folder, *words)
    for _ in range(3000):
        if (folder / "arms").exists() and len(list((folder / "arms").glob("*.kl.safetensors"))) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in (folder / "arms").glob("*.kl.safetensors")}
    t.check(3 <= len(kept) <= 7, f"killed on the way: {sorted(kept)}")
    again = study(t, "killed", *words)
    t.equal(without_seconds(again), without_seconds(whole), "an interrupted study ends as the others")
    t.equal({name: (folder / "arms" / name).stat().st_mtime_ns for name in kept}, kept, "what was done stays")
    t.equal(names_in(folder), ["arms", "inputs.json", "report.html", "study.json"], "and nothing else is left")
    # A result that was cut short is made again.
    broken = folder / "arms" / "mixed_4_6.kl.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    t.equal(without_seconds(study(t, "killed", *words)), without_seconds(whole), "a damaged result is made again")


def test_notices(t):
    words = ("--arms", "uniform-4-64,weights")
    model = copy_model(MOE, t.scratch / "model")
    folder = t.scratch / "noticed"
    run = ("study", model, *FEW, "-o", folder, *words)
    t.succeeds(t.run(*run))
    t.refuses(t.run("study", model, "--windows", 5, "--context", 64, "-o", folder, *words), INPUT, "the windows changed", "--restart")
    t.refuses(t.run(*run, "--precision", "fast"), INPUT, "the precision changed")
    t.refuses(t.run(*run, "--logits", "u16"), INPUT, "the form of the original's logits changed")
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1000] ^= 1
    (model / "model.safetensors").write_bytes(data)
    t.refuses(t.run(*run), INPUT, "the model's files changed", "noticed")
    t.succeeds(t.run(*run, "--restart"))
    # A given model that changed is run again, the others are not.
    given = t.scratch / "given"
    t.succeeds(t.run("compress", MOE, "--budget", "5bpw", "-o", given))
    first = t.json(*run, "--with", given)
    t.check({"given", "weights@given"} <= set(by_name(first)), f"arms with a given one: {sorted(by_name(first))}")
    t.check(by_name(first)["weights@given"]["bytes"] <= weights_bytes(given), "a plan of its bytes")
    shutil.rmtree(given)
    t.succeeds(t.run("compress", MOE, "--budget", "5bpw", "--objective", "ram", "-o", given))
    done = t.run(*run, "--with", given)
    t.succeeds(done)
    t.check("given: was made from something else; it is run again" in done.stderr and "arms are there already" in done.stderr,
            f"says that it changed: {done.stderr}")
    second = read_json(folder / "study.json")
    t.check(by_name(second)["given"]["kl"] != by_name(first)["given"]["kl"], "another model, another divergence")
    t.equal(by_name(second)["uniform-4-64"], by_name(first)["uniform-4-64"], "the others stay")


def test_impossible(t):
    """What a model does not allow is a note, and the rest goes on."""
    found = study(t, "small", "--arms", "uniform-4-64,weights,shuffled", "--budget", "2bpw")
    t.equal(sorted(by_name(found)), ["original", "shuffled-1@uniform-4-64", "uniform-4-64", "weights@uniform-4-64"], "arms")
    t.check(any(note.startswith("weights@2bpw: ") and "smallest plan" in note for note in found["notes"]), f"notes: {found['notes']}")
    again = study(t, "small", "--arms", "uniform-4-64,weights,shuffled", "--budget", "2bpw")
    t.equal(without_seconds(again), without_seconds(found), "again the same")
    # Weights that FP16 does not hold.
    large = copy_model(MOE, t.scratch / "large")
    data = bytearray((large / "model.safetensors").read_bytes())
    (size,) = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8 : 8 + size])["model.embed_tokens.weight"]["data_offsets"]
    data[8 + size + entry[0] : 8 + size + entry[0] + 2] = b"\x80\x4f"  # 2^32.
    (large / "model.safetensors").write_bytes(data)
    found = t.json("study", large, *FEW, "-o", t.scratch / "large-o", "--arms", "fp16,uniform-4-64")
    t.check("fp16" not in by_name(found) and any(note.startswith("fp16: ") for note in found["notes"]), f"FP16: {found['notes']}")


def test_null_is_the_same_plan(t):
    """At the size of the original there is but one plan: it is run once."""
    found = study(t, "same", "--arms", "weights,flat", "--budget", "99%")
    arms = by_name(found)
    if arms["flat@99p"]["same_as"] is not None:
        t.equal(arms["flat@99p"]["same_as"], "weights@99p", "same as")
        t.equal(arms["flat@99p"]["window_kl"], arms["weights@99p"]["window_kl"], "its numbers")
    found = study(t, "same100", "--arms", "weights,flat", "--budget", "100%")
    arms = by_name(found)
    t.equal(arms["flat@100p"]["same_as"], "weights@100p", "one plan of all 16 bits")
    t.equal(arms["weights@100p"]["kl"]["value"], 0, "which is the original")


def test_refuses(t):
    out = ("-o", t.scratch / "refused")
    t.refuses(t.run("study"), USAGE, "MODEL", "ram study --help")
    t.refuses(t.run("study", MOE, *out, "--arms", "uniform-4-63"), INPUT, 'arm "uniform-4-63"', "expected bf16, fp16")
    t.refuses(t.run("study", MOE, *out, "--arms", "ram,ram"), INPUT, "given twice")
    t.refuses(t.run("study", MOE, *out, "--arms", "weights"), INPUT, "nothing says how large the plans are to be")
    t.refuses(t.run("study", MOE, *out, "--arms", "weights", "--budget", "many"), INPUT, "budget many")
    t.refuses(t.run("study", MOE, *out, "--margin", "0"), INPUT, "--margin 0")
    t.refuses(t.run("study", MOE, *out, "--windows", 1), INPUT, "at least two")
    t.refuses(t.run("study", MOE, *out, "--protocol", "lm-eval"), INPUT, "lm-eval")
    t.refuses(t.run("study", MOE, *out, "--with", BABY, *FEW), INPUT, "a vocabulary of")
    t.refuses(t.run("study", MOE, *out, "--with", t.scratch / "none", *FEW), INPUT, "none")
    other = copy_model(MOE, t.scratch / "other")
    tokenizer = read_json(other / "tokenizer.json")
    del tokenizer["model"]["merges"][-500:]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    t.refuses(t.run("study", MOE, *out, "--with", other, *FEW), INPUT, "its tokenizer makes other tokens")
    t.check(not (t.scratch / "refused").exists(), "nothing was made for what is refused")
    full = t.folder("full")
    (full / "thesis.txt").write_text("years of work")
    for restart in ((), ("--restart",)):
        t.refuses(t.run("study", MOE, *FEW, "-o", full, *restart), INPUT, "no study")
    t.equal(names_in(full), ["thesis.txt"], "other folders are left alone")


def main():
    t = Test()
    found = test_arms(t)
    test_against_other_verbs(t, found)
    test_goes_on(t, found)
    for test in (test_killed, test_notices, test_impossible, test_null_is_the_same_plan, test_refuses):
        test(t)
    t.finish()


main()
