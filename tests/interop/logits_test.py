"""What ram computes from a compressed folder is what the real mlx-lm computes from it.

Every family, compressed to a mixed plan; logits of a whole sequence in f32, `--numerics mlx`. The
folder in 16 bits as well, and plain uniform folders that mlx-lm wrote itself.
"""
import json

import mlx.core as mx
import numpy as np
from harness import DATA, ROOT, Report, arguments, run, run_json
from mlx.utils import tree_map
from mlx_lm import convert
from mlx_lm.utils import load_model
from safetensors.numpy import load_file

# Largest |difference| of a logit: twice what two correct f32 programs differ by (transformers in
# f32 and in f64, and mlx-lm, on these fixtures).
TOLERANCE = 2e-4
TOLERANCE_DELTA_NET = 5e-4
DELTA_NETS = {"qwen3_next", "qwen3_5_moe"}
# mlx-lm's packed product of one row is not that of many; long enough for every window and chunk.
NUM_TOKENS = 130


def mlx_logits(folder, ids):
    model, _ = load_model(folder, strict=True)
    model.update(tree_map(lambda x: x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x, model.parameters()))
    out = model(mx.array(ids)[None])[0].astype(mx.float32)
    mx.eval(out)
    return np.array(out)


def our_logits(args, folder, ids, out):
    run(args.ram, "logits", folder, "--ids", ",".join(map(str, ids)), "--numerics", "mlx", "-o", out, "--overwrite")
    return load_file(out)["logits"]


def check_folder(args, report, what, folder, ids, tolerance):
    theirs = mlx_logits(folder, ids)
    ours = our_logits(args, folder, ids, args.scratch / "logits.safetensors")
    report.check(ours.shape == theirs.shape, f"{what}: shape {ours.shape}, mlx-lm {theirs.shape}")
    d = float(np.abs(ours - theirs).max())
    report.check(d <= tolerance, f"{what}: logits differ from mlx-lm by {d:.2g} of a range of {np.ptp(theirs):.3g}")
    print(f"{what}: {d:.1e} of {np.ptp(theirs):.3g}", flush=True)


def ids_for(folder):
    config = json.loads((folder / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    return np.random.default_rng(5).integers(3, vocabulary - 30, NUM_TOKENS).tolist()


def main():
    args, report = arguments(), Report()
    mx.set_default_device(mx.cpu)
    families = sorted(p.parent for p in (DATA / "families").glob("*/config.json"))
    report.check(len(families) >= 15, f"only {len(families)} families")
    for source in [*families, ROOT / "models/moe-8x", DATA / "stories260K"]:
        name, ids = source.name, ids_for(source)
        tolerance = TOLERANCE_DELTA_NET if name in DELTA_NETS else TOLERANCE
        whole, small = args.scratch / f"{name}-16", args.scratch / f"{name}-small"
        run_json(args.ram, "compress", source, "--budget", "100%", "--pin", "*=16", "-o", whole)
        check_folder(args, report, f"{name}, 16 bits", whole, ids, tolerance)
        budget = "8.5bpw" if name == "stories260K" else "5.5bpw"
        run_json(args.ram, "compress", source, "--budget", budget, "-o", small)
        check_folder(args, report, f"{name}, compressed", small, ids, tolerance)
    for bits, group in ((2, 128), (3, 64), (4, 32), (5, 64), (6, 128), (8, 32)):
        folder = args.scratch / f"mlx-{bits}-{group}"
        convert(str(ROOT / "models/moe-8x"), str(folder), quantize=True, q_bits=bits, q_group_size=group)
        check_folder(args, report, f"mlx_lm.convert {bits},{group}", folder, ids_for(ROOT / "models/moe-8x"), TOLERANCE)
    report.finish()


main()
