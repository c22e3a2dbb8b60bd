"""ram report: a page that stands alone, is well-formed, says what compare says, and what it refuses."""
import html.parser
import math
import re
import shutil

from cli_harness import DATA, INPUT, MOE, USAGE, Test, read_json

GLM, QWEN3, LOGS = DATA / "stats" / "glm_replay.csv", DATA / "stats" / "qwen3_replay.csv", DATA / "ppl-logs"
VOID = {"meta", "link", "br", "hr", "img", "input"}
NUMBERS = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "width", "height", "viewbox", "d", "transform"}
WRITTEN = re.compile(r"[A-Za-z(), ]+")


class Page(html.parser.HTMLParser):
    """Collects ids, links, headings and drawn numbers; complains about everything that is not closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.wrong, self.tags, self.text = [], [], [], [], [], ""
        self.feed(text)
        self.close()
        self.wrong += [f"never closed: {tag}" for tag in self.open]

    def handle_starttag(self, tag, attrs, alone=False):
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.wrong.append(f"attribute twice in {tag}: {names}")
        self.tags.append((tag, dict(attrs)))
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                self.links.append((tag, value))
            if name.startswith("on"):
                self.wrong.append(f"{tag} {name}={value}")
            if name in NUMBERS and tag not in ("meta",):
                for number in filter(None, WRITTEN.split(value.replace("device-width", ""))):
                    for part in re.findall(r"-?[^-]+", number):
                        if not math.isfinite(float(part)):
                            self.wrong.append(f"{tag} {name}={value}")
                if "nan" in value or "inf" in value:
                    self.wrong.append(f"{tag} {name}={value}")
        if not alone and tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs, alone=True)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"closed without being open: {tag} at line {self.getpos()[0]}")

    def handle_data(self, data):
        self.text += data.replace("\xa0", " ")

    def count(self, tag, **attrs):
        return sum(name == tag and attrs.items() <= found.items() for name, found in self.tags)


def report(t, *sources, name="report.html"):
    out = t.scratch / name
    t.succeeds(t.run("report", *sources, "-o", out))
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    t.equal(page.wrong, [], f"{name}: wrong")
    t.equal(len(set(page.ids)), len(page.ids), f"{name}: ids are unique")
    t.equal([link for _, link in page.links if link.startswith("#") and link[1:] not in page.ids], [], "links lead somewhere")
    t.equal([link for _, link in page.links if not link.startswith("#")], ["data:,"], f"{name}: loads nothing")
    t.check(not re.search(r"https?:|@import|url\(|<script", text), f"{name}: refers to the network")
    for tag, attrs in page.tags:
        t.check(tag != "svg" or attrs.get("role") in ("img", "group") and "aria-labelledby" in attrs, f"{tag} {attrs}")
        t.check(tag != "th" or attrs.get("scope") in ("row", "col"), "scope of a heading")
    t.equal(page.count("table"), page.count("caption"), "tables have captions")
    for label in (word for _, attrs in page.tags for word in attrs.get("aria-labelledby", "").split()):
        t.check(label in page.ids, f"label {label}")
    return page


def test_tables_and_logs(t):
    page = report(t, GLM)
    for verdict in t.json("compare", GLM)["groups"][0]["verdict"]:
        t.check(verdict in page.text, f"verdict is missing: {verdict}")
    for words in ("5 above 100", "11.344", "Paired differences", "Window by window"):
        t.check(words in page.text, f"{words!r} is missing")
    t.check("Size and quality" not in page.text, "a plot of sizes that nobody knows")
    based = report(t, GLM, "--base", "Q4", "--title", "<Quarter> & more")
    t.check("<Quarter> & more" in based.text and "perplexity above that of Q4" in based.text, "--base, --title")
    report(t, QWEN3)
    logs = report(t, *sorted(LOGS.glob("*.txt")), "--allow-different-windows")
    t.equal(logs.count("svg"), 4, "windows; sizes, windows, pairs: one group is a single model")
    one = report(t, LOGS / "GLM-4.7-Flash.txt")
    t.check("46 above 100" in one.text, "outliers of GLM-4.7-Flash")


def test_texts(t):
    table = t.scratch / "texts.csv"
    rows = "".join(f'"</p><script>alert({i})</script>\nline ""two""",{2 + i % 5 / 10 + (5 if i == 7 else 0)},{2.1 + i % 5 / 10}\n'
                   for i in range(40))
    table.write_text("text,<i>A</i>,B&B\n" + rows)
    page = report(t, table)
    t.check("alert(7)" in page.text and "<i>A</i>" in page.text, "texts and names are shown as they are")
    t.check(page.count("details") >= 10 and page.count("summary") == page.count("details"), "texts open on request")


def test_plans(t):
    folder = t.scratch / "moe-4.5bpw"
    t.succeeds(t.run("compress", MOE, "--budget", "4.5bpw", "-o", folder))
    page = report(t, folder, name="folder.html")
    for words in ("Plan: moe-4.5bpw", "What bits buy", "worst at 4 bits", "The same as a table", "the plan's choice"):
        t.check(words in page.text, f"{words!r} is missing")
    plan, rates = folder / "plan.json", t.scratch / "moved.dat"
    shutil.copy(folder / "rates.json", rates)  # Told apart by content.
    both = report(t, rates, plan, GLM, name="both.html")
    t.equal(both.count("svg"), 4, "windows, pairs, plan, rates")
    cells = sum(tag == "rect" and attrs["class"].startswith("cell") for tag, attrs in both.tags) - 7
    t.equal(cells, len(read_json(plan)["modules"]), "a cell for each module")
    first = (t.scratch / "both.html").read_bytes()
    report(t, rates, plan, GLM, name="both.html")
    t.equal((t.scratch / "both.html").read_bytes(), first, "the same files give the same bytes")


def test_refuses(t):
    out = t.scratch / "none.html"
    for name, data, words in (("other.json", b'{"format": "x"}', "neither a plan"),
                              ("broken.json", b'{"format": ', "broken.json"),
                              ("plan.json", b'{"format": "ram.plan.v1"}', "plan.json"),
                              ("picture.png", b"\x89PNG\r\n\x1a\n\0\0", "not a score file"),
                              ("prose.txt", b"once upon a time", "prose.txt"),
                              ("empty.txt", b"", "empty")):
        path = t.scratch / name
        path.write_bytes(data)
        t.refuses(t.run("report", path, "-o", out), INPUT, name, words)
        t.refuses(t.run("report", GLM, path, "-o", out), INPUT, name)
    empty = t.scratch / "empty_folder"
    empty.mkdir()
    t.refuses(t.run("report", empty, "-o", out), INPUT, "empty_folder", "plan.json")
    t.refuses(t.run("report", t.scratch / "gone.scores", "-o", out), INPUT, "gone.scores")
    t.refuses(t.run("report", GLM, QWEN3, "-o", out), INPUT, "cannot be paired", "--allow-different-windows")
    t.refuses(t.run("report", GLM, "--base", "Q5", "-o", out), INPUT, "--base Q5")
    t.refuses(t.run("report", GLM), USAGE, "--output")
    t.check(not out.exists(), "a page of nothing was written")


def main():
    t = Test()
    for test in (test_tables_and_logs, test_texts, test_plans, test_refuses):
        test(t)
    t.finish()


main()
