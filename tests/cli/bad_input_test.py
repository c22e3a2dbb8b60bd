"""Bad input ends with one sentence and the right exit status, and leaves nothing behind."""
import json
import random
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from cli_harness import (INPUT, MACHINE, QWEN3_MOE, USAGE, Test, copy_model, make_llama,
                         names_in, read_json, read_safetensors, write_safetensors)

SIZE = "5bpw"
SAFETENSORS = "model.safetensors"


class BadInputTest(Test):
    def __init__(self):
        super().__init__()
        self.numbers = count()
        self.pool = ThreadPoolExecutor(2)
        self.tiny = make_llama(self.scratch / "tiny")

    def broken(self, base, **files):
        """A copy of a model in which files have other bytes; None: missing."""
        directory = copy_model(base, self.scratch / f"broken-{next(self.numbers)}")
        for name, data in files.items():
            path = directory / {"config": "config.json", "weights": SAFETENSORS,
                                "index": SAFETENSORS + ".index.json"}[name]
            if data is None:
                path.unlink()
            elif isinstance(data, str):
                path.write_text(data)
            else:
                path.write_bytes(data)
        return directory

    def check_refused(self, model, *fragments, status=INPUT, options=("--budget", SIZE)):
        """compress refuses it, and leaves the output's parent empty."""
        parent = self.folder(f"parent-{next(self.numbers)}")
        done = self.run("compress", model, *options, "-o", parent / "out", "-q", "--no-cache")
        self.refuses(done, status, *fragments)
        self.equal(names_in(parent), [], f"{done.stderr.strip()}: what is left")
        parent.rmdir()

    def refused_copy(self, base, *fragments, **files):
        directory = self.broken(base, **files)
        self.check_refused(directory, *fragments)
        shutil.rmtree(directory)

    def each(self, cases):
        """Runs functions side by side; what one raises is raised here."""
        for done in [self.pool.submit(case) for case in cases]:
            done.result()


def test_truncated_weights(t):
    data = (t.tiny / SAFETENSORS).read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    lengths = [*range(header + 1), *random.Random(1).sample(range(header + 1, len(data)), 60),
               len(data) - 1]
    t.each([lambda n=n: t.refused_copy(t.tiny, SAFETENSORS, weights=data[:n]) for n in lengths])
    t.refused_copy(t.tiny, SAFETENSORS, weights=data + b"\0")


def test_truncated_config(t):
    config = (t.tiny / "config.json").read_bytes()
    t.each([lambda n=n: t.refused_copy(t.tiny, "config.json", config=config[:n])
            for n in range(len(config))])


def test_truncated_rates(t):
    rates = t.scratch / "rates.json"
    t.succeeds(t.run("measure", t.tiny, "-o", rates))
    text = rates.read_bytes()

    def refused(length):
        path = t.scratch / f"truncated-{length}.json"
        path.write_bytes(text[:length])
        t.refuses(t.run("plan", path, "--budget", SIZE), INPUT, path.name)
        path.unlink()

    lengths = random.Random(2).sample(range(len(text) - 2), 150)
    t.each([lambda n=n: refused(n) for n in [0, 1, 2, *lengths]])
    other = make_llama(t.scratch / "other", hidden=128)
    t.check_refused(other, "rate table", options=("--budget", SIZE, "--rates", rates))
    # The same tensors with other weights: noticed when the codes do not have the promised error.
    twin = make_llama(t.scratch / "twin", seed=2)
    t.check_refused(twin, "not those that were measured",
                    options=("--budget", SIZE, "--rates", rates))
    t.check_refused(t.tiny, "rates", status=USAGE,
                    options=("--budget", SIZE, "--rates", t.scratch / "no-such-rates.json"))


def test_files(t):
    t.refused_copy(t.tiny, "config.json", config=None)
    t.refused_copy(t.tiny, weights=None)
    lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n"
    t.refused_copy(t.tiny, SAFETENSORS, "LFS", weights=lfs)
    tensors = read_safetensors(t.tiny / SAFETENSORS)
    index = {"metadata": {}, "weight_map": {name: SAFETENSORS for name in tensors}}
    index["weight_map"]["lm_head.weight"] = "model-00002-of-00002.safetensors"
    t.refused_copy(t.tiny, "model-00002-of-00002.safetensors", index=json.dumps(index))
    t.check_refused(t.scratch / "nothing-here", "nothing-here")
    t.check_refused(t.tiny / "config.json", "config.json")


def test_tensors(t):
    def refused(change, *fragments, base=t.tiny):
        tensors = read_safetensors(base / SAFETENSORS)
        change(tensors)
        directory = copy_model(base, t.scratch / f"tensors-{next(t.numbers)}")
        write_safetensors(directory / SAFETENSORS, tensors)
        t.check_refused(directory, *fragments)

    def put(name, index, pattern):
        def change(tensors):
            dtype, shape, data = tensors[name]
            at = 2 * (index[0] * shape[1] + index[1])
            tensors[name] = (dtype, shape, data[:at] + pattern + data[at + 2 :])
        return change

    def reshape(name):
        def change(tensors):
            dtype, shape, data = tensors[name]
            tensors[name] = (dtype, shape[::-1], data)
        return change

    down = "model.layers.0.mlp.down_proj"
    refused(put(down + ".weight", (5, 77), b"\xc0\x7f"), down, "NaN", "5", "77")
    refused(put(down + ".weight", (6, 99), b"\x80\x7f"), down, "inf", "6", "99")
    refused(put("lm_head.weight", (1, 2), b"\x80\xff"), "lm_head", "inf")
    refused(reshape(down + ".weight"), down, "[128, 64]", "[64, 128]")
    refused(lambda tensors: tensors.pop("model.norm.weight"), "model.norm.weight")
    refused(lambda tensors: tensors.update({"extra.weight": ("BF16", [1], b"\0\0")}), "extra.weight")
    expert = "model.layers.1.mlp.experts.7.up_proj.weight"
    refused(lambda tensors: tensors.pop(expert), "layers.1", "7", base=QWEN3_MOE)


def test_configs(t):
    def refused(*fragments, **changes):
        config = read_json(t.tiny / "config.json") | changes
        t.refused_copy(t.tiny, *fragments, config=json.dumps(config))

    refused("perceiver", model_type="perceiver")
    refused("gptq", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    refused("quantized", quantization={"bits": 4, "group_size": 64})
    refused("hidden_size", hidden_size="64")
    refused("hidden_size", hidden_size=-1)
    refused(num_hidden_layers=2)
    refused(num_hidden_layers=10**15)
    refused(vocab_size=2**62)
    t.refused_copy(t.tiny, "config.json", config="[" * 100000)


def test_requests(t):
    def refused(*options, fragments=(), status=INPUT):
        t.check_refused(t.tiny, *fragments, options=options, status=status)

    for budget in ("-1", "-5GB", "0", "5 apples", "GiB", "nan", "inf", "1e400", "9e99GB", "0bpw",
                   "-1bpw", "101%", "0%", "4,5bpw", "12.5", "99999999999999999999999", " ", "4GiB4"):
        refused("--budget=" + budget)
    refused("--budget", "1000", fragments=("smallest",))
    refused(fragments=("--budget",))
    for pin in ("lm_head=9,64", "lm_head=4,48", "lm_head", "=4,64", "lm_head=", "lm_head>=x",
                "lm_hed=4,64", "lm_head=16,16", "lm_head=-4,64", "lm_head=mxfp4"):
        refused("--budget", SIZE, "--pin", pin)
    refused("--budget", SIZE, "--pin", "lm_hed=4,64", fragments=("lm_hed", "lm_head"))
    refused("--budget", SIZE, "--ban", "lm_head=banana")
    refused("--budget", SIZE, "--ban", "no_such_module=2", fragments=("no_such_module",))
    refused("--budget", SIZE, "--tie", "no_such,modules", fragments=("no_such",))
    refused("--budget", SIZE, "--menu", "4,64;7,64")
    refused("--budget", SIZE, "--priors", t.scratch / "no-priors.json", fragments=("no-priors",))
    refused("--device", "a toaster")
    for words in (("--threads", "0"), ("--threads", "many"), ("--floor-db", "-1"), ("--kv-bits", "5"),
                  ("--quantizer", "magic"), ("--no-such-option",), ("--objective", "x")):
        refused("--budget", SIZE, *words, status=USAGE)
    t.refuses(t.run(), USAGE)
    t.refuses(t.run("frobnicate"), USAGE)
    t.refuses(t.run("compress"), USAGE, "MODEL")


def test_outputs(t):
    def refused(out, status, *fragments):
        t.refuses(t.run("compress", t.tiny, "--budget", SIZE, "-o", out, "-q"), status, *fragments)

    taken = t.folder("taken")
    refused(taken, INPUT, "exists already", "--overwrite")
    (taken / "notes.txt").write_text("mine")
    done = t.run("compress", t.tiny, "--budget", SIZE, "-o", taken, "-q", "--overwrite")
    t.refuses(done, INPUT, "not a model directory")
    t.equal(names_in(taken), ["notes.txt"], "a folder that is no model")
    file = t.scratch / "file"
    file.write_text("mine")
    refused(file / "out", INPUT, "parent")
    refused(t.scratch / "no" / "such" / "out", INPUT, "parent")
    refused("/proc/ram-out", MACHINE, "/proc")
    (t.scratch / "dangling").symlink_to(t.scratch / "nowhere")
    refused(t.scratch / "dangling", INPUT, "exists already")
    t.refuses(t.run("measure", t.tiny, "-o", "/proc/rates.json", "-q"), INPUT, "/proc")
    t.refuses(t.run("plan", t.tiny, "--budget", SIZE, "-o", t.scratch / "no" / "plan.json", "-q"),
              INPUT, "plan.json")


def test_bare_files(t):
    """pack reads safetensors too."""
    data = (t.tiny / SAFETENSORS).read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    out = t.folder("packed")
    for length in range(0, header, 37):
        cut = t.scratch / "cut.safetensors"
        cut.write_bytes(data[:length])
        t.refuses(t.run("pack", cut, "--choice", "4,64", "-o", out / "x.safetensors"), INPUT,
                  cut.name)
    whole = t.tiny / SAFETENSORS
    for choice in ("4", "4,65", "7,64", "16", "mxfp4", "4,64,1"):
        t.refuses(t.run("pack", whole, f"--choice={choice}", "-o", out / "x.safetensors"), INPUT)
    t.equal(names_in(out), [], "what pack left")


def main():
    t = BadInputTest()
    for test in (test_files, test_tensors, test_configs, test_requests, test_outputs,
                 test_bare_files, test_truncated_weights, test_truncated_config,
                 test_truncated_rates):
        test(t)
    t.finish()


main()
