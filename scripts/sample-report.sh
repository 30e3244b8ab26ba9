#!/bin/sh
# Make docs/sample-report/ anew: the report of the demo corpus, which no human has labelled.
set -eu
bin=$1
export ATTUNE_DATA_DIR=$(mktemp -d) ATTUNE_LOG_LEVEL=ERROR
trap 'rm -rf "$ATTUNE_DATA_DIR"' EXIT
"$bin/python" manage.py migrate -v0
"$bin/python" manage.py seed_demo > /dev/null
rm -rf docs/sample-report
"$bin/python" manage.py build_report --dataset demo-redial --dataset demo-inspired --title "Demo corpus" --output docs/sample-report
echo "docs/sample-report is made; recompute it with: python -m evaluation report docs/sample-report"
