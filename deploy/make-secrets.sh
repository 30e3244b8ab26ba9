#!/bin/sh
# Make the secrets that docker-compose.yml reads, once. Existing ones are left alone.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
random() { python3 -c 'import secrets; print(secrets.token_urlsafe(50), end="")'; }
[ -e secrets/secret_key ] || random > secrets/secret_key
[ -e secrets/metrics_token ] || random > secrets/metrics_token
[ -e secrets/database_password ] || random > secrets/database_password
[ -e secrets/database_url ] || printf 'postgres://attune:%s@postgres:5432/attune' "$(cat secrets/database_password)" > secrets/database_url
# The containers' user reads them through the mount.
chmod 644 secrets/*
echo "Secrets are in deploy/secrets/. Keep a copy in a safe place."
