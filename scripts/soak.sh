#!/usr/bin/env bash
# The faults of internal/faults again and again, for about SOAKTIME (default
# 30m), with an account of each at the end. SOAKRUN is a pattern of test names
# for some of them only. The whole output is kept in soak.log.
set -uo pipefail

soaktime=${SOAKTIME:-30m}
log=${SOAKLOG:-soak.log}
# One fault at a time, as each is to have its share of the time and the machine.
# Whatever is not repeated, and what there is to work off at the ends, comes on top.
BELFRY_SOAK=$soaktime go test ./internal/faults -count 1 -v -parallel 1 -timeout 24h -run "${SOAKRUN:-.}" 2>&1 |
  tee "$log" | grep --line-buffered -E '^ *--- |^(ok|FAIL|panic)|account:|rounds in '
code=${PIPESTATUS[0]}

echo
sed -n '/^ *fault  *accepted /,$p' "$log" | grep -vE '^(ok|FAIL|exit status|PASS)'
if [ "$code" -eq 0 ]; then
  echo "soak: nothing was lost"
else
  echo "soak: something is wrong, see $log"
fi
exit "$code"
