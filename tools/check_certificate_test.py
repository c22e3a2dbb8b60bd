#!/usr/bin/env python3
"""Tests check_certificate.py: it accepts a plan, and rejects it with any one thing changed.

    python3 check_certificate_test.py plan.json rates.json
"""
import copy
import hashlib
import json
import os
import subprocess
import sys
import tempfile

CHECKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check_certificate.py")


def check(plan_text, rates_text):
    """Exit status and everything that was printed."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, "plan.json"), os.path.join(folder, "rates.json")]
        for path, text in zip(paths, (plan_text, rates_text)):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run([sys.executable, CHECKER, *paths], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def larger(text):
    return str(int(text) + 1)


def tamperings(plan, rates):
    """(what, change of the plan, change of the table); a changed table is signed again."""
    items = {n: i for i in plan["items"] for n in i["modules"]}
    at = next(i for i, m in enumerate(plan["modules"])
              if len(items[m["name"]]["options"]) > 2 and m["cost"] != "0")
    name = plan["modules"][at]["name"]
    place = rates_place(rates, name)
    chosen = rates["modules"][place]["choices"].index(plan["modules"][at]["choice"])

    def another_choice(p):
        p["modules"][at]["choice"] = next(c for c in items[name]["options"]
                                          if c != p["modules"][at]["choice"])

    def another_lambda(p):
        p["certificate"]["lambda"]["num"] = str(2 * int(p["certificate"]["lambda"]["num"]) + 1)

    def fewer_options(p):
        next(i for i in p["items"] if name in i["modules"])["options"].remove(
            next(c for c in items[name]["options"] if c != p["modules"][at]["choice"]))

    def set_in(path, value):
        def change(document):
            for key in path[:-1]:
                document = document[key]
            document[path[-1]] = value(document[path[-1]]) if callable(value) else value
        return change

    module = ["modules", at]
    yield "another choice", another_choice, None
    yield "a choice that is not allowed", set_in([*module, "choice"], "2,256"), None
    yield "bytes of a module", set_in([*module, "bytes"], lambda v: v - 1), None
    yield "bytes of the plan", set_in(["bytes"], lambda v: v - 1), None
    yield "fixed bytes", set_in(["fixed_bytes"], lambda v: v + 1), None
    yield "cost of a module", set_in([*module, "cost"], larger), None
    yield "alpha", set_in([*module, "alpha"], lambda v: v * 1.01), None
    yield "a negative alpha", set_in([*module, "alpha"], -1), None
    yield "a smaller budget", set_in(["budget_bytes"], plan["bytes"] - 1), None
    yield "a larger budget", set_in(["budget_bytes"], lambda v: v + 100000), None
    yield "lambda", another_lambda, None
    yield "a negative lambda", set_in(["certificate", "lambda", "num"], "-1"), None
    yield "lower bound", set_in(["certificate", "lower_bound"], larger), None
    yield "upper bound", set_in(["certificate", "upper_bound"], larger), None
    yield "options taken away", fewer_options, None
    yield "the floor", set_in(["floor_db"], lambda v: v + 20), None
    yield "the menu", set_in(["menu"], lambda v: v[1:-4]), None
    yield "another rule", set_in(["rules"], lambda v: v + [
        {"kind": "at_least", "pattern": name, "bits": 16, "text": name + ">=16"}]), None
    yield "a missing module", set_in(["modules"], lambda v: v[:-1]), None
    yield "a missing key", lambda p: p.pop("certificate"), None
    yield "another hash", set_in(["rates", "sha256"], "0" * 64), None
    table = ["modules", place]
    yield "an error in the table", None, set_in([*table, "sum_squares_error", chosen],
                                                lambda v: v * 1.01)
    yield "bytes in the table", None, set_in([*table, "bytes", chosen], lambda v: v + 1)
    yield "the norm in the table", None, set_in([*table, "sum_squares"], lambda v: v * 1.01)
    yield "overhead in the table", None, set_in(["overhead_bytes"], lambda v: v + 1)


def rates_place(rates, name):
    return next(i for i, m in enumerate(rates["modules"]) if m["name"] == name)


def main(plan_path, rates_path):
    with open(plan_path, encoding="utf-8") as file:
        plan_text = file.read()
    with open(rates_path, encoding="utf-8") as file:
        rates_text = file.read()
    plan, rates = json.loads(plan_text), json.loads(rates_text)
    failures = []

    status, output = check(plan_text, rates_text)
    if status != 0 or output.count("\n") != 1:
        failures.append(f"the plan itself: {output}")
    status, output = check(plan_text, rates_text + " ")
    if status != 1:
        failures.append("a table with another hash was accepted")
    status, output = check(plan_text[:len(plan_text) // 2], rates_text)
    if status != 1:
        failures.append("half a plan was accepted")

    count = 0
    for what, change_plan, change_rates in tamperings(plan, rates):
        count += 1
        changed_plan, changed_rates = copy.deepcopy(plan), rates_text
        if change_plan:
            change_plan(changed_plan)
        if change_rates:
            table = copy.deepcopy(rates)
            change_rates(table)
            changed_rates = json.dumps(table)
            changed_plan["rates"]["sha256"] = hashlib.sha256(changed_rates.encode()).hexdigest()
        status, output = check(json.dumps(changed_plan), changed_rates)
        if status != 1 or output.count("\n") != 1 or "does not hold" not in output:
            failures.append(f"{what}: exit status {status}: {output}")
        elif "-v" in sys.argv:
            print(f"{what}: {output.strip()}")
    for failure in failures:
        print("FAILED:", failure)
    print(f"{count} changes of one thing, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: check_certificate_test.py plan.json rates.json [-v]")
    sys.exit(main(sys.argv[1], sys.argv[2]))
