#!/bin/sh
# Install a requirements file into the virtual environment: with uv, else with pip. uv does not read pip's settings,
# so a folder of wheels named there (a CPU build of torch, say) is passed on; without it uv would take the CUDA build.
set -eu
bin=$1 file=$2
links=${PIP_FIND_LINKS:-$("$bin/python" -m pip config get global.find-links 2>/dev/null || true)}
if [ -x "$bin/uv" ] && "$bin/uv" pip install --quiet --python "$bin/python" ${links:+--find-links "$links"} -r "$file"; then
  exit 0
fi
exec "$bin/python" -m pip install --quiet -r "$file"
