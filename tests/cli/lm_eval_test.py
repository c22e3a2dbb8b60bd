"""ram eval perplexity --protocol lm-eval against golden values of lm-evaluation-harness (tools/make_lm_eval_goldens.py)."""
import json
import math
import struct

from cli_harness import BABY, DATA, INPUT, MOE, STORIES, Test, read_safetensors

t = Test()


def read_numbers(path, name):
    dtype, shape, data = read_safetensors(path)[name]
    return list(struct.unpack(f"<{shape[0]}{ {'U64': 'Q', 'F64': 'd'}[dtype]}", data))


def check_model(model, name):
    golden = json.loads((DATA / "lm_eval" / f"wikitext_{name}.json").read_text())
    scored = [document for document in golden["documents"] if "loglikelihood" in document]
    path = t.scratch / f"{name}.scores"
    found = t.json("eval", "perplexity", model, "--protocol", "lm-eval", "--windows", len(scored), "-o", path)[0]
    t.check(f"windows of {golden['max_length']}, {len(scored)} of 62 documents" in found["settings"], found["settings"])
    for key in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        t.check(math.isclose(found[key], golden[key], rel_tol=2e-5), f"{name} {key}: {found[key]}, expected {golden[key]}")
    t.equal(found["tokens"], sum(document["tokens"] for document in scored), f"{name}: tokens")

    # The file holds what the three numbers are made of, document by document.
    words, count, tokens, nll = (read_numbers(path, f"window_{column}") for column in ("words", "bytes", "tokens", "nll"))
    t.equal(words, [document["words"] for document in scored], f"{name}: words")
    t.equal(count, [document["bytes"] for document in scored], f"{name}: bytes")
    t.equal(tokens, [document["tokens"] for document in scored], f"{name}: tokens of documents")
    for i, document in enumerate(scored):
        sum_nll = nll[i] * tokens[i]
        t.check(math.isclose(sum_nll, -document["loglikelihood"], rel_tol=1e-6),
                f"{name} document {i}: {-sum_nll}, expected {document['loglikelihood']}")
    again = sum(mean * number for mean, number in zip(nll, tokens))
    t.check(math.isclose(found["word_perplexity"], math.exp(again / sum(words)), rel_tol=1e-12), "word perplexity")
    t.check(math.isclose(found["bits_per_byte"], again / sum(count) / math.log(2), rel_tol=1e-12), "bits per byte")
    return path


def main():
    check_model(STORIES, "stories260K")
    path = check_model(MOE, "moe-8x")
    # Scores of documents go on, pair and compare as all others do.
    words = ("eval", "perplexity", MOE, "--protocol", "lm-eval", "--windows", 4, "-o", path)
    t.check("4 of 4 windows are there already" in t.run(*words).stderr, "resumed")
    text = t.run(*words)
    t.succeeds(text)
    for line in ("documents are the unit", "per word", "per byte", "bits per byte"):
        t.check(line in text.stdout, f"{line}: {text.stdout}")
    t.succeeds(t.run("compare", path, path))

    own = t.scratch / "own.txt"
    own.write_text("A text without headings is one document.\nThis is its second line.\n")
    one = t.json("eval", "perplexity", BABY, "--protocol", "lm-eval", "--data", own, "-o", t.scratch / "own.scores")[0]
    t.equal((one["words"], one["bytes"]), (13, 66), "words and bytes of an own text")
    blank = t.scratch / "bytes.txt"
    blank.write_bytes(b"a\xff")
    t.refuses(t.run("eval", "perplexity", BABY, "--protocol", "lm-eval", "--data", blank), INPUT, "UTF-8", "byte 1")
    t.refuses(t.run("eval", "perplexity", BABY, "--protocol", "lm-eval", "--bos", "replace"), INPUT, "lm-eval", "--bos")
    t.refuses(t.run("eval", "kl", BABY, BABY, "--protocol", "lm-eval"), INPUT, "lm-eval", "documents")


main()
t.finish()
