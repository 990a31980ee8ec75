#!/usr/bin/env bash
# From a model and a folder of images to a gated, exported artifact and a comment for the pull request, in one command.
#   gate.sh MODEL PHOTOS LABELLED OUT [OPTION...]
set -euo pipefail
model=$1 photos=$2 labelled=$3 out=$4
shift 4

intaglio compress "$model" -o "$out" --recipe edge-int8 \
  --data "$photos" --eval-data "$labelled" \
  --gate "drop <= 1.0" --gate "size <= 0.4x" --gate "agreement >= 0.95" --export ort \
  --markdown "$out.md" --junit "$out.xml" "$@"
