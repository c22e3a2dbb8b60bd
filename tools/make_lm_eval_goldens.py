#!/usr/bin/env python3
"""What lm-evaluation-harness 0.4.11 makes of the task wikitext: golden values for tests/cli/lm_eval_test.py.

    python tools/make_lm_eval_goldens.py            writes tests/data/lm_eval/*.json
    python tools/make_lm_eval_goldens.py --all      scores every page of models/moe-8x and prints the three numbers

Needs lm-eval==0.4.11 with torch and transformers; no test does. Windows, log-likelihoods, words, bytes and metrics are
computed by the harness's own functions, on transformers in float32. The data set is ours, because nothing is
downloaded: the pages of EleutherAI/wikitext_document_level, cut from the bundled test set by the rule of its script.
The tokenizer is tokenizer.json as it is; LlamaTokenizer of transformers 5 would build its own pipeline instead.
"""
import argparse
import json
import math
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.wikitext.preprocess_wikitext import process_results, wikitext_detokenizer
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "tests" / "data" / "lm_eval"
MODELS = {"moe-8x": (ROOT / "models" / "moe-8x", 4), "stories260K": (ROOT / "tests" / "data" / "stories260K", 3)}


def raw_lines():
    """wiki.test.raw from its rows, which are joined by two newlines: " ...\\n", or "" for a line " \\n"."""
    rest, lines = (ROOT / "data" / "wikitext-2" / "test.txt").read_text(encoding="utf-8"), []
    while True:
        row = "" if not rest or rest.startswith("\n\n") else rest[:rest.index("\n") + 1]
        lines.append(row or " \n")
        if len(rest) == len(row):
            return "".join(lines)
        rest = rest[len(row) + 2:]


def pages():
    """As the data set's script cuts them: at headings of the first level."""
    found, lines = [], []
    for line in raw_lines().split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            if "\n".join(lines).strip():
                found.append("\n".join(lines))
            lines = []
        lines.append(line)
    return found + ["\n".join(lines)]


def windows_of(model, text):
    """[context, predicted] tokens of every window of a document."""
    tokens = model.tok_encode(text)
    rolling = get_rolling_token_windows(tokens, model.prefix_token_id, model.max_length, 1)
    return len(tokens), [list(map(len, make_disjoint_window(pair))) for pair in rolling]


def score(model, docs, count):
    """The harness's numbers of every document; log-likelihoods of the first `count`."""
    out = {"max_length": model.max_length, "prefix_token": model.prefix_token_id, "documents": []}
    items = {"word_perplexity": [], "byte_perplexity": [], "bits_per_byte": []}
    for i, page in enumerate(docs):
        text = wikitext_detokenizer({"page": page})
        tokens, windows = windows_of(model, text)
        document = {"tokens": tokens, "windows": windows}
        loglikelihood = math.nan
        if i < count:
            request = Instance("loglikelihood_rolling", {"page": page}, (text,), 0)
            loglikelihood = model.loglikelihood_rolling([request], disable_tqdm=True)[0]
            document["loglikelihood"] = loglikelihood
        results = process_results({"page": page}, (loglikelihood,))
        document |= {"words": results["word_perplexity"][1], "bytes": results["byte_perplexity"][1]}
        for name in items if i < count else ():
            items[name].append(results[name])
        out["documents"].append(document)
    out["word_perplexity"] = weighted_perplexity(items["word_perplexity"])
    out["byte_perplexity"] = weighted_perplexity(items["byte_perplexity"])
    out["bits_per_byte"] = bits_per_byte(items["bits_per_byte"])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    docs = pages()
    torch.manual_seed(0)
    for name, (folder, count) in list(MODELS.items())[:1 if args.all else None]:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"),
                                            **{key: config[key] for key in ("bos_token", "eos_token") if config.get(key)})
        model = HFLM(pretrained=str(folder), tokenizer=tokenizer, dtype="float32", device="cpu", batch_size=1)
        result = score(model, docs, len(docs) if args.all else count)
        print(name, {key: value for key, value in result.items() if key != "documents"})
        if not args.all:
            OUT.mkdir(exist_ok=True)
            lines = ",\n".join(json.dumps(document) for document in result.pop("documents"))
            head = json.dumps({"harness": "lm-eval 0.4.11", **result})[:-1]
            (OUT / f"wikitext_{name}.json").write_text(f'{head}, "documents": [\n{lines}]}}\n')


main()
