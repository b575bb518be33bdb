#!/usr/bin/env bash
# All tests with the race detector, with a summary at the end. Arguments go to
# go test. Output of packages that pass is one line each.
set -uo pipefail

begun=$SECONDS
log=$(mktemp)
ours=github.com/belfryhq/belfry
trap 'rm -f "$log"' EXIT

# One package more at a time than there are processors: the longest mostly wait,
# for leases, disks and processes, and leave the processors to others meanwhile.
# More than four only makes the real servers of the tests fight for the disk.
parallel=$(($(getconf _NPROCESSORS_ONLN) + 1))
parallel=${BELFRY_TEST_PARALLEL:-$((parallel < 4 ? parallel : 4))}

# What is built for a run of the tests and thrown away after it is built quickly:
# - Ours without what only debuggers read, and the two rooms that are mostly
#   other packages' generics without inlining, which take a third of the time then.
# - SQLite as translated C, and the C library under it, without the race detector:
#   what they work on is memory of their own, which it does not watch, and what
#   looks for races there takes three times as long as the work. The driver and
#   everything of ours is watched.
built=(-gcflags="$ours/...=-dwarf=false")
for p in web/api app; do
  built+=(-gcflags="$ours/internal/$p=-dwarf=false -l")
done
for p in modernc.org/sqlite/lib modernc.org/libc modernc.org/memory; do
  built+=(-gcflags="$p=-race=false")
done

# The longest first: they mostly wait, for leases and processes, while the
# others are built and run beside them.
if [ "$*" = ./... ]; then
  # lint.sh has done all of go vet before, of which go test does a part.
  set -- -vet=off ./internal/{faults,e2e,store,pipeline,bench} ./cmd/belfry ./internal/{connector/moodle,web/api} ./...
fi
CGO_ENABLED=1 go test -race "${built[@]}" -p "$parallel" -timeout 12m "$@" 2>&1 | tee "$log" | grep --line-buffered -v '\[no test files\]'
code=${PIPESTATUS[0]}

ok=$(grep -c '^ok  ' "$log")
failed=$(grep -E '^(FAIL|panic:)	' "$log" | awk '{print $2}' | sort -u)
echo
echo "tests: $ok packages passed, $(printf '%s' "$failed" | grep -c .) failed, $((SECONDS - begun)) s"
if [ -n "$failed" ]; then
  printf '  %s\n' $failed
fi
exit "$code"
