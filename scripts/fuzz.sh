#!/usr/bin/env bash
# Every fuzz test of the module, one after the other, for FUZZTIME each
# (default 20s). What breaks one is kept by go test in its testdata/fuzz.
set -euo pipefail

n=0
while IFS=: read -r file name; do
  echo "fuzz: $name in $(dirname "$file")"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20s}"
  n=$((n + 1))
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' internal | sed 's/:func /:/' | sort)
echo "fuzz: $n fuzz tests found nothing"
