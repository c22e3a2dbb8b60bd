"""The same model, size and version give the same bytes: with any number of threads, with and without
the cache, from any folder to any folder.
"""
import shutil

from cli_harness import BABY, FAMILIES, MOE, QWEN3_MOE, Test, digest


def check_same(t, model, size, *more):
    expected = None
    for number, options in enumerate((("--threads", 1, "--no-cache"), ("--threads", 2, "--no-cache"),
                                      ("--threads", 5, "--no-cache"), ("--threads", 5), (),
                                      ("--threads", 1))):
        out = t.scratch / "out"
        if not t.succeeds(t.run("compress", model, "--budget", size, "-o", out, *options, *more)):
            return
        found = digest(out)
        if expected is None:
            expected = found
        t.equal({name for name in found.keys() | expected.keys()
                 if found.get(name) != expected.get(name)}, set(),
                f"{model.name} {more}: files that differ with {options}")
        shutil.rmtree(out)


def check_place_does_not_matter(t):
    """The folder's name is in the model card, its path nowhere."""
    outs = []
    for parent in ("here", "there"):
        out = t.folder(parent) / "name"
        t.succeeds(t.run("compress", MOE, "--budget", "5bpw", "-o", out))
        outs.append(digest(out))
    t.equal(outs[0], outs[1], "the same name in two folders")
    out = t.scratch / "another-name"
    t.succeeds(t.run("compress", MOE, "--budget", "5bpw", "-o", out))
    other = digest(out)
    t.equal({name for name in other if other[name] != outs[0][name]} - {"README.md"}, set(),
            "files that depend on the folder's name")
    for file in ("config.json", "model.safetensors", "model.safetensors.index.json"):
        t.check(str(t.scratch).encode() not in (out / file).read_bytes(), f"{file} names a folder")


def check_sizes_side_by_side(t):
    """Several sizes in one call are those of several calls."""
    t.succeeds(t.run("compress", MOE, "--budget", "4bpw,6bpw", "-o", t.scratch / "both"))
    for size in ("4bpw", "6bpw"):
        t.succeeds(t.run("compress", MOE, "--budget", size, "-o", t.scratch / f"alone-{size}"))
        both, alone = digest(t.scratch / f"both-{size}"), digest(t.scratch / f"alone-{size}")
        t.equal({name for name in both if both[name] != alone.get(name)} - {"README.md"}, set(),
                f"{size}, alone and together")


def main():
    t = Test()
    check_same(t, MOE, "4.5bpw")
    check_same(t, BABY, "7bpw")
    check_same(t, QWEN3_MOE, "5bpw", "--quantizer", "opt")
    check_same(t, QWEN3_MOE, "5bpw", "--quantizer", "rtn")
    for family in FAMILIES:
        check_same(t, family, "60%")
    check_place_does_not_matter(t)
    check_sizes_side_by_side(t)
    t.finish()


main()
