#!/bin/sh
# Look the pinned requirements up among known vulnerabilities. A finding fails; a service that cannot be reached, or does
# not know a package, does not: it is said, and the check goes on (CI may have no way to it).
set -eu
pinned=$(grep -c '==' requirements.txt)
report=$(timeout 120 pip-audit --requirement requirements.txt --no-deps --disable-pip --progress-spinner off 2>&1) || true
unknown=$(printf '%s\n' "$report" | grep -c 'could not be audited' || true)
if printf '%s\n' "$report" | grep -Eqi 'found [0-9]+ known vulnerabilit'; then
  printf '%s\n' "$report"
  echo "Raise the named versions in requirements.txt, or say in SECURITY.md why they do not concern Attune." >&2
  exit 1
elif ! printf '%s\n' "$report" | grep -qi 'no known vulnerabilities'; then
  echo "NOT AUDITED: the vulnerability service did not answer. Run scripts/audit.sh where it can be reached."
  printf '%s\n' "$report" | tail -1 | cut -c1-200
elif [ "$unknown" -gt 0 ]; then
  echo "NOT AUDITED: the service knows $((pinned - unknown)) of $pinned packages. Run scripts/audit.sh where it knows all."
else
  echo "None of $pinned packages has a known vulnerability."
fi
