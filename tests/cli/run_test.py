"""Models run from the command: generate, logits, eval perplexity; every way the input can be wrong."""
import json
import math
import shutil
import struct

from cli_harness import (BABY, DATA, FAMILIES, INPUT, MACHINE, MOE, STORIES, USAGE, Test, copy_model, read_header,
                         read_safetensors, write_safetensors)

t = Test()
TEXT = t.scratch / "text.txt"
TEXT.write_text((DATA / "wikitext/first_20000.txt").read_text())


def logits(model, *words):
    out = t.scratch / "logits.safetensors"
    if t.succeeds(t.run("logits", model, *words, "-o", out, "--overwrite")):
        dtype, shape, data = read_safetensors(out)["logits"]
        return shape, struct.unpack(f"<{len(data) // 4}f", data)
    return [0, 0], ()


def test_generate():
    greedy = t.run("generate", STORIES, "-p", "Once upon a time", "-n", "30")
    t.succeeds(greedy)
    t.check(greedy.stdout.startswith(", there was a little girl named Lily."), greedy.stdout)
    t.check("tokens/s" in greedy.stderr, "rates are on standard error")
    warm = ("generate", STORIES, "-p", "Once", "-n", "20", "-t", "0.9", "--json")
    first, again, other = (json.loads(t.run(*warm, "--seed", seed).stdout) for seed in ("1", "1", "2"))
    t.equal(first["sequences"], again["sequences"], "the same seed, the same text")
    t.check(first["sequences"] != other["sequences"], "another seed, another text")
    many = json.loads(t.run(*warm, "--seed", "1", "--samples", "3").stdout)["sequences"]
    t.equal(many[0], first["sequences"][0], "a sequence does not depend on its neighbours")
    t.check(many[0] != many[1], "samples differ")
    small = json.loads(t.run(*warm, "--seed", "1", "--memory", "90MiB", "--threads", "1").stdout)
    t.equal(small["sequences"], first["sequences"], "memory and threads change nothing")
    piece = t.json("generate", STORIES, "-p", "a", "-n", "3", "--cache", "bf16")
    t.equal(len(piece["sequences"][0]["ids"]), 3, "bf16 cache")
    t.refuses(t.run("generate", MOE, "-p", "Hello", "--chat"), INPUT, "chat_template")
    t.refuses(t.run("generate", STORIES, "-p", "x" * 4000), INPUT, "512")
    t.refuses(t.run("generate", STORIES, "-p", "a", "--memory", "1MiB"), MACHINE, "memory", "needed")
    t.refuses(t.run("generate", STORIES, "-p", "a", "--isa", "avx9"), INPUT, "avx9")
    t.refuses(t.run("generate", STORIES), USAGE)


def test_logits():
    shape, values = logits(STORIES, "--ids", "1,2,3")
    t.equal(shape, [3, 512], "shape")
    t.check(all(math.isfinite(v) for v in values), "finite")
    _, reference = logits(STORIES, "--ids", "1,2,3", "--isa", "reference")
    t.check(max(abs(a - b) for a, b in zip(values, reference)) < 1e-4, "the reference engine agrees")
    _, half = logits(STORIES, "--ids", "1,2,3", "--precision", "half")
    t.check(max(abs(a - b) for a, b in zip(values, half)) < 0.5, "half precision is near")
    _, text = logits(STORIES, "--text", "Once upon")
    t.check(len(text) % 512 == 0 and text, "from a text")
    out = t.scratch / "logits.safetensors"
    t.refuses(t.run("logits", STORIES, "--ids", "1", "-o", out), INPUT, "logits.safetensors")
    t.refuses(t.run("logits", STORIES, "--ids", "1,512", "-o", out, "--overwrite"), INPUT, "512")
    t.refuses(t.run("logits", STORIES, "--ids", ",".join(["1"] * 513), "-o", out, "--overwrite"), INPUT, "513")


def test_perplexity():
    scores = t.scratch / "stories.scores"
    words = ("eval", "perplexity", STORIES, "--data", TEXT, "--protocol", "gptq", "--context", "256", "-o", scores)
    found = t.json(*words)[0]
    t.check(100 < found["perplexity"] < 130, f"perplexity {found['perplexity']}")
    t.equal(found["windows"], 48, "windows")
    t.equal(found["tokens"], 48 * 255, "tokens")
    resumed = t.run(*words)
    t.check("48 of 48 windows are there already" in resumed.stderr, resumed.stderr)
    t.refuses(t.run(*words, "--windows", "5"), INPUT, "another run", "--restart")
    few = t.json(*words, "--windows", "5", "--restart")[0]
    t.equal(few["window_nll"], found["window_nll"][:5], "the same windows, the same scores")
    some = t.json(*words, "--restart", "--memory", "81MiB", "--threads", "1")[0]
    t.equal(some["window_nll"], found["window_nll"], "memory and threads change nothing")
    for protocol, context in (("ram-wikitext2", 256), ("llama.cpp", 256), ("hf-strided", 256), ("mlx_lm", 256)):
        one = t.json("eval", "perplexity", STORIES, "--data", TEXT, "--protocol", protocol, "--context", context,
                     "--windows", "20", "-o", t.scratch / f"{protocol}.scores")[0]
        t.check(80 < one["perplexity"] < 160, f"{protocol}: {one['perplexity']}")
        if protocol == "hf-strided":  # Strides of a whole context: nothing overlaps.
            t.equal(one["window_nll"], found["window_nll"][:20], "strides of a context are gptq's windows")

    packed = t.scratch / "packed"
    t.json("compress", BABY, "--budget", "4.6bpw", "-o", packed)
    both = t.scratch / "both"
    table = t.run("eval", "perplexity", BABY, packed, "--data", TEXT, "--protocol", "gptq", "--context", "256",
                  "-o", both)
    t.succeeds(table)
    t.check("babyllama-105" in table.stdout and "packed" in table.stdout, table.stdout)
    compared = t.run("compare", both / "babyllama-105.scores", both / "packed.scores")
    t.succeeds(compared)
    for line in (table.stdout + compared.stdout).splitlines():
        t.check(len(line) <= 80, f"wider than 80: {line}")
    until = t.json("eval", "perplexity", packed, "--data", TEXT, "--protocol", "gptq", "--context", "256", "-o",
                   t.scratch / "until.scores", "--until", "50%", "--against", both / "babyllama-105.scores")[0]
    t.check(until["windows"] <= 78, "stops early")
    # Windows are paired by their tokens: in another order they are as near as ever, so few are enough.
    seeds = ("--data", TEXT, "--context", "256", "--seed")
    t.json("eval", "perplexity", BABY, *seeds, "42", "-o", t.scratch / "order.scores")
    near = t.json("eval", "perplexity", packed, *seeds, "7", "-o", t.scratch / "shuffled.scores", "--until", "2%",
                  "--against", t.scratch / "order.scores")[0]
    t.check(near["windows"] < 78, f"stops early in another order, after {near['windows']} windows")
    t.refuses(t.run("eval", "perplexity", packed, "--data", TEXT, "--context", "128", "-o", t.scratch / "other.scores",
                    "--until", "1%", "--against", both / "babyllama-105.scores"), INPUT, "babyllama-105.scores", "other tokens")
    t.refuses(t.run("eval", "perplexity", packed, "--data", TEXT, "--protocol", "gptq", "--context", "256", "--numerics", "mlx",
                    "-o", t.scratch / "other.scores", "--until", "1%", "--against", both / "babyllama-105.scores"),
              INPUT, "different numerics", "--allow-different-numerics")
    t.refuses(t.run("eval", "perplexity", packed, *seeds, "7", "-o", t.scratch / "other.scores", "--until", "1%", "--against",
                    t.scratch / "missing.scores"), INPUT, "missing.scores")

    # The same shapes, other weights: scores of one folder are not gone on with for the other.
    for quantizer in ("rtn", "opt"):
        t.json("compress", BABY, "--budget", "5.3bpw", "--menu", "4,32", "--quantizer", quantizer, "-o", t.scratch / quantizer)
    few = ("--data", TEXT, "--context", "256", "--windows", "3", "-o", t.scratch / "quantized.scores")
    t.succeeds(t.run("eval", "perplexity", t.scratch / "rtn", *few))
    t.refuses(t.run("eval", "perplexity", t.scratch / "opt", *few), INPUT, "quantized.scores", "other weights", "--restart")
    t.succeeds(t.run("eval", "perplexity", t.scratch / "opt", *few, "--restart"))

    empty = t.scratch / "empty.txt"
    empty.write_text("")
    t.refuses(t.run("eval", "perplexity", STORIES, "--data", empty), INPUT, "empty.txt", "empty")
    short = t.scratch / "short.txt"
    short.write_text("too short")
    t.refuses(t.run("eval", "perplexity", STORIES, "--data", short), INPUT, "tokens", "2048")
    t.refuses(t.run("eval", "perplexity", STORIES, "--data", TEXT, "--context", "1024"), INPUT, "512")
    t.refuses(t.run("eval", "perplexity", STORIES, "--until", "1%"), INPUT, "--against")
    t.refuses(t.run("eval", "perplexity", MOE, "--memory", "2MiB"), MACHINE, "memory", "needed")


def damaged(name, change):
    """A copy of the small Llama whose tensors were changed."""
    folder = copy_model(STORIES, t.scratch / name, without=("greedy_n200.expected.txt",))
    tensors = read_safetensors(folder / "model.safetensors")
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    return folder


def test_bad_models():
    def with_nan(tensors):
        dtype, shape, data = tensors["model.layers.2.self_attn.q_proj.weight"]
        tensors["model.layers.2.self_attn.q_proj.weight"] = (dtype, shape, data[:80] + struct.pack("<f", math.nan) + data[84:])

    def huge(tensors):
        name = "model.layers.1.mlp.down_proj.weight"
        dtype, shape, data = tensors[name]
        tensors[name] = (dtype, shape, struct.pack("<f", 3e38) * (len(data) // 4))

    def other_shape(tensors):
        dtype, shape, data = tensors["model.layers.0.self_attn.k_proj.weight"]
        tensors["model.layers.0.self_attn.k_proj.weight"] = (dtype, [shape[0] // 2, shape[1]], data[: len(data) // 2])

    def missing(tensors):
        del tensors["model.layers.4.mlp.up_proj.weight"]

    for name, change, fragments in (("nan", with_nan, ["layers.2.self_attn.q_proj"]),
                                    ("huge", huge, ["layer 1 turns window 0", "not numbers"]),
                                    ("shape", other_shape, ["layers.0.self_attn.k_proj"]),
                                    ("missing", missing, ["layers.4.mlp.up_proj"])):
        folder = damaged(name, change)
        done = t.run("eval", "perplexity", folder, "--data", TEXT, "--protocol", "gptq", "--context", "128", "-o",
                     t.scratch / f"{name}.scores")
        t.refuses(done, INPUT, *fragments)
        t.check(not (t.scratch / f"{name}.scores").exists(), f"{name}: no scores are left")

    folder = copy_model(STORIES, t.scratch / "vocabulary", without=("greedy_n200.expected.txt",))
    shutil.copyfile(MOE / "tokenizer.json", folder / "tokenizer.json")
    t.refuses(t.run("eval", "perplexity", folder, "--data", TEXT, "--context", "256"), INPUT, "512")
    cut = copy_model(STORIES, t.scratch / "cut", without=("greedy_n200.expected.txt",))
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[:-100])
    t.refuses(t.run("logits", cut, "--ids", "1", "-o", t.scratch / "cut.safetensors"), INPUT, "model.safetensors")


def test_every_family_runs():
    for folder in FAMILIES:
        shape, _ = logits(folder, "--ids", "5,6,7,8", "--numerics", "mlx")
        t.equal(shape[0], 4, folder.name)


for test in (test_generate, test_logits, test_perplexity, test_bad_models, test_every_family_runs):
    test()
t.finish()
