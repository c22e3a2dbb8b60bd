"""Proofs are checked by whoever wants to: a plan with any one thing changed is rejected, by the
Python checker and by `ram verify` in the finished directory.
"""
import hashlib
import json
import shutil
import subprocess
import sys

from cli_harness import BABY, INPUT, MOE, QWEN3_MOE, ROOT, Test, copy_model, read_json

CHECKER_TEST = ROOT / "tools" / "check_certificate_test.py"


def set_number(*path):
    """A change of one number, which plans keep as a number or as a string of digits."""
    def change(document):
        for key in path[:-1]:
            document = document[key]
        old = document[path[-1]]
        document[path[-1]] = str(int(old) + 1) if isinstance(old, str) else old + 1
    return change


def another_lambda(plan):
    """Twice as much: a price a little off may prove the same bound."""
    price = plan["certificate"]["lambda"]
    price["num"] = str(2 * int(price["num"]) + int(price["den"]))


def another_choice(plan):
    module = next(m for m in plan["modules"] if m["choice"] == "16" or m["choice"].startswith("8"))
    module["choice"] = "4,64"


PLAN_CHANGES = {
    "choice": another_choice,
    "bytes of the plan": set_number("bytes"),
    "bytes of a module": set_number("modules", 0, "bytes"),
    "cost of a module": set_number("modules", 0, "cost"),
    "fixed bytes": set_number("fixed_bytes"),
    "lower bound": set_number("certificate", "lower_bound"),
    "upper bound": set_number("certificate", "upper_bound"),
    "lambda": another_lambda,
    "sensitivity": set_number("modules", 0, "alpha"),
    "budget": lambda plan: plan.update(budget_bytes=plan["bytes"] - 1),
    "hash of the table": lambda plan: plan["rates"].update(sha256="0" * 64),
}
RATES_CHANGES = {
    "an error": lambda rates: rates["modules"][0]["sum_squares_error"].__setitem__(0, 1e-9),
    "bytes": lambda rates: rates["modules"][0].update(
        bytes=[count + 1 for count in rates["modules"][0]["bytes"]]),
    "a norm": set_number("modules", 0, "sum_squares"),
    "the overhead": set_number("overhead_bytes"),
}


def check_rejected(t, source, what, change_plan=None, change_rates=None, sign=False):
    """Verifies a copy of `source` with one thing changed."""
    directory = copy_model(source, t.scratch / "tampered")
    plan, rates_text = read_json(directory / "plan.json"), (directory / "rates.json").read_text()
    if change_rates:
        rates = json.loads(rates_text)
        change_rates(rates)
        rates_text = json.dumps(rates)
        (directory / "rates.json").write_text(rates_text)
        if sign:
            plan["rates"]["sha256"] = hashlib.sha256(rates_text.encode()).hexdigest()
    if change_plan:
        change_plan(plan)
    (directory / "plan.json").write_text(json.dumps(plan))
    done = t.run("verify", directory, "-q")
    t.check(done.returncode == INPUT and "problem" in done.stderr,
            f"verify, another {what}: status {done.returncode}, {done.stderr}")
    shutil.rmtree(directory)


def main():
    t = Test()
    for model, size in ((QWEN3_MOE, "5bpw"), (BABY, "6bpw"), (MOE, "4bpw")):
        rates, plan = t.scratch / "rates.json", t.scratch / "plan.json"
        t.succeeds(t.run("measure", model, "-o", rates))
        t.succeeds(t.run("plan", rates, "--budget", size, "-o", plan))
        done = subprocess.run([sys.executable, CHECKER_TEST, plan, rates], capture_output=True,
                              text=True)
        t.check(done.returncode == 0, f"{model.name}: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    out = t.scratch / "out"
    t.succeeds(t.run("compress", QWEN3_MOE, "--budget", "6bpw", "-o", out))
    done = t.run("verify", out)
    t.check(t.succeeds(done) and "certificate" in done.stdout, "verify does not name the certificate")
    for what, change in PLAN_CHANGES.items():
        check_rejected(t, out, what, change_plan=change)
    for what, change in RATES_CHANGES.items():
        check_rejected(t, out, f"{what} in the table", change_rates=change)
        check_rejected(t, out, f"{what} in the table, signed", change_rates=change, sign=True)
    t.finish()


main()
