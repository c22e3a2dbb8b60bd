#!/bin/sh
# lint.sh [BUILD [FILE...]]: clang-format over every .h and .cc, shellcheck over tools/*.sh, and
# clang-tidy over the sources compiled in BUILD (build/dev; only the FILEs if any are named).
# JOBS: programs at once, else one for each core. Exit status 1 if there is a finding.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/dev}
[ $# -eq 0 ] || shift
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
status=0

git ls-files -z '*.h' '*.cc' | xargs -0 clang-format --dry-run -Werror || status=1

if command -v shellcheck > /dev/null; then
  shellcheck tools/*.sh || status=1
else
  echo "lint.sh: no shellcheck here: shell scripts are not checked" >&2
fi

if [ ! -f "$build/compile_commands.json" ]; then
  echo "lint.sh: $build/compile_commands.json is missing: cmake --preset dev" >&2
  exit 1
fi
# Our own sources in that build, as paths relative to the root.
if [ $# -eq 0 ]; then
  # shellcheck disable=SC2046  # No file of ours has a space in its name.
  set -- $(sed -n "s|^ *\"file\": \"$PWD/\(.*\.cc\)\",*$|\1|p" "$build/compile_commands.json" |
    sort -u)
fi
# Standard error has only counts of what was suppressed; what fails to compile is a finding.
printf '%s\n' "$@" |
  xargs -P "$jobs" -n 1 clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option -p "$build" 2> /dev/null || status=1
exit $status
