"""What must not slip through into a written directory: each trap has broken a converter before."""
import json

from cli_harness import (DATA, FAMILIES, INPUT, STORIES, Test, all_tensors, make_llama, names_in,
                         read_header, read_json)

FAMILY = DATA / "families"


def compress(t, model, size="60%", *options):
    out = t.scratch / f"{model.name}-{size}"
    t.succeeds(t.run("compress", model, "--budget", size, "-o", out, *options))
    return out


def test_every_family(t):
    for model in FAMILIES:
        out = compress(t, model)
        config, tensors = read_json(out / "config.json"), all_tensors(out)
        name, quantization = model.name, config["quantization"]
        planned = {m["name"]: m["choice"] for m in read_json(out / "plan.json")["modules"]}

        # Shards: exactly those of the index, and nothing else that loaders would take for one.
        weight_map = read_json(out / "model.safetensors.index.json")["weight_map"]
        found = sorted(path.name for path in out.glob("*.safetensors"))
        t.equal(found, sorted(set(weight_map.values())), f"{name}: shards")
        t.equal({tensor: file for file in found for tensor in read_header(out / file)}, weight_map,
                f"{name}: index")

        # Loaders refuse unknown keys; entries are for quantizable modules only.
        t.equal(config["quantization_config"], quantization, f"{name}: quantization_config")
        entries = {k: v for k, v in quantization.items() if k not in ("group_size", "bits", "mode")}
        t.check({"group_size", "bits"} <= quantization.keys(), f"{name}: defaults are missing")
        t.equal([k for k, v in entries.items() if v is not False
                 and not {"group_size", "bits"} <= v.keys() <= {"group_size", "bits", "mode"}], [],
                f"{name}: entries with other keys")
        t.check(entries.keys() <= planned.keys(), f"{name}: entries for modules that have no choice")
        t.equal({k for k, v in entries.items() if v is not False and f"{k}.scales" not in tensors},
                set(), f"{name}: entries for modules in 16 bits")
        t.equal({k for k, v in entries.items() if v is False and f"{k}.scales" in tensors}, set(),
                f"{name}: false for quantized modules")

        # Codes are U32 (I32 is another type), scales and biases 16 bits wide unless the source is.
        for tensor, (dtype, shape, _) in tensors.items():
            module = tensor.rsplit(".", 1)[0]
            if tensor == f"{module}.weight" and f"{module}.scales" in tensors:
                t.equal(dtype, "U32", f"{name}: {tensor}")
            if tensor.endswith((".scales", ".biases")) and planned.get(module) != "mxfp4":
                t.equal(dtype, "BF16", f"{name}: {tensor}")
        for key in ("vision_config", "model_file", "_name_or_path"):
            t.check(key not in config, f"{name}: config.json keeps {key}")
        t.check(not any("mtp" in tensor or "vision" in tensor or "rotary_emb" in tensor
                        for tensor in tensors), f"{name}: MTP, vision or rotary tensors are written")


def test_plain_routers_get_no_entry(t):
    """mlx-lm's MoEGate is not quantizable: an entry for it is an error there, a pin one here."""
    for name in ("glm4_moe", "glm4_moe_lite", "deepseek_v3"):
        out = t.scratch / f"{name}-60%"
        quantization = read_json(out / "config.json")["quantization"]
        t.check(not any(key.endswith("mlp.gate") for key in quantization), f"{name}: mlp.gate entry")
        t.refuses(t.run("compress", FAMILY / name, "--budget", "60%", "-o", t.scratch / "no", "-q",
                        "--pin", "mlp.gate=8,64"), INPUT, "mlp.gate")


def test_prediction_layers(t):
    """Layers behind the last (MTP): in no file, no byte count, no plan."""
    for model in FAMILIES:
        config = read_json(model / "config.json")
        text = config.get("text_config", config)
        extra = text.get("num_nextn_predict_layers", 0)
        last = f"layers.{text['num_hidden_layers']}."
        if not extra:
            continue
        out = t.scratch / f"{model.name}-60%"
        t.check(not any(last in tensor for tensor in all_tensors(out)), f"{model.name}: MTP written")
        plan = (out / "plan.json").read_text() + (out / "rates.json").read_text()
        t.check(last not in plan, f"{model.name}: MTP planned")


def test_f32_source(t):
    """Rounded to BF16 first; scales in F32 would cost twice as much."""
    t.equal({entry["dtype"] for entry in read_header(STORIES / "model.safetensors").values()},
            {"F32"}, "types of the source")
    dtypes = {dtype for dtype, _, _ in all_tensors(compress(t, STORIES)).values()}
    t.equal(dtypes, {"U32", "BF16"}, "types of a model from an F32 source")


def test_tied_head(t):
    """A tied model whose files bring lm_head along: it is dropped."""
    model = make_llama(t.scratch / "tied")
    config = read_json(model / "config.json") | {"tie_word_embeddings": True}
    (model / "config.json").write_text(json.dumps(config))
    out = compress(t, model)
    t.check(not any("lm_head" in tensor for tensor in all_tensors(out)), "lm_head of a tied model")
    t.check("lm_head" not in (out / "plan.json").read_text(), "lm_head of a tied model is planned")


def test_existing_directory(t):
    """Stale shards of an old model would be loaded with the new one."""
    model = make_llama(t.scratch / "small")
    out = compress(t, model)
    t.refuses(t.run("compress", model, "--budget", "60%", "-o", out, "-q"), INPUT, "exists already")
    (out / "model-00002-of-00002.safetensors").write_bytes(b"stale")
    t.succeeds(t.run("compress", model, "--budget", "60%", "-o", out, "--overwrite"))
    t.check("model-00002-of-00002.safetensors" not in names_in(out), "a stale shard stays")


def test_units(t):
    """GB and GiB differ by 7 %: both are understood, both are printed."""
    model = make_llama(t.scratch / "units", hidden=256)
    for text, num_bytes in (("0.001GiB", 1073741), ("0.001GB", 1000000), ("1MiB", 1 << 20),
                            ("1MB", 10**6), ("1000kB", 10**6), ("1048576", 1 << 20)):
        plan = t.json("plan", model, "--budget", text)
        t.equal(plan.get("budget_bytes"), num_bytes, text)
    done = t.run("plan", model, "--budget", "1.1MiB")
    t.check("1.10 MiB (1.15 MB)" in done.stdout, f"not in both units: {done.stdout}")


def main():
    t = Test()
    for test in (test_every_family, test_plain_routers_get_no_entry, test_prediction_layers,
                 test_f32_source, test_tied_head, test_existing_directory, test_units):
        test(t)
    t.finish()


main()
