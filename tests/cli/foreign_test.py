"""verify and inspect believe the files, not what is written about them: MLX models of other tools."""
import json

from cli_harness import (INPUT, Test, copy_model, make_llama, read_json, read_safetensors,
                         write_safetensors)

ATTENTION = [f"model.layers.0.self_attn.{p}_proj" for p in "qkvo"]
MLP = [f"model.layers.0.mlp.{p}_proj" for p in ("gate", "up", "down")]
MODULES = ["model.embed_tokens", *ATTENTION, *MLP, "lm_head"]


class ForeignTest(Test):
    def setup(self):
        """Two models with one choice each, packed by the command; foreign ones are made of them."""
        self.source = make_llama(self.scratch / "source")
        self.packed = {}
        for choice in ("4,64", "8,64", "4,32"):
            file = self.scratch / f"{choice}.safetensors"
            self.succeeds(self.run("pack", self.source / "model.safetensors", "--choice", choice,
                                   "-o", file, "-q"))
            self.packed[choice] = read_safetensors(file)

    def foreign(self, name, choices, quantization, drop=(), model_type="llama"):
        """A directory in which modules have these choices ("4,64" unless named)."""
        directory = self.folder(name)
        tensors = {}
        for tensor, value in self.packed["4,64"].items():
            module = tensor.rsplit(".", 1)[0]
            tensors[tensor] = self.packed[choices.get(module, "4,64")].get(tensor, value)
        for tensor in drop:
            del tensors[tensor]
        write_safetensors(directory / "model.safetensors", tensors, {"format": "mlx"})
        config = read_json(self.source / "config.json")
        config |= {"model_type": model_type, "quantization": quantization,
                   "quantization_config": quantization}
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    def sound(self, directory):
        done = self.run("verify", directory)
        self.check(done.returncode == 0 and "problem" not in done.stdout,
                   f"{directory.name}: {done.stdout}{done.stderr}")
        self.check_bits(directory)

    def problems(self, directory, *expected):
        """verify ends with 1 and names each of these; inspect names them too."""
        done = self.run("verify", directory, "--json")
        found = json.loads(done.stdout)["problems"] if done.stdout else []
        self.check(done.returncode == INPUT, f"{directory.name}: status {done.returncode}")
        for fragments in expected:
            self.check(any(all(f in problem for f in fragments) for problem in found),
                       f"{directory.name}: no problem names {fragments}; found {found}")
        self.equal(len(found), len(expected), f"{directory.name}: problems {found}")
        text = self.run("inspect", directory).stdout
        for fragments in expected:
            self.check(fragments[0] in text, f"{directory.name}: inspect does not name {fragments}")
        self.check_bits(directory)

    def check_bits(self, directory):
        """Bits per weight as the files have them: 8 bytes of tensors / weights of the source."""
        tensors = {}
        for file in directory.glob("model*.safetensors"):
            tensors.update(read_safetensors(file))
        num_bytes = sum(len(data) for _, _, data in tensors.values())
        num_weights = sum(len(data) // 2 for _, _, data in
                          read_safetensors(self.source / "model.safetensors").values())
        report = json.loads(self.run("inspect", directory, "--json").stdout)
        self.check(abs(report["bits_per_weight"] - 8 * num_bytes / num_weights) < 1e-9,
                   f"{directory.name}: {report['bits_per_weight']} bits per weight, the files hold "
                   f"{8 * num_bytes / num_weights}")


def test_sound(t):
    uniform = {"group_size": 64, "bits": 4}
    t.sound(t.foreign("uniform", {}, uniform))
    t.sound(t.foreign("with-mode", {}, uniform | {"mode": "affine"}))
    mixed = dict.fromkeys(MLP, "8,64")
    t.sound(t.foreign("mixed", mixed, uniform | {m: {"group_size": 64, "bits": 8} for m in MLP}))
    # The recipes of mlx-lm write null where no group size was asked for.
    t.sound(t.foreign("null", mixed, {"group_size": None, "bits": 4}
                      | {m: {"group_size": None, "bits": 8} for m in MLP}))
    # An entry inherits nothing: without a group size it has the 64 of its mode, not the default's 32.
    others = {m: "4,32" for m in MODULES if m not in MLP}
    t.sound(t.foreign("inherit", others | mixed, {"group_size": 32, "bits": 4}
                      | {m: {"bits": 8} for m in MLP}))


def test_disagreements(t):
    uniform = {"group_size": 64, "bits": 4}
    # Says uniform, is mixed; says mixed, is uniform (the metadata of a tool whose arguments slipped).
    t.problems(t.foreign("says-uniform", dict.fromkeys(MLP, "8,64"), uniform),
               *[(m, "4,64", "8,64") for m in MLP])
    t.problems(t.foreign("says-mixed", {}, uniform | {m: {"group_size": 64, "bits": 8} for m in MLP}),
               *[(m, "8,64", "4,64") for m in MLP])
    t.problems(t.foreign("other-group", {MLP[0]: "4,32"}, uniform), (MLP[0], "4,64", "4,32"))
    t.problems(t.foreign("says-false", {}, uniform | {"lm_head": False}), ("lm_head", "false"))
    t.problems(t.foreign("unknown-module", {}, uniform | {"model.layers.9.x": {"bits": 4}}),
               ("model.layers.9.x",))
    t.problems(t.foreign("unknown-key", {}, uniform | {"quant_method": "optiq"}), ("quant_method",))
    t.problems(t.foreign("no-number", {}, uniform | {"lm_head": {"bits": "4", "group_size": 64}}),
               ("lm_head", "bits"))


def test_holes(t):
    uniform = {"group_size": 64, "bits": 4}
    directory = t.foreign("no-scales", {}, uniform, drop=["lm_head.scales", "lm_head.biases"])
    done = t.run("verify", directory)
    t.check(done.returncode == INPUT and "lm_head.scales" in done.stdout, f"no scales: {done.stdout}")
    directory = t.foreign("no-biases", {}, uniform, drop=["lm_head.biases"])
    t.problems(directory, ("lm_head", "biases"))
    directory = t.foreign("no-norm", {}, uniform, drop=["model.norm.weight"])
    done = t.run("verify", directory)
    t.check(done.returncode == INPUT and "model.norm.weight" in done.stdout, "no norm: accepted")
    directory = t.foreign("no-quantization", {}, uniform)
    config = read_json(directory / "config.json")
    del config["quantization"], config["quantization_config"]
    (directory / "config.json").write_text(json.dumps(config))
    t.refuses(t.run("verify", directory, "-q"), INPUT, "problem")


def test_shards(t):
    """mlx-lm loads every model*.safetensors, whatever the index says."""
    uniform = {"group_size": 64, "bits": 4}
    directory = t.foreign("stale", {}, uniform)
    tensors = read_safetensors(directory / "model.safetensors")
    weight_map = dict.fromkeys(tensors, "model.safetensors")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    t.sound(directory)
    stale = directory / "model-00002-of-00002.safetensors"
    write_safetensors(stale, {"lm_head.weight": t.packed["8,64"]["lm_head.weight"]})
    done = t.run("verify", directory)
    t.check(done.returncode == INPUT and stale.name in done.stdout,
            f"a stale shard: {done.stdout}{done.stderr}")
    stale.unlink()
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map | {"lm_head.weight": "x"}}))
    t.refuses(t.run("verify", directory), INPUT)


def test_unknown_family(t):
    """Judged by the tensors alone."""
    uniform = {"group_size": 64, "bits": 4}
    t.sound(t.foreign("unknown", {}, uniform, model_type="perceiver"))
    directory = t.foreign("unknown-mixed", {MLP[0]: "4,32"}, uniform, model_type="perceiver")
    t.problems(directory, (MLP[0], "4,64", "4,32"))


def test_ours_damaged(t):
    out = t.scratch / "ours"
    t.succeeds(t.run("compress", t.source, "--budget", "6bpw", "-o", out))
    t.succeeds(t.run("verify", out))
    for name in ("config.json", "model.safetensors"):
        damaged = copy_model(out, t.scratch / f"damaged-{name}")
        (damaged / name).write_bytes((damaged / name).read_bytes()[:-1000])
        t.refuses(t.run("verify", damaged), INPUT, name)


def main():
    t = ForeignTest()
    t.setup()
    for test in (test_sound, test_disagreements, test_holes, test_shards, test_unknown_family,
                 test_ours_damaged):
        test(t)
    t.finish()


main()
