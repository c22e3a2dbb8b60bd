"""What the command prints, and what its options do: JSON, widths, quiet, help, several sizes, rules."""
import json
import os
import unicodedata

from cli_harness import INPUT, MOE, QWEN3_MOE, USAGE, Test, digest, names_in, read_json

VERBS = ("compress", "inspect", "doctor", "measure", "plan", "curve", "verify", "pack")
TINY = QWEN3_MOE


def width(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
               for c in line)


class OutputTest(Test):
    def setup(self):
        self.rates = self.scratch / "rates.json"
        self.out = self.scratch / "model"
        self.succeeds(self.run("measure", TINY, "-o", self.rates))
        self.succeeds(self.run("compress", TINY, "--budget", "5bpw", "-o", self.out))
        # Every verb, in a way that succeeds; doctor may find fault with the machine.
        new = self.folder("written")
        self.commands = [
            ("compress", MOE, "--budget", "4.5bpw", "-o", new / "one", "--overwrite"),
            ("compress", MOE, "--tiers", "--dry-run"),
            ("compress", MOE, "--device", "16GB Mac", "--dry-run"),
            ("inspect", MOE), ("inspect", TINY, "--tensors"), ("inspect", self.out),
            ("measure", MOE, "-o", new / "rates.json"),
            ("plan", self.rates, "--budget", "5bpw"), ("plan", self.rates, "--budget", "4bpw,5bpw"),
            ("plan", MOE, "--budget", "5bpw", "--explain"), ("plan", self.rates, "--min-safe"),
            ("curve", self.rates), ("curve", MOE, "-o", new / "curve.svg"),
            ("verify", self.out), ("verify", new / "one"),
            ("pack", TINY / "model.safetensors", "--choice", "4,64", "-o", new / "bare.safetensors",
             "--overwrite")]


def test_json(t):
    for words in [*t.commands, ("doctor",), ("doctor", TINY)]:
        done = t.run(*words, "--json")
        try:
            json.loads(done.stdout)
        except ValueError as error:
            t.check(False, f"{words[0]} --json: {error}: {done.stdout[:300]!r}")
        if words[0] != "doctor":
            t.equal((done.returncode, done.stderr), (0, ""), f"{words} --json")
    for words, status in ((("compress", t.scratch / "no", "--budget", "1GB"), INPUT),
                          (("plan", t.rates, "--budget", "1"), INPUT),
                          (("verify", t.scratch / "no"), INPUT), (("plan", "--nonsense"), USAGE)):
        done = t.run(*words, "--json")
        t.check(done.returncode == status and done.stdout == "" and done.stderr.count("\n") == 1,
                f"{words} --json: {done.returncode} {done.stdout!r} {done.stderr!r}")
        error = json.loads(done.stderr)["error"]
        t.check(error["message"] and error["exit"] == status, f"{words}: {error}")


def test_widths(t):
    for columns in ("80", "120"):
        for locale in ("C", "C.UTF-8"):
            env = {**os.environ, "COLUMNS": columns, "LC_ALL": locale}
            for words in [*t.commands, ("doctor",), ("doctor", TINY)]:
                if "--explain" in words or "--device" in words:
                    continue  # Paragraphs of 100 columns, and lines of one finding each.
                done = t.run(*words, env=env)
                t.check(words[0] == "doctor" or done.returncode == 0, f"{words}: {done.stderr}")
                wide = [line for line in done.stdout.splitlines() if width(line) > int(columns)]
                # A path cannot be broken; nor can a command that is there to be copied.
                wide = [line for line in wide if str(t.scratch) not in line]
                t.equal(wide, [], f"{words[:2]} in {columns} columns, {locale}")
                t.check("\x1b" not in done.stdout + done.stderr, f"{words}: escapes in a pipe")
                if locale == "C":
                    t.check(done.stdout.isascii(), f"{words}: not ASCII in the locale C")


def test_quiet(t):
    for words in t.commands:
        done = t.run(*words, "--quiet")
        t.equal((done.returncode, done.stdout, done.stderr), (0, "", ""), f"{words} --quiet")


def test_color(t):
    t.check("\x1b[" in t.run("inspect", t.out, "--color", "always").stdout, "--color always has none")
    t.check("\x1b" not in t.run("inspect", t.out, "--color", "never").stdout, "--color never has some")


def test_progress(t):
    done = t.run("compress", MOE, "--budget", "5bpw", "-o", t.scratch / "progress", "--no-cache",
                 "--progress", "json", "-q")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    t.check({"measure", "write"} <= {line["stage"] for line in lines},
            f"stages of --progress json: {sorted({line['stage'] for line in lines})}")
    for stage in {line["stage"] for line in lines}:
        parts = [line for line in lines if line["stage"] == stage]
        counts = [line["done_bytes"] for line in parts]
        t.check(counts == sorted(counts) and counts[-1] == parts[-1]["total_bytes"],
                f"--progress json, {stage}: {counts[:5]} ... {counts[-5:]} of {parts[-1]}")


def test_help(t):
    done = t.run("--version")
    t.check(done.returncode == 0 and done.stdout.startswith("ram "), f"--version: {done.stdout}")
    for words in ((), *((verb,) for verb in VERBS)):
        done = t.run(*words, "--help")
        t.check(done.returncode == 0 and "--help" in done.stdout and done.stderr == "",
                f"{words} --help")
        t.equal([line for line in done.stdout.splitlines() if len(line) > 84], [],
                f"{words} --help: wide lines")


def test_several_sizes(t):
    folder = t.folder("several")
    t.succeeds(t.run("compress", TINY, "--budget", "4bpw,40%", "--budget", "6bpw", "-o",
                     folder / "m"))
    t.equal(names_in(folder), ["m-40p", "m-4bpw", "m-6bpw"], "folders of several sizes")
    t.succeeds(t.run("compress", TINY, "--tiers", "-o", folder / "t", "--no-rates"))
    t.equal([n for n in names_in(folder) if n[0] == "t"], ["t-3bit", "t-4bit", "t-6bit", "t-8bit"],
            "folders of --tiers")
    t.check("rates.json" not in names_in(folder / "t-4bit"), "--no-rates writes rates.json")
    done = t.json("compress", TINY, "--min-safe", "-o", folder / "smallest")
    plan = read_json(folder / "smallest" / "plan.json")
    t.equal(plan["bytes"], plan["min_safe_bytes"], "--min-safe")
    t.equal(done["plans"][0]["directory"], str(folder / "smallest"), "the folder in --json")
    done = t.json("compress", TINY, "--device", "16GB Mac", "-o", folder / "mac")
    t.check(done["plans"][0]["budget_bytes"] > 1 << 30, f"--device: {done}")
    # The default name: in the current folder, after model and size.
    t.succeeds(t.run("compress", TINY, "--budget", "5bpw", cwd=t.folder("current")))
    t.equal(names_in(t.scratch / "current"), [f"{TINY.name}-5bpw"], "the default name")


def test_dry_run(t):
    folder = t.folder("dry")
    done = t.run("compress", TINY, "--budget", "5bpw", "--dry-run", cwd=folder)
    t.check(t.succeeds(done) and "dry run" in done.stderr, f"--dry-run: {done.stderr}")
    before = digest(t.out)
    t.succeeds(t.run("compress", TINY, "--budget", "6bpw", "--dry-run", "-o", t.out))
    t.equal(digest(t.out), before, "what --dry-run changes")
    t.equal(names_in(folder), [], "what --dry-run writes")


def test_rules(t):
    def choices(*options):
        plan = t.json("plan", t.rates, "--budget", "6bpw", *options)
        return {m["name"]: m["choice"] for m in plan.get("modules", [])}

    found = choices("--pin", "lm_head=6,32")
    t.equal(found.get("lm_head"), "6,32", "--pin lm_head=6,32")
    found = choices("--pin", "v_proj>=8")
    t.check(all(c == "16" or c.startswith("8") for m, c in found.items() if m.endswith("v_proj")),
            f"--pin v_proj>=8: {found}")
    found = choices("--ban", "*=4", "--ban", "*=5")
    t.check(found and not any(c[0] in "45" for c in found.values()), f"--ban *=4 *=5: {found}")
    found = choices("--tie", "q_proj,k_proj,v_proj")
    for layer in (0, 1):
        prefix = f"model.layers.{layer}.self_attn."
        t.equal(len({found.get(f"{prefix}{p}_proj") for p in "qkv"}), 1, f"--tie, layer {layer}")
    found = choices("--menu", "4,32;8,32")
    t.check(found and set(found.values()) <= {"4,32", "8,32", "16"}, f"--menu: {found}")
    plan = t.json("plan", t.rates, "--budget", "6bpw", "--pin", "lm_head=6,32", "--floor-db", "0")
    t.equal([rule["text"] for rule in plan["rules"]], ["lm_head=6,32"], "rules in plan.json")
    t.equal(plan["floor_db"], 0, "floor in plan.json")


def test_nothing_to_do(t):
    done = t.run("compress", TINY, "--budget", "100%", "-o", t.scratch / "whole")
    t.check(t.succeeds(done) and "changes nothing" in done.stdout, f"100%: {done.stdout}")
    t.check("quantization" not in read_json(t.scratch / "whole" / "config.json"), "100%: quantization")


def main():
    t = OutputTest()
    t.setup()
    for test in (test_json, test_widths, test_quiet, test_color, test_progress, test_help,
                 test_several_sizes, test_dry_run, test_rules, test_nothing_to_do):
        test(t)
    t.finish()


main()
