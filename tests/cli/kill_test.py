"""Killed at any moment: the old model or the new one is there, whole, and the next run goes on.

The delays are drawn from the time that an undisturbed run takes, so that every phase is met.
"""
import random
import shutil
import signal
import time

from cli_harness import INTERRUPTED, Test, digest, make_llama, names_in

NUM_KILLS = 40
NUM_INTERRUPTS = 12
PARTIAL = ".out.ram-partial"


class KillTest(Test):
    def setup(self):
        # Large enough that a run is more than start and end.
        self.model = make_llama(self.scratch / "model", layers=3, hidden=256, vocabulary=2048)
        self.random = random.Random(3)
        start = time.monotonic()
        self.succeeds(self.compress("new-model", "5bpw", "--no-cache"))
        self.seconds = time.monotonic() - start
        self.succeeds(self.compress("old-model", "6bpw"))
        self.new, self.old = digest(self.scratch / "new-model"), digest(self.scratch / "old-model")

    def words(self, out, size, *options):
        return ("compress", self.model, "--budget", size, "-o", self.scratch / out, "-q", *options)

    def compress(self, out, size, *options):
        return self.run(*self.words(out, size, *options))

    def same(self, found, expected):
        """Of two models: their folders have other names, which the model card shows."""
        return ({k: v for k, v in found.items() if k != "README.md"}
                == {k: v for k, v in expected.items() if k != "README.md"})

    def disturbed(self, parent, what, *options):
        """A run that is sent a signal after a random part of its time."""
        run = self.start(*self.words(parent / "out", "5bpw", *options))
        time.sleep(self.random.uniform(0, 1.1 * self.seconds))
        run.send_signal(what)
        _, error = run.communicate(timeout=60)
        return run.returncode, error

    def check_whole(self, parent, before):
        """Nothing but the old state, or the new model, and perhaps one hidden folder."""
        out = parent / "out"
        names = set(names_in(parent))
        self.check(names <= {"out", PARTIAL}, f"a killed run left {sorted(names)}")
        if not out.exists():
            self.check(before is None, "the old model is gone")
            return "nothing"
        found = digest(out)
        is_new = self.same(found, self.new)
        self.check(is_new or before is not None and found == before,
                   f"a killed run left a model that is neither the old nor the new: {found.keys()}")
        self.check(self.run("verify", out, "-q").returncode == 0, "a killed run left a broken model")
        return "new" if is_new else "old"


def test_kill(t):
    met = {}
    for number in range(NUM_KILLS):
        overwrite = number % 2 == 1
        parent = t.folder("killed")
        before = None
        if overwrite:
            shutil.copytree(t.scratch / "old-model", parent / "out")
            before = digest(parent / "out")
        options = ["--overwrite"] if overwrite else []
        if number % 4 < 2:
            options.append("--no-cache")  # Else measuring takes next to no time.
        t.disturbed(parent, signal.SIGKILL, *options)
        state = t.check_whole(parent, before)
        met[state] = met.get(state, 0) + 1
        # The next run removes what is left, goes on, and gives the same bytes.
        t.succeeds(t.compress(parent / "out", "5bpw", "--overwrite"))
        t.equal(names_in(parent), ["out"], "after the next run")
        t.check(t.same(digest(parent / "out"), t.new), "a run after a kill gives other bytes")
        shutil.rmtree(parent)
    print(f"kills: {met}; an undisturbed run takes {t.seconds:.2f} s")
    t.check(met.get("old") and met.get("nothing"), f"the kills did not meet all phases: {met}")


def test_cold_cache(t):
    """The cache is written piece by piece; a kill may tear it, never falsify it."""
    parent = t.folder("cold")
    for number in range(10):
        cache = parent / f"cache-{number}"
        t.disturbed(parent, signal.SIGKILL, "--cache", cache, "--overwrite")
        t.succeeds(t.compress(parent / "out", "5bpw", "--cache", cache, "--overwrite"))
        t.check(t.same(digest(parent / "out"), t.new), "a torn cache changes the bytes")
        shutil.rmtree(parent / "out")


def test_interrupt(t):
    interrupted = 0
    for number in range(NUM_INTERRUPTS):
        parent = t.folder("interrupted")
        what = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        status, error = t.disturbed(parent, what, "--no-cache")
        if status == 0:
            t.equal(names_in(parent), ["out"], "a run that was faster than its interruption")
        elif status == -what:  # Before the first line of main().
            t.equal(names_in(parent), [], "interrupted at once")
        else:
            interrupted += 1
            t.check(status == INTERRUPTED and error.startswith("ram: ") and error.count("\n") == 1,
                    f"{what.name}: status {status}, {error!r}")
            t.equal(names_in(parent), [], f"what {what.name} leaves")
        shutil.rmtree(parent)
    t.check(interrupted > 0, "no run was interrupted")


def test_left_behind(t):
    """A hidden folder that a killed run left is removed; one that a run is using is not."""
    parent = t.folder("left")
    (parent / PARTIAL).mkdir()
    (parent / PARTIAL / "model.safetensors").write_bytes(b"half")
    t.succeeds(t.compress(parent / "out", "5bpw"))
    t.equal(names_in(parent), ["out"], "after a run beside a hidden folder")


def main():
    t = KillTest()
    t.setup()
    for test in (test_kill, test_cold_cache, test_interrupt, test_left_behind):
        test(t)
    t.finish()


main()
