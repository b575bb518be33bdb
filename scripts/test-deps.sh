#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: PostgreSQL, PgBouncer, MariaDB,
# Chromium and a C compiler (for the race detector), from Debian packages. Does
# nothing when all are there. When it may not install (no root, no sudo without
# a password, no apt) it says what is missing and ends with 1.
set -euo pipefail

# have NAME FOLDER...: is the program NAME on the path or in one of the folders?
have() {
  local name=$1 folder
  command -v "$name" >/dev/null 2>&1 && return 0
  for folder in "${@:2}"; do
    [ -x "$folder/$name" ] && return 0
  done
  return 1
}

# The tests look in the same places and at the same variables (internal/testdb,
# internal/web/ui).
missing() {
  local packages=()
  have initdb ${BELFRY_TEST_POSTGRES_BIN:+"$BELFRY_TEST_POSTGRES_BIN"} /usr/local/bin /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
    /opt/homebrew/opt/postgresql*/bin || packages+=(postgresql)
  have mariadbd ${BELFRY_TEST_MARIADB_BIN:+"$BELFRY_TEST_MARIADB_BIN"} /usr/sbin /usr/libexec /usr/local/bin /usr/local/sbin \
    /opt/homebrew/opt/mariadb*/bin || packages+=(mariadb-server)
  have pgbouncer ${BELFRY_TEST_PGBOUNCER_BIN:+"$BELFRY_TEST_PGBOUNCER_BIN"} /usr/sbin /usr/local/sbin /opt/homebrew/bin || packages+=(pgbouncer)
  have chromium || have chromium-browser || have google-chrome || have headless_shell ||
    [ -x "${BELFRY_TEST_BROWSER:-}" ] || packages+=(chromium)
  have gcc || have clang || have cc || packages+=(gcc libc6-dev)
  echo "${packages[*]}"
}

need=$(missing)
[ -z "$need" ] && exit 0

give_up() {
  cat >&2 <<TXT
test-deps: the tests need programs that this machine lacks: $need
test-deps: $1
test-deps: install them (Debian and Ubuntu: apt-get install --no-install-recommends $need), then run make test again.
TXT
  exit 1
}

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1 || ! sudo -n true 2>/dev/null; then
    give_up "they cannot be installed from here: not root, and sudo asks for a password or is not there."
  fi
  as_root=(sudo -n)
fi
command -v apt-get >/dev/null 2>&1 || give_up "they cannot be installed from here: no apt-get."

apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null; }

echo "test-deps: installing $need"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The lists may be old or absent; refresh them only when the first try fails.
# shellcheck disable=SC2086 # a list of words
apt install --no-install-recommends $need >"$log" 2>&1 ||
  { apt update >>"$log" 2>&1 && apt install --no-install-recommends $need >>"$log" 2>&1; } ||
  { tail -n 20 "$log" >&2; give_up "apt-get failed, see above."; }

still=$(missing)
need=$still
[ -z "$still" ] || give_up "apt-get ended well, yet they are not found."
