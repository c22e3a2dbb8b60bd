"""mlx_lm.perplexity's own functions against ram eval perplexity --protocol mlx_lm: the same rows, the same number."""
import contextlib
import io
import math
import types

import mlx.core as mx
import mlx_lm.perplexity
import numpy as np
from harness import DATA, ROOT, Report, arguments, run, run_json
from mlx_lm import load
from safetensors.numpy import load_file
from tokenizers import Tokenizer

TEXT = DATA / "wikitext" / "first_20000.txt"
LENGTH, SAMPLES, SEED = 64, 16, 123


class Rows:
    """The text as a data set of mlx-lm: every sample a row of LENGTH tokens, so load_data shuffles rows."""

    def __init__(self, folder):
        ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT.read_text(), add_special_tokens=False).ids
        self.rows = [ids[at:at + LENGTH] for at in range(0, len(ids) - LENGTH + 1, LENGTH)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]

    def process(self, row):
        return row, 0


def rows_of(folder):
    """What load_data hands to eval_ppl, the data set apart."""
    mlx_lm.perplexity.load_dataset = lambda args, tokenizer: (Rows(folder),)
    np.random.seed(SEED)
    return mlx_lm.perplexity.load_data(types.SimpleNamespace(), "", SAMPLES, LENGTH)


def check(args, report, folder):
    name = folder.name
    data = rows_of(folder)
    model, _ = load(str(folder))
    model.set_dtype(mx.float32)
    with contextlib.redirect_stdout(io.StringIO()):
        expected, error = mlx_lm.perplexity.eval_ppl(model, data)
        of_rows = [math.log(mlx_lm.perplexity.eval_ppl(model, data[i:i + 1])[0]) for i in range(len(data))]
    scores = args.scratch / f"{name}.scores"
    found = run_json(args.ram, "eval", "perplexity", folder, "--data", TEXT, "--protocol", "mlx_lm", "--numerics", "mlx",
                     "--context", LENGTH, "--windows", SAMPLES, "-o", scores)[0]
    report.check(found["windows"] == len(data) and found["tokens"] == len(data) * (LENGTH - 1), f"{name}: rows and tokens")
    report.check(abs(found["perplexity"] / expected - 1) < 1e-5, f"{name}: {found['perplexity']}, mlx-lm {expected}")
    worst = max(abs(ours - theirs) for ours, theirs in zip(found["window_nll"], of_rows))
    report.check(worst < 1e-4, f"{name}: rows differ by {worst} nats per token")
    # Its standard error takes tokens for independent.
    nll = load_file(scores)["token_nll"].astype(np.float64)
    report.check(abs(found["perplexity"] * nll.std(ddof=1) / np.sqrt(nll.size) / error - 1) < 1e-4, f"{name}: standard error")
    print(name, found["perplexity"], expected, f"rows within {worst:.1e}")


def main():
    args, report = arguments(), Report()
    mx.set_default_device(mx.cpu)
    packed = args.scratch / "moe-4bpw"
    run(args.ram, "compress", ROOT / "models" / "moe-8x", "--budget", "4.2bpw", "-o", packed)
    for folder in (ROOT / "models" / "moe-8x", ROOT / "models" / "babyllama-105", DATA / "stories260K", packed):
        check(args, report, folder)
    report.finish()


main()
