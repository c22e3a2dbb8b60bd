#!/bin/sh
# The main job on the bundled models: three sizes each, a curve, a check of what was written, and what
# it did to the perplexity, beside uniform 4-bit quantization.
set -eu
cd "$(dirname "$0")/.."
ram=build/ram
out=out/demo
rm -rf "$out"
mkdir -p "$out"

say() { printf '\n$ %s\n' "$*"; "$@"; }

say $ram inspect models/moe-8x
say $ram compress models/moe-8x --budget 4bpw,4.5bpw,5.5bpw -o $out/moe-8x
say $ram curve models/moe-8x -o $out/moe-8x.svg
say $ram verify $out/moe-8x-4.5bpw
say $ram compress models/babyllama-105 --budget 500KiB,4.8bpw,700KiB -o $out/babyllama
say $ram compress models/moe-8x --budget 4.5bpw -o $out/moe --no-cache
say python3 tools/check_bound.py $out/moe/plan.json $out/moe/rates.json
say $ram generate models/babyllama-105 -p 'Once upon a time' -n 100
say $ram compress models/moe-8x --budget 4.6bpw --menu 4,64 -o $out/uniform-4-64 --quiet
say $ram eval perplexity models/moe-8x $out/moe-8x-4.5bpw $out/uniform-4-64 --windows 32 -o $out/scores
say $ram compare $out/scores/moe-8x.scores $out/scores/moe-8x-4.5bpw.scores $out/scores/uniform-4-64.scores \
  --base moe-8x
say $ram study models/moe-8x --short -o $out/study
printf '\nThe models are in %s; mlx_lm loads them as they are.\n' "$out"
