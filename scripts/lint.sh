#!/usr/bin/env bash
# gofmt, go vet and staticcheck over the whole module. All three run, so that
# one look shows everything there is to mend.
set -uo pipefail

code=0
unformatted=$(gofmt -l cmd internal) || code=1
if [ -n "$unformatted" ]; then
  printf 'gofmt: not formatted (run: gofmt -w cmd internal)\n%s\n' "$unformatted"
  code=1
fi
go vet ./... || code=1
go tool staticcheck ./... || code=1
[ $code -eq 0 ] && echo "lint: gofmt, go vet and staticcheck have nothing to say"
exit $code
