#!/bin/sh
# Installs what the build (or the tests) need and this machine lacks.
#   tools/install_dependencies.sh build|test
# docs/dependencies.md says what each package is for.
set -eu
what=${1:?build or test}

if [ "$(uname)" = Darwin ]; then
  packages='cmake ninja highway nlohmann-json fmt cli11 openssl@3 xxhash pcre2 utf8proc boost'
  [ "$what" = test ] && packages="$packages googletest google-benchmark python@3.11"
  command -v brew > /dev/null || { echo 'Homebrew is needed: see its site, then run this again' >&2; exit 1; }
  missing=
  for package in $packages; do
    brew list --versions "$package" > /dev/null 2>&1 || missing="$missing $package"
  done
  # shellcheck disable=SC2086
  [ -z "$missing" ] || brew install $missing
  exit 0
fi

command -v dpkg-query > /dev/null || {
  echo 'only Debian (and its relatives) and macOS are set up by this script; docs/dependencies.md has the list' >&2
  exit 1
}
packages='g++ cmake ninja-build libhwy-dev nlohmann-json3-dev libfmt-dev libcli11-dev libssl-dev libxxhash-dev libpcre2-dev libutf8proc-dev libboost-dev python3'
[ "$what" = test ] && packages="$packages libgtest-dev libbenchmark-dev python3-venv"
missing=
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2> /dev/null | grep -q '^install ok installed$' ||
    missing="$missing $package"
done
[ -z "$missing" ] && exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing > /dev/null
