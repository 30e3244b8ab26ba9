"""The product's settings, with throw-away data and what tests need faster."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "ATTUNE_DATA_DIR" not in os.environ:
    os.environ["ATTUNE_DATA_DIR"] = tempfile.mkdtemp(prefix="attune-test-")
    atexit.register(shutil.rmtree, os.environ["ATTUNE_DATA_DIR"], ignore_errors=True)
# The same tests on what a lab runs: ATTUNE_TEST_DB=postgres, with the servers that scripts/services.sh has started.
ON_POSTGRES = os.environ.get("ATTUNE_TEST_DB") == "postgres"
if ON_POSTGRES:
    os.environ["ATTUNE_DATABASE_URL"] = os.environ["ATTUNE_TEST_POSTGRES_URL"]
    if redis := os.environ.get("ATTUNE_TEST_REDIS_URL"):
        os.environ["ATTUNE_REDIS_URL"] = redis

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, STORAGES  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Manifest names need a collectstatic that the live server of the tests does not run.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
if ON_POSTGRES:
    # A pool would keep connections to the test database open when it is to be dropped.
    del DATABASES["default"]["OPTIONS"]["pool"]
