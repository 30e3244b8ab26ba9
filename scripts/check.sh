#!/bin/sh
# Every check, in the order in which a mistake is cheapest to find. Closes with pytest's own summary line.
set -eu
bin=$1 marks=$2
export PATH="$(pwd)/$bin:$PATH"
step() { printf '\n== %s\n' "$1"; }

step "format, lint, walls"
ruff format --check .
ruff check .
lint-imports
step "types"
mypy
step "migrations and deployment settings"
ATTUNE_DATA_DIR=$(mktemp -d) python manage.py makemigrations --check --dry-run
ATTUNE_DATA_DIR=$(mktemp -d) ATTUNE_PRODUCTION=1 ATTUNE_ALLOWED_HOSTS=attune.example \
  ATTUNE_SECRET_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(60))') python manage.py check --deploy --fail-level WARNING
step "known vulnerabilities of what is pinned"
sh scripts/audit.sh
step "workbench: types, unit tests"
(cd frontend && npm run --silent check && npm test --silent)
step "services"
. scripts/services.sh
status=0
# A file's tests run in one process, so that what they share is made once. (pytest-xdist 3.8 has groups too; with pytest 9.2
# they are without effect.)
spread="-n 2 --dist loadfile --no-loadscope-reorder"
if [ -n "${ATTUNE_TEST_POSTGRES_URL:-}" ]; then
  step "tests that use the test database, on PostgreSQL and Redis"
  # The browser's are run there by `make test-all` only: they see the database through the same functions.
  ATTUNE_TEST_DB=postgres python -m pytest -q $spread -m "database${marks:+ and not browser and $marks}" || status=$?
fi
step "tests"
python -m pytest -q $spread ${marks:+-m "$marks"} || status=$?
stop_services
exit $status
