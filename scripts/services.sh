# Sourced by check.sh: Chromium, PostgreSQL and Redis from Debian's packages where missing and possible. What cannot be
# had is named; the tests that need it skip with the same words.
stop_services() { :; }
have() { command -v "$1" >/dev/null 2>&1; }
postgres_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1 || true)
missing=""
have chromium || missing="$missing chromium"
have redis-server || missing="$missing redis-server"
[ -n "$postgres_bin" ] && [ -x "$postgres_bin/initdb" ] || missing="$missing postgresql"
ldconfig -p 2>/dev/null | grep -q libpangoft2 || missing="$missing libpango-1.0-0 libpangoft2-1.0-0"
if [ -n "$missing" ] && have apt-get && [ "$(id -u)" = 0 ]; then
  echo "Installing:$missing"
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing fonts-dejavu-core >/dev/null || true
  postgres_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1 || true)
fi
have chromium || echo "No Chromium: the browser tests are skipped. Install the package chromium."
services=$(mktemp -d)
chmod 755 "$services"
if [ -n "$postgres_bin" ] && [ -x "$postgres_bin/initdb" ]; then
  export ATTUNE_TEST_POSTGRES_PORT=${ATTUNE_TEST_POSTGRES_PORT:-5499}
  as_postgres() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/sh -c "$1"; else sh -c "$1"; fi; }
  mkdir "$services/pg" && { [ "$(id -u)" != 0 ] || chown postgres "$services/pg"; }
  if as_postgres "$postgres_bin/initdb -D $services/pg/data -A trust -U postgres --no-sync >/dev/null && $postgres_bin/pg_ctl -D $services/pg/data -w -l $services/pg/log -o '-p $ATTUNE_TEST_POSTGRES_PORT -k $services/pg -c listen_addresses=127.0.0.1' start >/dev/null"; then
    export ATTUNE_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$ATTUNE_TEST_POSTGRES_PORT/postgres"
  else
    echo "PostgreSQL did not start: its tests are skipped."
  fi
else
  echo "No PostgreSQL server: its tests are skipped. Install the package postgresql."
fi
if have redis-server; then
  export ATTUNE_TEST_REDIS_PORT=${ATTUNE_TEST_REDIS_PORT:-6399}
  if redis-server --bind 127.0.0.1 --port "$ATTUNE_TEST_REDIS_PORT" --save "" --daemonize yes --dir "$services" --pidfile "$services/redis.pid" >/dev/null; then
    export ATTUNE_TEST_REDIS_URL="redis://127.0.0.1:$ATTUNE_TEST_REDIS_PORT/0"
  fi
else
  echo "No Redis server: its tests are skipped. Install the package redis-server."
fi
stop_services() {
  [ -f "$services/redis.pid" ] && kill "$(cat "$services/redis.pid")" 2>/dev/null || true
  [ -d "$services/pg/data" ] && as_postgres "$postgres_bin/pg_ctl -D $services/pg/data -m immediate stop >/dev/null" || true
  rm -rf "$services"
}
trap stop_services EXIT INT TERM
