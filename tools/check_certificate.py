#!/usr/bin/env python3
"""Checks the certificate of a plan without trusting the program that made it.

    python3 check_certificate.py plan.json rates.json

Recomputed from the rate table, in exact arithmetic: what menu, floor, rules and ties allow, bytes,
costs, and the lower bound

    sum over items of min over allowed choices (cost + lambda * bytes)  -  lambda * budget.

Whatever lambda >= 0 is, no plan within the budget costs less than that. The sensitivities (alpha)
are taken from the plan: the proof is about the stated costs. Formats: docs/plan.md.
"""
import fnmatch
import hashlib
import json
import math
import sys


def demand(condition, sentence):
    if not condition:
        sys.exit("the certificate does not hold: " + sentence)


def matches(pattern, module):
    """A pattern is a run of whole path components, anywhere in the path."""
    p, m = pattern.split("."), module.split(".")
    return any(all(map(fnmatch.fnmatchcase, m[i:], p)) for i in range(len(m) - len(p) + 1))


def permits(rule, choice):
    if "choice" in rule:
        return (choice == rule["choice"]) == (rule["kind"] == "pin")
    if choice == "mxfp4":
        return True  # Rules about bits are about loss, and it loses nothing.
    bits, given = int(choice.split(",")[0]), rule["bits"]
    return {"at_least": bits >= given, "at_most": bits <= given, "ban": bits != given}[rule["kind"]]


def allowed(plan, module, table):
    """What menu, floor, protection and rules leave to a module."""
    norm, floor = float(module["sum_squares"]), plan["floor_db"]
    largest = float("%.11e" % 10 ** (-floor / 10)) if floor else math.inf  # Relative squared error.
    base = [c for c in table if c in ("16", "mxfp4")
            or c in plan["menu"] and (norm == 0 or table[c]["rtn"] <= largest * norm)]
    is_gate = "router" in (module["kind"], module["class"]) or module["class"] == "linear_alpha_beta"
    kept = base
    if plan["protect"] and is_gate:
        kept = [c for c in base if c in ("16", "mxfp4", "8,64", "8,32")]
    left = kept
    for rule in plan["rules"]:
        if matches(rule["pattern"], module["name"]):
            pinned = [c for c in table if rule["kind"] == "pin" and c == rule["choice"]]
            narrowed = ([c for c in old if permits(rule, c)] for old in (left, kept, base, pinned))
            left = next((choices for choices in narrowed if choices), [])
    return left


def cost(objective, alpha, error, norm):
    """In units of 1e-15: IEEE doubles, operations in this order, ties to even."""
    if norm == 0:
        return 0
    harm = alpha * error / norm if objective == "weights" else alpha * math.sqrt(error / norm)
    return round(min(harm * 1e15, 2.0**62))


def main(plan_path, rates_path):
    with open(plan_path, encoding="utf-8") as plan_file, open(rates_path, "rb") as rates_file:
        plan, text = json.load(plan_file), rates_file.read()
    demand(hashlib.sha256(text).hexdigest() == plan["rates"]["sha256"],
           "the plan was made from another rate table")
    rates, certificate, budget = json.loads(text), plan["certificate"], plan["budget_bytes"]
    modules = {m["name"]: m for m in rates["modules"]}
    planned = {m["name"]: m for m in plan["modules"]}
    item_of = {n: i for i, item in enumerate(plan["items"]) for n in item["modules"]}
    decided = [n for item in plan["items"] for n in item["modules"]]
    demand(sorted(modules) == sorted(planned) == sorted(decided),
           "the plan does not decide every module of the table once")

    tables = {}  # module -> choice -> bytes, cost, and the error of plain rounding
    for name, m in modules.items():
        alpha, norm = float(planned[name]["alpha"]), float(m["sum_squares"])
        demand(0 <= alpha < math.inf, f"the sensitivity of {name} is {alpha}")
        rtn = m.get("rtn_sum_squares_error", [None] * len(m["choices"]))
        tables[name] = {
            c: {"bytes": b, "cost": cost(plan["objective"], alpha, float(e), norm),
                "rtn": float(e if r is None else r)}
            for c, b, e, r in zip(m["choices"], m["bytes"], m["sum_squares_error"], rtn)}

    tied = {}  # (tie, layer) -> its modules
    for name, m in modules.items():
        for i, patterns in enumerate(plan["ties"]):
            if any(matches(p, name) for p in patterns):
                tied.setdefault((i, m["layer"]), []).append(name)
    demand(all(len({item_of[n] for n in names}) == 1 for names in tied.values()),
           "a tie is not kept")

    num, den = int(certificate["lambda"]["num"]), int(certificate["lambda"]["den"])
    demand(num >= 0 and den > 0, f"lambda {num}/{den} is no price")
    fixed = rates["overhead_bytes"] + sum(tensor["bytes"] for tensor in rates["fixed"])
    size, total, dual = fixed, 0, -num * (budget - fixed)  # dual: times den
    for item in plan["items"]:
        names = item["modules"]
        demand(len(names) == 1 or set(names) <= {n for group in tied.values() for n in group},
               f"{names[0]} and {names[-1]} are decided together without a tie")
        options = set.intersection(*(set(allowed(plan, modules[n], tables[n])) for n in names))
        demand(options == set(item["options"]),
               f"{names[0]} may have other choices than menu, floor and rules leave it")
        for n in names:
            choice = planned[n]["choice"]
            demand(choice in options, f"{n} has {choice}, which is not allowed")
            demand(choice == planned[names[0]]["choice"], f"{names[0]} and {n} are tied but differ")
            table = tables[n][choice]
            demand(planned[n]["bytes"] == table["bytes"], f"{n} takes {table['bytes']} bytes")
            demand(int(planned[n]["cost"]) == table["cost"], f"{n} costs {table['cost']}")
            size, total = size + table["bytes"], total + table["cost"]
        dual += min(sum(den * tables[n][c]["cost"] + num * tables[n][c]["bytes"] for n in names)
                    for c in options)
    bound = -(-dual // den)  # Rounded up: costs are whole.
    demand(plan["fixed_bytes"] == fixed, f"{fixed} bytes are fixed, not {plan['fixed_bytes']}")
    demand(plan["bytes"] == size, f"the plan takes {size} bytes, not {plan['bytes']}")
    demand(size <= budget, f"the plan takes {size} bytes, the budget is {budget}")
    demand(int(certificate["upper_bound"]) == total, f"the plan costs {total}")
    demand(int(certificate["lower_bound"]) == bound, f"lambda proves a lower bound of {bound}")
    gap = 100 * (total - bound) / total if total else 0
    print(f"{plan['model']}: the plan takes {size} of {budget} bytes and costs {total * 1e-15:.9g}; "
          f"no plan within the budget costs less than {bound * 1e-15:.9g}; the gap is {gap:.3g} %")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: check_certificate.py plan.json rates.json")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        sys.exit(f"the certificate does not hold: {type(error).__name__}: {error}")
