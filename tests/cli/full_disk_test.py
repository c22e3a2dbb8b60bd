"""A disk that is too small, or fills up while a model is written, ends the run with one sentence, and
nothing is left. A file system of a few MiB is mounted where that is allowed.
"""
import os
import resource
import shutil
import subprocess
import threading

from cli_harness import MACHINE, MOE, Test, digest, make_llama, names_in

MIB = 1 << 20


class Disk:
    """A mounted tmpfs, or None where mounting is not allowed."""

    def __init__(self, path, num_bytes):
        self.path = path
        path.mkdir()
        self.mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", path],
            capture_output=True).returncode == 0 if shutil.which("mount") else False

    def __enter__(self):
        return self.path if self.mounted else None

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", self.path], check=True)


def test_too_small_from_the_start(t):
    with Disk(t.scratch / "small", 4 * MIB) as disk:
        if disk is None:
            t.skip("a disk of 4 MiB: mounting is not allowed here")
            return
        done = t.run("compress", MOE, "--budget", "6MiB", "-o", disk / "out", "-q")
        t.refuses(done, MACHINE, "6.00 MiB", "4.00 MiB", "are needed", "are free")
        t.equal(names_in(disk), [], "what is left on the small disk")
        # The smallest plan fits, but not beside an old model that is kept until the end.
        out = disk / "model"
        tiny = make_llama(t.scratch / "tiny")
        t.succeeds(t.run("compress", tiny, "--budget", "5bpw", "-o", out, "-q"))
        old = digest(out)
        (disk / "filler").write_bytes(bytes(2 * MIB))
        done = t.run("compress", MOE, "--min-safe", "-o", out, "--overwrite", "-q")
        t.refuses(done, MACHINE, "are needed")
        t.equal(digest(out), old, "the old model on a full disk")
        t.equal(names_in(disk), ["filler", "model"], "what is left on the full disk")


def test_fills_up_meanwhile(t):
    """Another program takes the space that was free when the run began."""
    for megabytes in (17, 18, 19, 20, 22):
        with Disk(t.scratch / f"race-{megabytes}", megabytes * MIB) as disk:
            if disk is None:
                t.skip("a disk that fills up: mounting is not allowed here")
                return
            filler = disk / "filler"
            stop = threading.Event()

            def fill():
                with open(filler, "wb", buffering=0) as file:
                    while not stop.is_set():
                        try:
                            file.write(bytes(MIB // 4))
                        except OSError:
                            return

            run = t.start("compress", MOE, "--budget", "100%", "-o", disk / "out", "-q")
            thread = threading.Thread(target=fill)
            thread.start()
            _, error = run.communicate(timeout=120)
            stop.set()
            thread.join()
            left = [name for name in names_in(disk) if name != "filler"]
            if run.returncode == 0:  # It was faster.
                t.equal(left, ["out"], "the finished model")
                t.succeeds(t.run("verify", disk / "out"))
                continue
            t.check(run.returncode == MACHINE and error.startswith("ram: ")
                    and error.count("\n") == 1, f"{megabytes} MiB: {run.returncode} {error!r}")
            t.equal(left, [], f"what is left on the disk of {megabytes} MiB: {error}")


def test_file_size_limit(t):
    """The limit of a file's size ends a write as a full disk does; its signal must not kill."""
    parent = t.folder("limited")

    def limit(num_bytes):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    for num_bytes in (0, 4096, MIB, 4 * MIB):
        done = t.run("compress", MOE, "--budget", "6MiB", "-o", parent / "out", "-q", "--no-cache",
                     preexec_fn=limit(num_bytes))
        t.refuses(done, MACHINE, str(parent), "cannot reserve", "bytes")
        t.equal(names_in(parent), [], f"what is left with files of at most {num_bytes} bytes")
        done = t.run("measure", MOE, "-o", parent / "rates.json", "-q", preexec_fn=limit(num_bytes))
        if num_bytes <= 4096:
            t.refuses(done, MACHINE, "rates.json")
            t.equal(names_in(parent), [], "what is left of a rate table")
        else:
            t.succeeds(done)
            (parent / "rates.json").unlink()
    t.succeeds(t.run("compress", MOE, "--budget", "6MiB", "-o", parent / "out", "-q",
                     preexec_fn=limit(32 * MIB)))


def test_cache_on_a_full_disk(t):
    """A cache that cannot grow costs time, not the run."""
    with Disk(t.scratch / "cache-disk", 64 << 10) as disk:
        if disk is None:
            t.skip("a cache on a full disk: mounting is not allowed here")
            return
        (disk / "filler").write_bytes(bytes(40 << 10))
        out = t.scratch / "cached"
        t.succeeds(t.run("compress", MOE, "--budget", "5bpw", "-o", out, "--cache", disk / "c"))
        t.succeeds(t.run("verify", out))


def main():
    t = Test()
    if os.geteuid() != 0:
        print("not root: mounting is probably not allowed")
    for test in (test_too_small_from_the_start, test_fills_up_meanwhile, test_file_size_limit,
                 test_cache_on_a_full_disk):
        test(t)
    t.finish()


main()
