"""ram stats: known answers, what it refuses, and that every number is there in text and JSON."""
from cli_harness import INPUT, USAGE, Test


def write(t, name, text):
    path = t.scratch / name
    path.write_text(text)
    return path


def test_known_answers(t):
    table = write(t, "known.csv", "window,a,b\n" + "".join(f"w{i},{i + 3},{i}\n" for i in range(10)))
    found = t.json("stats", table)
    t.equal([c["name"] for c in found["columns"]], ["a", "b"], "columns")
    a, pair = found["columns"][0], found["pairs"][0]
    t.equal((a["mean"]["value"], a["median"]["value"], a["max"]), (7.5, 7.5, 12), "mean, median, max")
    t.equal(a["median"]["interval"], [4, 11], "interval of the median of ten")
    t.equal((pair["a"], pair["b"]), ("b", "a"), "the second column against the first")
    for key in ("mean", "trimmed_mean", "hodges_lehmann", "median"):
        t.equal(pair[key]["value"], -3, key)
    t.equal(pair["mean"]["interval"], [-3, -3], "interval of a constant")
    t.equal(pair["mean"]["p"], 0, "p of a constant")
    t.equal(pair["sign"], {"positive": 0, "negative": 10, "zero": 0, "p": 2 / 1024}, "sign test")
    t.equal(pair["wilcoxon"]["p"], 2 / 1024, "Wilcoxon, all ranks tied")


def test_determinism(t):
    table = write(t, "same.csv", "a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(100)))
    first = t.run("stats", table, "--json").stdout
    t.equal(t.run("stats", table, "--json", "--threads", 7).stdout, first, "--threads 7")
    t.check(t.run("stats", table, "--json", "--seed", 7).stdout != first, "--seed 7 changes nothing")


def test_small(t):
    one = t.json("stats", write(t, "one.csv", "a,b\n1,2\n"))
    t.equal(one["pairs"], [], "pairs of one row")
    t.check(one["columns"][0]["mean"]["p"] is None, "p of one number")
    t.equal(t.json("stats", write(t, "column.tsv", "only\tword\n1\t2\n3\t4\n"))["columns"][1]["n"], 2, "tabs")
    single = t.run("stats", write(t, "single.csv", "only\n1\n2\n"))
    t.check(t.succeeds(single) and "only" in single.stdout, single.stdout)


def test_labels(t):
    done = t.run("stats", write(t, "labels.csv", "tensor,a\nx,1\ny,2\n"))
    t.check(t.succeeds(done) and "column tensor holds no numbers" in done.stderr, done.stderr)


def test_columns(t):
    table = write(t, "three.csv", "a,b,c\n1,2,x\n2,4,y\n3,7,z\n")
    found = t.json("stats", table, "--columns", "b,a")
    t.equal([c["name"] for c in found["columns"]], ["a", "b"], "--columns b,a")
    t.refuses(t.run("stats", table, "--columns", "a,d"), INPUT, "no column d among a, b, c")


def test_bad_input(t):
    for name, text, fragments in (
            ("empty.csv", "", ("empty.csv", "empty")),
            ("names.csv", "a,b\n", ("names.csv", "no rows")),
            ("nan.csv", "a,b\n1,2\n3,nan\n", ("nan.csv", "line 3", "column b", "nan")),
            ("inf.csv", "a,b\n1,inf\n", ("line 2", "column b", "finite")),
            ("word.csv", "a,b\n1,2\n1,two\n", ("line 3", "two")),
            ("ragged.csv", "a,b\n1,2\n3\n", ("line 3", "1 cells")),
            ("bare.csv", "1,2\n3,4\n", ("names of the columns",)),
            ("twice.csv", "a,a\n1,2\n", ("called",)),
            ("quote.csv", "a,\"b\n1,2\n", ("quote",)),
            ("labels.csv", "window,text\n1,2\n", ("no column of numbers",))):
        t.refuses(t.run("stats", write(t, name, text)), INPUT, *fragments)
    t.refuses(t.run("stats", t.scratch / "none.csv"), INPUT, "none.csv")
    t.refuses(t.run("stats"), USAGE, "FILE")


def main():
    t = Test()
    for test in (test_known_answers, test_determinism, test_small, test_labels, test_columns, test_bad_input):
        test(t)
    t.finish()


main()
