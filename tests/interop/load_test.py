"""The real mlx-lm loads what ram writes, strictly, for every family, and computes with it.

Three things per model: a folder in 16 bits gives the logits of the source; a compressed folder gives
the logits of its own dequantized weights (f32, 1e-4 of their range); every module has the bits and
group size that the plan says.
"""
import json

import mlx.core as mx
from harness import DATA, ROOT, Report, arguments, run_json
from mlx.utils import tree_flatten, tree_map
from mlx_lm import load
from mlx_lm.utils import load_model

# mlx-lm reads gpt_oss experts in MXFP4 only, so there is nothing to compare the BF16 source with.
UNREADABLE_SOURCES = {"gpt_oss"}
IDS = mx.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]])


def in_f32(model):
    def widen(x):
        return x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x

    model.update(tree_map(widen, model.parameters()))
    return model


def original_is_f32(model):
    return all(x.dtype == mx.float32 for _, x in tree_flatten(model.parameters()))


def logits(model):
    out = model(IDS).astype(mx.float32)
    mx.eval(out)
    return out


def dequantized(model, folder):
    """The same weights without quantization, in a model that never heard of it."""
    weights = {}
    for path, module in model.named_modules():
        if hasattr(module, "bits"):
            biases = module.get("biases")
            weights[f"{path}.weight"] = mx.dequantize(
                module.weight, module.scales, biases, module.group_size, module.bits, module.mode, dtype=mx.float32
            ).astype(mx.float32)
    for name, value in tree_flatten(model.parameters()):
        module = name.rsplit(".", 1)[0]
        if not name.endswith((".scales", ".biases")) and f"{module}.weight" != name:
            weights[name] = value
        elif f"{module}.weight" == name and name not in weights:
            weights[name] = value
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization", None), config.pop("quantization_config", None)
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    plain = model_class(args_class.from_dict(config))
    plain.eval()
    if hasattr(plain, "sanitize"):  # Some drop their head there when it is tied.
        weights = plain.sanitize(weights)
    plain.load_weights(list(weights.items()), strict=True)
    return plain


def difference(a, b):
    spread = (b.max() - b.min()).item()
    return mx.abs(a - b).max().item() / spread


def check_model(args, report, name, source, budget="6.5bpw"):
    whole, small = args.scratch / f"{name}-16", args.scratch / f"{name}-small"
    run_json(args.ram, "compress", source, "--budget", "100%", "--pin", "*=16", "-o", whole)
    loaded, _ = load_model(whole, strict=True)
    ours = logits(in_f32(loaded))
    if name not in UNREADABLE_SOURCES:
        original, _ = load_model(source, strict=True)
        if original_is_f32(original):  # Written in BF16, so compared with what BF16 holds of it.
            original.update(tree_map(lambda x: x.astype(mx.bfloat16), original.parameters()))
        d = difference(ours, logits(in_f32(original)))
        report.check(d <= 1e-5, f"{name}: 16 bits differ from the source by {d:.2g} of the range")

    plan = run_json(args.ram, "compress", source, "--budget", budget, "-o", small)["plans"][0]
    report.check(plan["file_bytes"] <= plan["budget_bytes"], f"{name}: {plan['file_bytes']} over the budget")
    loaded, config = load_model(small, strict=True)
    stated = json.loads((small / "plan.json").read_text())
    modules = dict(loaded.named_modules())
    for module in stated["modules"]:
        found = modules[module["name"]]
        if module["choice"] == "16":
            report.check(not hasattr(found, "bits"), f"{name}: {module['name']} should be in 16 bits")
        elif module["choice"] == "mxfp4":
            report.check(found.mode == "mxfp4", f"{name}: {module['name']} should be mxfp4")
        else:
            report.check(f"{found.bits},{found.group_size}" == module["choice"], f"{name}: {module['name']} {module['choice']}")
    in_f32(loaded)
    d = difference(logits(loaded), logits(dequantized(loaded, small)))
    report.check(d <= 1e-4, f"{name}: quantized logits differ from dequantized ones by {d:.2g} of the range")
    print(f"{name}: {stated['bytes']} bytes, quantized against dequantized {d:.1e}", flush=True)


def main():
    args, report = arguments(), Report()
    mx.set_default_device(mx.cpu)
    families = sorted(p.parent for p in (DATA / "families").glob("*/config.json"))
    report.check(len(families) >= 15, f"only {len(families)} families")
    for folder in families:
        check_model(args, report, folder.name, folder)
    for folder in (ROOT / "models/moe-8x", ROOT / "models/babyllama-105", DATA / "stories260K"):
        # 172 columns of stories260K stay in 16 bits, so it needs more.
        check_model(args, report, folder.name, folder, "8.5bpw" if folder.name == "stories260K" else "4.8bpw")
        model, tokenizer = load(str(args.scratch / f"{folder.name}-small"))
        report.check(len(tokenizer.encode("Once upon a time")) > 3, f"{folder.name}: tokenizer")
    report.finish()


main()
