"""The proof of a plan in thirty lines: check_bound.py PLAN RATES. (check_certificate.py checks the rules behind it too.)

No plan within the budget costs less than  sum_i min_j (cost_ij + lambda bytes_ij) - lambda budget,  whatever lambda >= 0
is. Everything is computed again from the rate table, in whole numbers and fractions; the solver is not trusted.
"""
import hashlib, json, math, sys
from fractions import Fraction

plan, text = json.load(open(sys.argv[1])), open(sys.argv[2], "rb").read()
assert hashlib.sha256(text).hexdigest() == plan["rates"]["sha256"], "the plan was made from another rate table"
table = {m["name"]: m for m in json.loads(text)["modules"]}
planned = {m["name"]: m for m in plan["modules"]}
assert planned.keys() == table.keys() == {m for i in plan["items"] for m in i["modules"]}, "other modules"


def price(name, choice):  # (bytes, cost) of one choice of one module
    module, alpha = table[name], planned[name]["alpha"]
    at = module["choices"].index(choice)
    error, power = module["sum_squares_error"][at], module["sum_squares"]
    harm = 0 if power == 0 else alpha * error / power if plan["objective"] == "weights" else alpha * math.sqrt(error / power)
    return module["bytes"][at], round(harm * 1e15)


claim = plan["certificate"]
lam, size, cost, bound = Fraction(int(claim["lambda"]["num"]), int(claim["lambda"]["den"])), plan["fixed_bytes"], 0, 0
for item in plan["items"]:
    options = {o: [sum(v) for v in zip(*(price(m, o) for m in item["modules"]))] for o in item["options"]}
    chosen = {planned[m]["choice"] for m in item["modules"]}.pop()
    size, cost = size + options[chosen][0], cost + options[chosen][1]
    bound += min(c + lam * b for b, c in options.values())
bound = math.ceil(bound - lam * (plan["budget_bytes"] - plan["fixed_bytes"]))
assert lam >= 0 and size == plan["bytes"] <= plan["budget_bytes"], f"{size} bytes, planned {plan['bytes']}, budget {plan['budget_bytes']}"
assert (cost, bound) == (int(claim["upper_bound"]), int(claim["lower_bound"])), f"cost {cost}, bound {bound}: not as claimed"
print(f"{size} of {plan['budget_bytes']} bytes; cost {cost}, no plan costs less than {bound}: within {(cost - bound) / cost if cost else 0:.3%}")
