"""Per-window scores that have the summary numbers published for two models.

glm_replay.csv: 141 windows of GLM-4.7-Flash in four forms. Published (baa.ai, article 18), per form:
corpus perplexity, median, 10 % trimmed mean, outliers. The other windows follow normal quantiles of
ln p with one spread below and one above the median; the two spreads are solved for, so that every
published number is met. The same windows are hard for every form.
qwen3_replay.csv: 146 windows of two models whose medians are 8.971 and 8.974, with the spread of
ln p (0.31) and of paired differences (0.004) that real runs of Qwen3-30B-A3B show.

  python3 make_replays.py        rewrites both files beside this one
"""
import math
import random
import statistics
from pathlib import Path

HERE = Path(__file__).parent
WINDOWS, STEP = 141, 50  # Rank r is window STEP r mod WINDOWS: hard windows lie apart.
# name: corpus, median, trimmed mean (None: not published), outliers.
FORMS = {
    "BF16": (11.344, 8.706, 8.6895, [25000, 31000, 42000, 58000, 81000]),
    "FP16": (11.208, 8.609, 8.6475, [24000, 30500, 41000, 56000, 80000]),
    "Q4": (9.930, 9.084, 9.1774, [101, 310, 340, 360]),
    "RAM-15.8": (9.427, 9.210, None, []),
}


def trimmed(values, cut=0.10):
    values = sorted(values)
    g = int(cut * len(values))
    return statistics.fmean(values[g:len(values) - g])


def solve(function, low, high):
    """The root of a rising function."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def ranked(corpus, median, goal, outliers):
    """ln p in ascending order."""
    normal = statistics.NormalDist()
    q = [normal.inv_cdf((r + 0.5) / WINDOWS) for r in range(WINDOWS - len(outliers))]

    def logs(below, above):
        return [math.log(median) + x * (below if x < 0 else above) for x in q] + [
            math.log(p) for p in outliers]

    def above_for(below):  # That meets the corpus perplexity.
        return solve(lambda above: math.fsum(logs(below, above)) - WINDOWS * math.log(corpus), 0, 3)

    if goal is None:
        below = 0.31
    else:  # A wider spread below needs a wider one above, which raises the trimmed mean.
        below = solve(lambda b: trimmed(map(math.exp, logs(b, above_for(b)))) - goal, 0.01, 1.5)
    print(f"  spread below {below:.3f}, above {above_for(below):.3f}")
    return logs(below, above_for(below))


def glm():
    columns = {}
    for name, numbers in FORMS.items():
        print(name)
        order = ranked(*numbers)
        columns[name] = [0.0] * WINDOWS
        for r, value in enumerate(order):
            columns[name][r * STEP % WINDOWS] = value
    rows = [["window", "tokens", *columns]]
    for s in range(WINDOWS):
        rows.append([str(s), "2047", *(f"{column[s]:.9f}" for column in columns.values())])
    return rows


def qwen3():
    draw, normal = random.Random(42), statistics.NormalDist(0, 0.31)
    noise = [draw.gauss(0, 0.004) for _ in range(146)]
    shift = math.log(8.974 / 8.971)
    rows = [["window", "tokens", "A", "B"]]
    for s in range(146):
        r = s * 45 % 146  # Its rank; 72 and 73 are the middle and sit on the median in both.
        middle = r in (72, 73)
        a = math.log(8.971) + (0 if middle else normal.inv_cdf((r + 0.5) / 146)
                               + math.copysign(0.02, r - 72.5))
        b = a + shift + (0 if middle else noise[s] - statistics.fmean(noise))
        rows.append([str(s), "2047", f"{a:.9f}", f"{b:.9f}"])
    return rows


for file, rows in (("glm_replay.csv", glm()), ("qwen3_replay.csv", qwen3())):
    (HERE / file).write_text("\n".join(",".join(row) for row in rows) + "\n")
