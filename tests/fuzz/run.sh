#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fuzzes every target for SECONDS each, as many at a time as there are processors: tests/fuzz/run.sh SECONDS [TARGET...]
#
# Builds with clang, address and undefined-behaviour sanitizers in build-fuzz
# (NC_FUZZ_BUILD); clang's warnings are the ordinary build's business, not this one's. New inputs are collected there, not in the committed corpus;
# streams recorded by tests/fixtures/make-streams.py are used as further seeds
# if NC_STREAMS (default: build-fuzz/streams) has any. Exit status 0 only if no
# target failed; what broke one is left in build-fuzz/findings/TARGET/.
set -eu

seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
case $seconds in '' | *[!0-9]*) echo "run.sh: SECONDS is a number" >&2; exit 2 ;; esac
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${NC_FUZZ_BUILD:-$top/build-fuzz}
streams=${NC_STREAMS:-$build/streams}

if [ -z "${NC_FUZZ_ONE:-}" ] && [ ! -f "$build/build.ninja" ]; then
  CC=clang meson setup "$build" "$top" -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false \
    -Dwerror=false -Dc_args=-fsanitize=fuzzer-no-link >"$build.log" 2>&1 || {
    cat "$build.log" >&2
    exit 2
  }
  rm -f "$build.log"
fi
# A target may be newer than this build directory.
[ "${NC_FUZZ_ONE:-}" ] || ninja -C "$build" build.ninja >"$build.log" 2>&1 || {
  cat "$build.log" >&2
  exit 2
}
[ "${NC_FUZZ_ONE:-}" ] || rm -f "$build.log"
named=$*
targets=${*:-$(cd "$top/tests/fuzz" && ls fuzz_*.c | sed 's/\.c$//')}

# A recorded stream becomes a seed with the target's two leading bytes: main channel, pieces of 256 bytes.
# Only its beginning: what is behind holds nothing but more pages.
make_seeds() {
  mkdir -p "$build/seeds/$1"
  [ "$1" = fuzz_stream ] || return 0
  for file in "$streams"/*.fwd; do
    [ -f "$file" ] || continue
    { printf '\000\377'; head -c 65536 "$file"; } >"$build/seeds/$1/$(basename "$file")"
  done
}

# Undefined behaviour is a finding, not a remark.
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}"

# One target, already built: what it says ends with its verdict.
if [ "${NC_FUZZ_ONE:-}" ]; then
  target=$named
  make_seeds "$target"
  mkdir -p "$build/corpus/$target" "$build/findings/$target" "$top/tests/fuzz/corpus/$target"
  if "$build/tests/fuzz/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=70000 \
    -print_final_stats=1 -artifact_prefix="$build/findings/$target/" \
    "$build/corpus/$target" "$top/tests/fuzz/corpus/$target" "$build/seeds/$target" >"$build/$target.log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log") inputs"
    exit 0
  fi
  tail -40 "$build/$target.log"
  echo "$target: FAILED, see $build/findings/$target"
  exit 0
fi

failed=0
built=
for target in $targets; do
  # A source that tests/fuzz/meson.build does not list is said; one that was asked for by name has failed.
  if ninja -C "$build" -t query "tests/fuzz/$target" >/dev/null 2>&1; then
    built="$built $target"
  else
    echo "$target: not a target of this build"
    [ -z "$named" ] || failed=$((failed + 1))
  fi
done
if [ -z "$built" ]; then
  echo "0 passed, $failed failed"
  exit 1
fi
# shellcheck disable=SC2046,SC2086 # words, each a target
if ! ninja -C "$build" $(printf 'tests/fuzz/%s ' $built) >"$build/build.log" 2>&1; then
  tail -40 "$build/build.log"
  echo "0 passed, $((failed + $(echo "$built" | wc -w))) failed"
  exit 1
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
# As many at a time as there are processors; libFuzzer uses one each.
# shellcheck disable=SC2086
printf '%s\n' $built | NC_FUZZ_ONE=1 xargs -P "$(nproc)" -n 1 "$0" "$seconds" >"$report"
cat "$report"
passed=$(grep -c ': [0-9]* inputs$' "$report") || true
failed=$((failed + $(echo "$built" | wc -w) - passed))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
