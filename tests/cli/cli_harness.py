"""What the tests of the command share: running it, looking at what it left, reporting."""
import argparse
import hashlib
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
MODELS = ROOT / "models"
FAMILIES = sorted(path.parent for path in (DATA / "families").glob("*/config.json"))
MOE, BABY, STORIES = MODELS / "moe-8x", MODELS / "babyllama-105", DATA / "stories260K"
QWEN3_MOE = DATA / "families" / "qwen3_moe"

INPUT, USAGE, MACHINE, INTERRUPTED = 1, 2, 3, 130  # Exit statuses other than success.


class Test:
    """One run of a test file: the command, a scratch folder, counted checks."""

    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--ram", required=True, help="the command")
        parser.add_argument("--scratch", required=True, help="a folder that may be emptied")
        args = parser.parse_args()
        self.ram = os.path.abspath(args.ram)
        self.scratch = Path(args.scratch).absolute()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        for name in ("COLUMNS", "LC_ALL", "LC_CTYPE", "LANG", "NO_COLOR"):
            os.environ.pop(name, None)
        os.environ["RAM_CACHE"] = str(self.scratch / "cache")
        self.passed, self.failed, self.skipped = 0, 0, 0

    def run(self, *words, **options):
        """Runs the command, to its end, whatever that is."""
        options = {"capture_output": True, "text": True, "timeout": 300, **options}
        return subprocess.run([self.ram, *map(str, words)], **options)

    def start(self, *words):
        return subprocess.Popen([self.ram, *map(str, words)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def json(self, *words):
        """Its JSON, from a run that must succeed; {} if it does not."""
        done = self.run(*words, "--json")
        return json.loads(done.stdout) if self.succeeds(done) else {}

    def folder(self, name):
        path = self.scratch / name
        path.mkdir(parents=True)
        return path

    def check(self, condition, text):
        if condition:
            self.passed += 1
        else:
            self.failed += 1
            print("FAILED:", text, flush=True)
        return bool(condition)

    def equal(self, found, expected, text):
        return self.check(found == expected, f"{text}: {found!r}, expected {expected!r}")

    def skip(self, reason):
        self.skipped += 1
        print("skipped:", reason, flush=True)

    def succeeds(self, done):
        return self.check(done.returncode == 0, f"{in_words(done)}: {done.stderr[-500:]}")

    def refuses(self, done, status, *fragments):
        """The run ended with this status and one sentence that holds all fragments."""
        error = done.stderr.strip()
        return self.check(
            done.returncode == status and error.startswith("ram: ") and "\n" not in error
            and done.stdout == "" and all(fragment in error for fragment in fragments),
            f"{in_words(done)}: wanted status {status} and one sentence with {fragments}, got "
            f"{done.stdout[-300:]!r} {done.stderr[-600:]!r}")

    def finish(self):
        if self.skipped:
            print(f"{self.skipped} skipped")
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed != 0)


def in_words(done):
    words = [Path(done.args[0]).name, *done.args[1:]]
    return f"{' '.join(words)[:300]}: status {done.returncode}"


def copy_model(source, target, without=()):
    """A writable copy. Files that are hard links would change with it, so none are made."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name not in without:
            shutil.copyfile(file, target / file.name)
    return target


def read_json(path):
    return json.loads(Path(path).read_text())


def read_header(path):
    """The entries of a safetensors file, without its metadata."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header


def read_safetensors(path):
    """The tensors of a file: name -> (dtype, shape, bytes)."""
    data = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return {name: (entry["dtype"], entry["shape"],
                   data[8 + size + entry["data_offsets"][0] : 8 + size + entry["data_offsets"][1]])
            for name, entry in read_header(path).items()}


def write_safetensors(path, tensors, metadata=None):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def weights_bytes(directory):
    return sum(file.stat().st_size for file in Path(directory).glob("*.safetensors"))


def all_tensors(directory):
    tensors = {}
    for file in sorted(Path(directory).glob("model*.safetensors")):
        tensors.update(read_safetensors(file))
    return tensors


def bf16(values):
    """Little-endian BF16 of floats, truncated."""
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def make_llama(directory, layers=1, hidden=64, heads=2, vocabulary=64, seed=1, **config):
    """Writes a tiny random Llama. Further keys replace those of the configuration."""
    random_weights, width = random.Random(seed), 2 * hidden
    shapes = {"model.embed_tokens": [vocabulary, hidden], "lm_head": [vocabulary, hidden],
              "model.norm": [hidden]}
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes.update({layer + "input_layernorm": [hidden],
                       layer + "post_attention_layernorm": [hidden]})
        shapes.update({f"{layer}self_attn.{p}_proj": [hidden, hidden] for p in "qkvo"})
        shapes.update({layer + "mlp.gate_proj": [width, hidden],
                       layer + "mlp.up_proj": [width, hidden],
                       layer + "mlp.down_proj": [hidden, width]})
    if config.get("tie_word_embeddings"):
        del shapes["lm_head"]
    directory.mkdir(parents=True)
    write_safetensors(directory / "model.safetensors", {
        f"{name}.weight": ("BF16", shape, bf16(random_weights.gauss(0, 0.05)
                                               for _ in range(math.prod(shape))))
        for name, shape in shapes.items()})
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "vocab_size": vocabulary, "max_position_embeddings": 512, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", **config}))
    return directory


def digest(directory):
    """The names and contents of everything in a directory."""
    return {str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(Path(directory).rglob("*")) if file.is_file()}


def names_in(directory):
    return sorted(path.name for path in Path(directory).iterdir())
