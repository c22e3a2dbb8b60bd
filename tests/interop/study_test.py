"""The baselines of ram study are what mlx_lm.convert itself makes of the model: every tensor, bit for bit."""
import contextlib
import json
import sys

import mlx.core as mx
from harness import ROOT, Report, arguments, run_json
from mlx_lm.convert import convert

MODEL = ROOT / "models" / "moe-8x"
RECIPES = ["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"]
ARMS = {**{f"uniform-4-{group}": {"q_bits": 4, "q_group_size": group} for group in (32, 64, 128)},
        **{name: {"quant_predicate": name} for name in RECIPES},  # Without a group size: 64.
        "mixed_4_6-32": {"quant_predicate": "mixed_4_6", "q_group_size": 32}}


def tensors(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        found.update(mx.load(str(file)))
    return found


def choices(folder, names):
    """{module: (bits, group)} of what a folder says of its quantized modules."""
    quantization = json.loads((folder / "config.json").read_text())["quantization"]
    found = {}
    for name in names:
        if name.endswith(".scales"):
            module = quantization.get(name.removesuffix(".scales"), quantization)
            found[name] = (module["bits"], module["group_size"] or 64)
    return found


def main():
    args, report = arguments(), Report()
    mx.set_default_device(mx.cpu)
    study = run_json(args.ram, "study", MODEL, "--arms", ",".join(ARMS), "--windows", 2, "--context", 32, "-o",
                     args.scratch / "study", "--keep-models")
    report.check({arm["name"] for arm in study["arms"]} == {"original", *ARMS}, "every arm was made")
    for name, options in ARMS.items():
        ours, theirs = args.scratch / "study" / "models" / name, args.scratch / name
        with contextlib.redirect_stdout(sys.stderr):
            convert(str(MODEL), str(theirs), quantize=True, **options)
        a, b = tensors(ours), tensors(theirs)
        report.check(a.keys() == b.keys(), f"{name}: the same tensors")
        report.check(choices(ours, a) == choices(theirs, b), f"{name}: bits and groups of every module")
        for key in a.keys() & b.keys():
            same = a[key].dtype == b[key].dtype and a[key].shape == b[key].shape
            report.check(same and mx.array_equal(a[key].view(mx.uint8), b[key].view(mx.uint8)).item(), f"{name}: {key}")
    report.finish()


main()
