#!/usr/bin/env python3
"""What of this folder is derived from the other fixtures.

- deepseek_v3_fp8/: deepseek_v3 with its matrices in FP8 blocks, as that model is published.
- <family>/config_v5.json: the config as transformers 5.23 saves it after loading config.json.

    python make_sources.py        (needs transformers, numpy, safetensors)
"""

import json
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
BLOCK = 128


def read_safetensors(path):
    """Name -> (dtype name, shape, raw bytes)."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    data = raw[8 + size :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def e4m3_values():
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    magnitude = np.where(
        exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0)
    )
    magnitude[(codes & 127) == 127] = np.nan
    return np.where(codes & 128, -magnitude, magnitude)


def to_fp8(weights):
    """Nearest codes and one scale for each block, which is what to multiply with."""
    values = e4m3_values()
    rows, cols = weights.shape
    scales = np.zeros((-(-rows // BLOCK), -(-cols // BLOCK)), np.float32)
    codes = np.zeros((rows, cols), np.uint8)
    order = np.argsort(np.nan_to_num(values, nan=1e9), kind="stable")
    ladder = values[order][:-2]  # Without the two NaNs.
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = np.s_[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            scales[i, j] = np.float32(np.abs(weights[at]).max() / 448)
            scaled = weights[at] / scales[i, j]
            right = np.clip(np.searchsorted(ladder, scaled), 1, len(ladder) - 1)
            nearer = np.abs(ladder[right] - scaled) < np.abs(ladder[right - 1] - scaled)
            codes[at] = order[np.where(nearer, right, right - 1)]
    return codes, scales


def make_fp8():
    source, target = HERE / "deepseek_v3", HERE / "deepseek_v3_fp8"
    target.mkdir(exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
    }
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    out = {}
    for name, (dtype, shape, raw) in read_safetensors(source / "model.safetensors").items():
        kept = ("embed_tokens", "lm_head", "norm", "mlp.gate.")
        if len(shape) != 2 or any(part in name for part in kept):
            out[name] = (dtype, shape, raw)
            continue
        bits = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
        codes, scales = to_fp8(bits.view(np.float32).reshape(shape))
        out[name] = ("F8_E4M3", shape, codes.tobytes())
        out[name + "_scale_inv"] = ("F32", list(scales.shape), scales.tobytes())
    write_safetensors(target / "model.safetensors", out)


def make_v5_configs():
    from transformers import AutoConfig

    for path in sorted(HERE.glob("*/config.json")):
        if path.parent.name.endswith("_fp8"):
            continue
        with tempfile.TemporaryDirectory() as directory:
            AutoConfig.from_pretrained(path.parent).save_pretrained(directory)
            text = (Path(directory) / "config.json").read_text()
        (path.parent / "config_v5.json").write_text(text)


if __name__ == "__main__":
    make_fp8()
    make_v5_configs()
