"""ram stats against scipy, statsmodels and numpy: every statistic, to 1e-9, on ordinary and nasty samples."""
import warnings

import numpy as np
from harness import Report, arguments, run_json
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.stattools import acf

TOLERANCE = 1e-9
SEED, RESAMPLES, BLOCK = 42, 2000, 4


def samples():
    """Name -> columns that belong together row by row."""
    random = np.random.default_rng(5)
    for n in (2, 3, 5, 6, 7, 12, 50, 51, 59, 60, 146, 813):
        base = random.normal(2.2, 0.3, n)
        yield f"normal {n}", [base, base + random.normal(0.001, 0.004, n), base + random.normal(0, 0.02, n)]
    for n in (8, 40, 200):
        yield f"ties {n}", [random.integers(0, 4, n).astype(float), random.integers(0, 5, n).astype(float)]
        yield f"heavy {n}", [random.standard_t(1, n), random.standard_t(2, n)]
        outlier = random.normal(0, 1, n)
        outlier[n // 2] = 1e12
        yield f"outlier {n}", [outlier, random.normal(0.5, 1, n)]
        yield f"pareto {n}", [random.pareto(1.1, n) + 1, random.pareto(3, n) + 1]
    yield "zeros among few", [np.array([1.0, 2, 3, 4, 5, 6, 7]), np.array([1.0, 2, 3, 4.5, 5.25, 5, 7])]
    yield "zeros among many", [np.repeat(np.arange(40.0), 2), np.repeat(np.arange(40.0), 2) * (np.arange(80) % 3)]
    yield "equal", [np.arange(30.0), np.arange(30.0)]
    yield "constant", [np.full(20, 0.1), np.full(20, 0.35)]
    yield "one sign", [np.arange(1.0, 31), np.zeros(30)]
    yield "tiny", [np.array([3e-300, 1e-300, 2e-300, 5e-300]), np.array([1e-300, 4e-300, 1e-300, 1e-300])]
    yield "one row", [np.array([1.5]), np.array([2.5])]


class Checker:
    def __init__(self, report, where, scale):
        self.report, self.where, self.scale = report, where, scale

    def __call__(self, name, found, expected, scale=None):
        """Equal to 1e-9, relative, or absolute on the scale of the data. null: not finite."""
        scale = self.scale if scale is None else scale
        if found is None:
            return self.report.check(not np.isfinite(expected), f"{self.where}, {name}: null, expected {expected}")
        close = abs(found - expected) <= TOLERANCE * max(abs(expected), scale)
        self.report.check(bool(close), f"{self.where}, {name}: {found}, expected {expected}")

    def interval(self, name, found, low, high):
        self(f"{name}, low", found[0], low)
        self(f"{name}, high", found[1], high)

    def estimate(self, name, found, value, error, df):
        self(name, found["value"], value)
        if df <= 0:
            return self.report.check(found["p"] is None, f"{self.where}, {name}: p of one number")
        self(f"{name}, SE", found["standard_error"], error)
        reach = stats.t.ppf(0.975, df) * error
        self.interval(name, found["interval"], value - reach, value + reach)
        # A p below 1e-9 only on its own scale, and only where the SE is more than rounding.
        if error > 1e-12 * self.scale:
            self(f"{name}, p", found["p"], 2 * stats.t.sf(abs(value) / error, df), scale=0)


def trimmed(x, cut):
    """Value, SE, df of the trimmed mean: scipy's, with the share that is really cut."""
    g = int(cut * len(x))
    share = (g + 1e-9) / len(x)
    error = stats.mstats.trimmed_stde(x, limits=(share, share)) * (1 - 2 * share) / (1 - 2 * g / len(x))
    return stats.trim_mean(x, cut), float(error), len(x) - 2 * g - 1


def order_interval(x):
    k = int(stats.binom.ppf(0.025, len(x), 0.5))
    while k > 0 and stats.binom.cdf(k - 1, len(x), 0.5) > 0.025:
        k -= 1
    s = np.sort(x)
    return (s[k - 1], s[len(x) - k]) if k > 0 else (-np.inf, np.inf)


def walsh(x):
    i, j = np.triu_indices(len(x))
    return np.sort(x[i] / 2 + x[j] / 2)


def signed_rank_null(n):
    count = np.zeros(n * (n + 1) // 2 + 1)
    count[0] = 1
    for rank in range(1, n + 1):
        count[rank:] = count[rank:] + count[:-rank]
    return np.cumsum(count) / 2.0**n


def pairs_interval(x):
    n, means = len(x), walsh(x)
    if n <= 50:
        c = int(np.searchsorted(signed_rank_null(n), 0.025, side="right"))
    else:
        sigma = np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        c = int(n * (n + 1) / 4 + 0.5 - stats.norm.ppf(0.975) * sigma)
    return (means[c - 1], means[len(means) - c]) if c > 0 else (-np.inf, np.inf)


def wilcoxon_p(d, zeros):
    if not d.any():
        return 1.0
    kept = d[d != 0] if zeros == "wilcox" else d
    nonzero = np.count_nonzero(d)
    if nonzero > 50:
        return stats.wilcoxon(d, zero_method=zeros, correction=True, method="asymptotic").pvalue
    untied = len(np.unique(np.abs(kept))) == len(kept) and 0 not in kept
    if untied:
        return stats.wilcoxon(kept, method="exact").pvalue
    if len(kept) > 13:
        return None  # Too many sign patterns for scipy.
    ranks = stats.rankdata(np.abs(kept))[kept != 0]
    signs = np.sign(kept[kept != 0])
    patterns = (np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks))) & 1
    sums = patterns @ ranks
    return np.mean(np.abs(sums - ranks.sum() / 2) >= abs(ranks[signs > 0].sum() - ranks.sum() / 2))


def philox(counter, key):
    """Philox4x32-10 on arrays of 32-bit words held in 64 bits."""
    c, k, low = [np.asarray(word, np.uint64) for word in counter], list(key), np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        half = np.uint64(32)
        c = [(b >> half) ^ c[1] ^ np.uint64(k[0]), b & low, (a >> half) ^ c[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, axis=-1)


def draws(n, block):
    """The windows of every resample [RESAMPLES, n]."""
    starts = -(-n // block)
    blocks = np.arange(-(-starts // 4))
    words = philox((np.broadcast_to(blocks, (RESAMPLES, len(blocks))), np.zeros((1, 1)),
                    np.arange(RESAMPLES)[:, None] * np.ones_like(blocks), np.zeros((1, 1))), (SEED, 0))
    words = words.reshape(RESAMPLES, -1)[:, :starts]
    first = (words * np.uint64(n - block + 1) >> np.uint64(32)).astype(int)
    return (first[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :n]


def bootstrap_interval(d):
    n = len(d)
    means = d[draws(n, 1)].mean(axis=1)
    z = np.sqrt(n / (n - 1)) * stats.t.ppf([0.025, 0.975], n - 1)
    if n < 60 and means.min() != means.max():
        # Resampled means that are the mean but for rounding count half, as ties should.
        tie = np.isclose(means, d.mean(), rtol=1e-12, atol=1e-13 * np.abs(d).max())
        share = (np.count_nonzero((means < d.mean()) & ~tie) + np.count_nonzero(tie) / 2) / RESAMPLES
        if 0 < share < 1:
            bias = stats.norm.ppf(share)
            without = (d.sum() - d) / (n - 1)
            dev = without.mean() - without
            squares = (dev**2).sum()
            acceleration = (dev**3).sum() / (6 * squares**1.5) if squares > 0 else 0
            z = bias + (bias + z) / (1 - acceleration * (bias + z))
            return np.quantile(means, stats.norm.cdf(z)), np.any(tie)
    return np.quantile(means, stats.norm.cdf(z)), False


def check_column(check, column, x):
    n = len(x)
    error = stats.sem(x) if n > 1 else np.nan
    check.estimate("mean", column["mean"], np.mean(x), error, n - 1)
    check("sd", column["standard_deviation"], np.std(x, ddof=1) if n > 1 else np.nan)
    check("median", column["median"]["value"], np.median(x))
    check.interval("median", column["median"]["interval"], *order_interval(x))
    check("Hodges-Lehmann", column["hodges_lehmann"]["value"], np.median(walsh(x)))
    for key, q in (("p01", 0.01), ("p05", 0.05), ("p25", 0.25), ("p75", 0.75), ("p95", 0.95), ("p99", 0.99)):
        check(key, column["quantiles"][key], np.quantile(x, q))
    for key in ("0.05", "0.10", "0.25"):
        value, error, df = trimmed(x, float(key)) if n > 1 else (x[0], np.nan, 0)
        check.estimate(f"trimmed {key}", column["trimmed_mean"][key], value, error, df)
    if np.ptp(x) > 0:
        if n > 2:
            check("skewness", column["skewness"], stats.skew(x), scale=1)
            check("autocorrelation", column["autocorrelation"], acf(x, nlags=1, fft=False)[1], scale=1)
    if x.min() > 0 and n >= 20 and np.ptp(x) > 0:
        logs, k = np.sort(np.log(x)), n // 10
        alpha = 1 / (logs[-k:].mean() - logs[-k - 1])
        check("tail index", column["tail_index"]["alpha"], alpha)
        check("tail index, low", column["tail_index"]["interval"][0], max(0, alpha * (1 - 1.959963984540054 / k**0.5)))


def check_pair(check, pair, d):
    n = len(d)
    check.estimate("mean difference", pair["mean"], np.mean(d), stats.sem(d), n - 1)
    check.estimate("trimmed difference", pair["trimmed_mean"], *trimmed(d, 0.10))
    check("median difference", pair["median"]["value"], np.median(d))
    check.interval("median difference", pair["median"]["interval"], *order_interval(d))
    check("HL difference", pair["hodges_lehmann"]["value"], np.median(walsh(d)))
    check.interval("HL difference", pair["hodges_lehmann"]["interval"], *pairs_interval(d))
    positive, negative = int((d > 0).sum()), int((d < 0).sum())
    expected = stats.binomtest(positive, positive + negative).pvalue if positive + negative else 1
    check("sign test", pair["sign"]["p"], expected, scale=0)
    for key, zeros in (("wilcoxon", "wilcox"), ("wilcoxon_pratt", "pratt")):
        expected = wilcoxon_p(d, zeros)
        if expected is not None:
            check(key, pair[key]["p"], expected, scale=1e-12)
    check("detectable", pair["detectable_mean"],
          stats.sem(d) * (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)))

    (low, high), has_ties = bootstrap_interval(d)
    if not has_ties:  # Whose sides depend on the last bit of a mean.
        check.interval("bootstrap", pair["bootstrap"]["interval"], low, high)
    check.report.check(pair["bootstrap"]["method"] == ("bca" if n < 60 else "percentile"), f"{check.where}: method")
    if n >= 2 * BLOCK:
        check("block SE", pair["block_standard_error"], d[draws(n, BLOCK)].mean(axis=1).std(ddof=1))

    flip, total = pair["flip_set"]["windows"], d.sum()
    if abs(total) > 1e-9 * np.abs(d).sum():
        rounding = 1e-9 * np.abs(d).max()
        rest = np.sign(total) * np.delete(d, flip).sum()
        before = np.sign(total) * np.delete(d, flip[:-1]).sum()
        check.report.check(rest <= rounding and before > -rounding,
                           f"{check.where}: flip set {flip} leaves {rest}, {before} one before")
    if pair["influence"]:
        check("influence", pair["influence"][0]["share"], np.abs(d).max() / np.abs(d).sum())


def check_holm(report, name, pairs):
    for key, get in (("mean", lambda p: p["mean"]["p"]), ("trimmed_mean", lambda p: p["trimmed_mean"]["p"]),
                     ("wilcoxon", lambda p: p["wilcoxon"]["p"]), ("sign", lambda p: p["sign"]["p"])):
        p = [get(pair) for pair in pairs]
        if pairs and None not in p:
            adjusted = multipletests(p, method="holm")[1]
            report.check(np.allclose([pair["holm"][key] for pair in pairs], adjusted, rtol=TOLERANCE, atol=0),
                         f"{name}: Holm of {key}")


def main():
    warnings.simplefilter("ignore")
    args, report = arguments(), Report()
    for name, columns in samples():
        table = args.scratch / "sample.csv"
        names = [f"c{i}" for i in range(len(columns))]
        rows = [",".join(names)] + [",".join(repr(float(v)) for v in row) for row in zip(*columns)]
        table.write_text("\n".join(rows) + "\n")
        found = run_json(args.ram, "stats", table, "--resamples", RESAMPLES, "--seed", SEED)
        for column, x in zip(found["columns"], columns):
            check_column(Checker(report, f"{name}, {column['name']}", np.abs(x).max()), column, x)
        if len(columns[0]) > 1:
            report.check(len(found["pairs"]) == len(columns) * (len(columns) - 1) // 2, f"{name}: pairs")
        for pair in found["pairs"]:
            d = columns[names.index(pair["a"])] - columns[names.index(pair["b"])]
            scale = max(np.abs(d).max(), np.abs(columns[0]).max() * 1e-3)
            check_pair(Checker(report, f"{name}, {pair['a']} - {pair['b']}", scale), pair, d)
        check_holm(report, name, found["pairs"])
    report.finish()


main()
