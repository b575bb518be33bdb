#!/usr/bin/env bash
# All tests with the race detector, with a summary at the end. Arguments go to
# go test. Output of packages that pass is one line each.
set -uo pipefail

begun=$SECONDS
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Two packages at a time: more only makes the real servers of the tests fight
# for the disk on small machines.
#
# SQLite as translated C, and the C library under it, are compiled without the
# race detector: what they work on is memory of their own, which it does not
# watch, and what looks for races there takes three times as long as the work.
# The driver and everything of ours is watched.
unwatched=()
for p in modernc.org/sqlite/lib modernc.org/libc modernc.org/memory; do
  unwatched+=("-gcflags=$p=-race=false")
done
# The longest first: they mostly wait, for leases and processes, while the
# others are built and run beside them.
if [ "$*" = ./... ]; then
  set -- ./internal/{faults,e2e,store,bench} ./cmd/belfry ./internal/pipeline ./...
fi
CGO_ENABLED=1 go test -race "${unwatched[@]}" -p "${BELFRY_TEST_PARALLEL:-2}" -timeout 12m "$@" 2>&1 | tee "$log" | grep --line-buffered -v '\[no test files\]'
code=${PIPESTATUS[0]}

ok=$(grep -c '^ok  ' "$log")
failed=$(grep -E '^(FAIL|panic:)	' "$log" | awk '{print $2}' | sort -u)
echo
echo "tests: $ok packages passed, $(printf '%s' "$failed" | grep -c .) failed, $((SECONDS - begun)) s"
if [ -n "$failed" ]; then
  printf '  %s\n' $failed
fi
exit "$code"
