"""ram pack against mx.quantize on the CPU: the same bits, for every choice and source type."""
import mlx.core as mx
import numpy as np
from harness import Report, arguments, run

ROWS, COLUMNS = 1024, 1024
BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)


def weights():
    """Over a million weights: Gaussian of many scales, heavy tails, and rows that are special."""
    random = np.random.default_rng(7)
    w = random.normal(0, 1, (ROWS, COLUMNS)) * 10.0 ** random.uniform(-4, 1, (ROWS, 1))
    w[ROWS // 2 :: 3] = 0.02 * random.standard_t(3, w[ROWS // 2 :: 3].shape)
    w[0], w[1], w[2], w[3] = 0, 0.5, -0.25, random.normal(0, 1e-9, COLUMNS)
    w[4], w[5] = np.abs(w[4]) + 0.01, -np.abs(w[5]) - 0.01
    w[6] = random.integers(-8, 9, COLUMNS)
    w[7] = random.integers(-32, 33, COLUMNS) / 64
    return w.astype(np.float32)


def main():
    args, report = arguments(), Report()
    mx.set_default_device(mx.cpu)
    w = mx.array(weights())
    for name in ("bfloat16", "float16", "float32"):
        source = args.scratch / f"{name}.safetensors"
        typed = w.astype(getattr(mx, name))
        mx.save_safetensors(str(source), {"m.weight": typed, "vector": typed[0]})
        for bits in BITS:
            for group in GROUPS:
                out = args.scratch / f"{name}-{bits}-{group}.safetensors"
                run(args.ram, "pack", source, "--choice", f"{bits},{group}", "-o", out)
                ours = mx.load(str(out))
                for part, theirs in zip(("weight", "scales", "biases"), mx.quantize(typed, group, bits)):
                    same = mx.array_equal(ours[f"m.{part}"].view(mx.uint8), theirs.view(mx.uint8)).item()
                    report.check(same, f"{name} {bits},{group} {part}")
                report.check(mx.array_equal(ours["vector"], typed[0]).item(), f"{name} {bits},{group} vector")
                out.unlink()
    report.finish()


main()
