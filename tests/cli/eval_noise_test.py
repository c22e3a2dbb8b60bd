"""ram eval noise: the controlled-noise experiment from the command, resumed, and with wrong input."""
import math
import shutil

from cli_harness import DATA, INPUT, MOE, STORIES, USAGE, Test, digest, names_in

t = Test()
TEXT = t.scratch / "text.txt"
TEXT.write_text((DATA / "wikitext/first_20000.txt").read_text())
SMALL = t.scratch / "small"
OUT = t.scratch / "noise"
WORDS = ("eval", "noise", MOE, "--like", SMALL, "--data", TEXT, "--context", "64", "--windows", "6", "--seeds", "2",
         "--doses", "1,4", "-o", OUT)

t.succeeds(t.run("compress", MOE, "--budget", "4.5bpw", "-o", SMALL))


def test_report(found):
    page = t.scratch / "noise.html"
    done = t.run("report", OUT, "-o", page)
    t.succeeds(done)
    t.check("1 noise experiment" in done.stdout, done.stdout)
    html = page.read_text()
    for part in ("Noise control: noise", found["sentences"][0].split(".")[0], "gaussian ×4", "permuted", "<svg"):
        t.check(part in html, f"the page has {part}")
    # The picture is of the numbers that the verb gave.
    typical = 100 * (math.exp(found["compressed"]["trimmed"]["value"]) - 1)
    t.check(any(f"{typical:+.{digits}f} %" in html for digits in (0, 1, 2, 3)), f"the typical window: {typical}")
    part = t.scratch / "part"
    shutil.copytree(OUT, part)
    (part / "antithetic.scores").unlink()
    t.refuses(t.run("report", part, "-o", page), INPUT, "part", "antithetic")
    (part / "compressed.scores").unlink()
    t.refuses(t.run("report", part, "-o", page), INPUT, "noise experiment")


def test_experiment():
    found = t.json(*WORDS)
    t.equal([(c["name"], c["dose"], len(c["seeds"])) for c in found["controls"]],
            [("permuted", 1, 2), ("group", 1, 2), ("uniform", 1, 2), ("gaussian", 1, 2), ("gaussian", 4, 2)], "controls")
    t.equal(found["judged_by"], "permuted", "the control that is closest to the errors")
    conditions = {c["name"]: c for c in found["conditions"]}
    t.equal(names_in(OUT), sorted(f"{name}.scores" for name in conditions), "scores of every condition")
    for name, condition in conditions.items():
        t.equal(len(condition["window_nll"]), 6, f"{name}: windows")
        if name not in ("original", "compressed"):
            snr = condition["snr_db"]
            for key in ("mean", "pooled"):
                t.check(abs(snr["target"][key] - snr["realised"][key]) < 0.05, f"{name}: {key} SNR {snr}")
    weak, strong = (conditions[f"gaussian-x{dose}-seed1"]["snr_db"]["target"]["mean"] for dose in (1, 4))
    t.check(abs(weak - strong - 12.0412) < 1e-3, f"four times the noise is 12 dB: {weak}, {strong}")
    t.equal(conditions["antithetic"]["snr_db"]["target"], found["error_snr_db"], "the errors' own SNR")

    # A dose of 4 hurts; the compressed model scores as ram eval perplexity says.
    strong = found["controls"][4]["mean"]["trimmed"]
    t.check(strong > max(0.01, found["controls"][3]["mean"]["trimmed"]), f"a dose of 4 hurts: {strong}")
    one = t.json("eval", "perplexity", SMALL, "--data", TEXT, "--context", "64", "--windows", "6", "-o",
                 t.scratch / "small.scores")[0]
    t.equal(conditions["compressed"]["window_nll"], one["window_nll"], "the compressed model as it is")
    first = [(c - a) / 2 for c, a in zip(conditions["compressed"]["window_nll"], conditions["antithetic"]["window_nll"])]
    t.check(abs(found["first_order"]["corpus"]["value"] - sum(first) / 6) < 1e-9, "what errors do by their direction")
    return found


def test_resume(found):
    before = digest(OUT)
    kept = OUT / "uniform-x1-seed2.scores"
    kept.unlink()
    times = {path.name: path.stat().st_mtime_ns for path in OUT.iterdir()}
    again = t.json(*WORDS, "--threads", "1")
    t.equal(again, found, "resumed, with one thread: the same result")
    t.equal(digest(OUT), before, "and the same files")
    t.equal({path.name: path.stat().st_mtime_ns for path in OUT.iterdir() if path != kept}, times, "nothing ran twice")
    t.refuses(t.run(*WORDS, "--per", "tensor"), INPUT, "original.scores", "another experiment", "--restart")
    t.refuses(t.run(*WORDS, "--seed", "7"), INPUT, "another experiment")


def test_text():
    text = t.run(*WORDS)
    t.succeeds(text)
    t.check("Verdict: " in text.stdout and "2 seeds are few" in text.stdout, text.stdout)
    t.check(max(map(len, text.stdout.splitlines())) <= 80, "fits 80 columns")


def test_bad_input():
    words = ("--data", TEXT, "--context", "64", "--windows", "6", "-o", t.scratch / "bad")
    t.refuses(t.run("eval", "noise", MOE, "--like", STORIES, *words), INPUT, "do not match")
    t.refuses(t.run("eval", "noise", STORIES, "--like", SMALL, *words), INPUT, "do not match")
    t.refuses(t.run("eval", "noise", MOE, "--like", MOE, *words), INPUT, "no module", "quantized")
    t.refuses(t.run("eval", "noise", MOE, "--like", t.scratch / "nothing", *words), INPUT, "nothing")
    t.refuses(t.run("eval", "noise", MOE, "--like", SMALL, "--doses", "2", *words), INPUT, "--doses")
    t.refuses(t.run("eval", "noise", MOE, *words), USAGE, "--like")
    t.refuses(t.run("eval", "noise", MOE, "--like", SMALL, "--seeds", "1", *words), USAGE, "--seeds")
    t.refuses(t.run("eval", "noise", MOE, "--like", SMALL, "--controls", "pink", *words), USAGE, "--controls")
    t.check(not (t.scratch / "bad").exists(), "nothing was begun")


result = test_experiment()
test_resume(result)
test_text()
test_report(result)
test_bad_input()
t.finish()
