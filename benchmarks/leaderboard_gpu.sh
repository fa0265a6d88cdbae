#!/usr/bin/env bash
# The tiny model through vllm/ and hf/ at the paper's seven settings of one needle, 1,000 + 1,000
# samples each, and the leaderboard and report of it; the very commands that a user types.
#
#     benchmarks/leaderboard_gpu.sh FOLDER
#
# One GPU. A run that was cut off goes on when the script is started again; SAMPLES=20 for a try.
set -euo pipefail
out=${1:?a folder for the data set, the runs and the report}
mmneedle() { python3 -m mmneedle "$@"; }

mmneedle build "$out/held-out" --source shapes --split held-out --scenes 1500 --seed 1 \
  --settings 1x2,1x4,1x8,10x1,10x2,10x4,10x8 --samples "${SAMPLES:-2000}" \
  --cell 56 --subsampling 4:4:4 --quiet
status=0
mmneedle run "$out/held-out" --model vllm/tiny --log "$out/vllm-tiny" --quiet \
  ${VLLM_ARGS:-} || status=$?
mmneedle run "$out/held-out" --model hf/tiny --log "$out/hf-tiny" --quiet \
  ${HF_ARGS:---engine-arg batch_size=64} || status=$?
mmneedle leaderboard "$out"/vllm-tiny "$out"/hf-tiny --out "$out/leaderboard.md"
mmneedle report "$out"/vllm-tiny "$out"/hf-tiny --out "$out/report.html"
exit "$status"
