"""The promise: what lies on the disk is never larger than the budget, whatever the budget.

For every fixture 40 budgets between the smallest plan and 16 bits are planned from one rate table,
and some of them are written.
"""
import random
import subprocess
import sys

from cli_harness import BABY, FAMILIES, MOE, ROOT, STORIES, Test, read_header, read_json, weights_bytes

NUM_BUDGETS = 40
CERTIFIED = 3  # Plans per model that the Python checker sees as well.


def unused_digits(directory, plan):
    """A plan charges every offset in a header the digits of the model's size; most have fewer."""
    widest = len(str(plan["dense_bytes"]))
    return sum(2 * widest - sum(len(str(offset)) for offset in entry["data_offsets"])
               for file in directory.glob("*.safetensors")
               for entry in read_header(file).values())


def certified(plan, rates):
    return subprocess.run([sys.executable, ROOT / "tools" / "check_certificate.py", plan, rates],
                          capture_output=True, text=True)


def check_model(t, model, random_budgets):
    folder = t.folder(model.name)
    rates = folder / "rates.json"
    t.succeeds(t.run("measure", model, "-o", rates))
    smallest = t.json("plan", rates, "--min-safe")
    low, high = smallest["min_safe_bytes"], smallest["dense_bytes"]
    t.equal(smallest["bytes"], low, f"{model.name}: bytes of the smallest plan")
    budgets = sorted({low, low + 1, high - 1, high, *(random_budgets.randint(low, high)
                                                      for _ in range(NUM_BUDGETS - 4))})
    plans = t.json("plan", rates, "--budget", ",".join(map(str, budgets)))
    t.equal([plan["budget_bytes"] for plan in plans], budgets, f"{model.name}: budgets")
    t.equal([b for b, plan in zip(budgets, plans) if plan["bytes"] > b], [],
            f"{model.name}: budgets that the plan exceeds")
    costs = [int(plan["certificate"]["upper_bound"]) for plan in plans]
    bounds = [int(plan["certificate"]["lower_bound"]) for plan in plans]
    t.check(all(low <= cost for low, cost in zip(bounds, costs)), f"{model.name}: a bound is broken")
    # A plan may lie within its proven gap above the optimum, so costs may rise by that, no more.
    t.check(all(bound <= cost for i, bound in enumerate(bounds) for cost in costs[: i + 1]),
            f"{model.name}: a larger budget is proven to cost more")
    t.check(all(b <= a for a, b in zip(costs, costs[1:])), f"{model.name}: costs rise with budgets")
    t.equal(costs[-1], 0, f"{model.name}: cost of 16 bits")
    t.refuses(t.run("plan", rates, "--budget", low - 1), 1, "smallest")

    for budget in random_budgets.sample(budgets, CERTIFIED):
        plan = folder / f"{budget}.json"
        t.succeeds(t.run("plan", rates, "--budget", budget, "-o", plan))
        done = certified(plan, rates)
        t.check(done.returncode == 0, f"{model.name}, {budget} bytes: {done.stderr}")
    for budget in (low, budgets[NUM_BUDGETS // 3], high):
        check_written(t, model, budget, folder / f"out-{budget}")


def check_written(t, model, budget, out):
    if not t.succeeds(t.run("compress", model, "--budget", budget, "-o", out)):
        return
    on_disk, plan = weights_bytes(out), read_json(out / "plan.json")
    t.check(on_disk <= plan["bytes"] <= budget,
            f"{out}: {on_disk} bytes on the disk, {plan['bytes']} planned, budget {budget}")
    # Nothing else is left over: those digits and, per file, a comma and what pads the header to 64.
    slack, digits = plan["bytes"] - on_disk, unused_digits(out, plan)
    t.check(digits <= slack <= digits + 65 * len(list(out.glob("*.safetensors"))),
            f"{out}: {slack} bytes planned but not used, {digits} of them digits of offsets")
    done = certified(out / "plan.json", out / "rates.json")
    t.check(done.returncode == 0, f"{out}: {done.stderr}")
    t.succeeds(t.run("verify", out))


def main():
    t = Test()
    random_budgets = random.Random(1)
    for model in [*FAMILIES, STORIES, BABY, MOE]:
        check_model(t, model, random_budgets)
    t.finish()


main()
