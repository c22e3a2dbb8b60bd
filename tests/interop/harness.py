"""What the interop tests share: running the command, comparing arrays, reporting."""
import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ram", required=True, help="the command")
    parser.add_argument("--scratch", required=True, help="a folder that may be emptied")
    args = parser.parse_args()
    args.scratch = Path(args.scratch)
    shutil.rmtree(args.scratch, ignore_errors=True)
    args.scratch.mkdir(parents=True)
    os.environ["RAM_CACHE"] = str(args.scratch / "cache")
    return args


def run(ram, *words, status=0):
    """Runs the command; returns what it printed. Fails loudly on another exit status."""
    done = subprocess.run([ram, *map(str, words)], capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"ram {' '.join(map(str, words))}: exit {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
    return done.stdout


def run_json(ram, *words):
    return json.loads(run(ram, *words, "--json"))


class Report:
    """Counts checks; the test fails at the end if one of them did."""

    def __init__(self):
        self.passed = 0
        self.failed = []

    def check(self, condition, text):
        if condition:
            self.passed += 1
        else:
            self.failed.append(text)
            print("FAILED:", text, flush=True)

    def finish(self):
        print(f"{self.passed} passed, {len(self.failed)} failed")
        sys.exit(bool(self.failed))
