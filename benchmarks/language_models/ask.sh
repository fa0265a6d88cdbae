#!/usr/bin/env bash
# Needles in texts for language models on this machine: niah with one fact and with one of eight,
# keyvalue, ruler's multi-key needles and passkey, up to LENGTHS; scores, effective lengths and
# the page. The very commands that a user types.
#
#     benchmarks/language_models/ask.sh FOLDER ENGINE MODEL_FOLDER...     ENGINE is hf or vllm
#
# ARGS has more arguments of `run`, such as "--engine-arg batch_size=4". A run that was cut off
# goes on when the script is started again.
set -euo pipefail
out=${1:?a folder for data sets, runs and the page}
engine=${2:?hf or vllm}
shift 2
lengths=${LENGTHS:-512,1k,2k,4k}
pairs=${PAIRS:-5,10,20,40}
depths=${DEPTHS:-linear:5}
samples=${SAMPLES:-4}
longest=${LONGEST:-4k} # for passkey
python=${PYTHON:-python3}
mmneedle() { "$python" -m mmneedle "$@"; }

mkdir -p "$out"
status=0
runs=()
ask() { # ask NAME TASK OPTIONS...: a data set in this model's tokens, and its run
  local name=$1 task=$2
  shift 2
  mmneedle build-text "$out/$model-$name" "$task" --tokenizer "$folder" --samples "$samples" "$@"
  mmneedle run "$out/$model-$name" --model "$engine/$folder" --log "$out/$model-$name-run" \
    --quiet ${ARGS:-} || status=$?
  runs+=("$out/$model-$name-run")
}
for folder in "$@"; do
  model=$(basename "$folder")
  ask niah niah --lengths "$lengths" --depths "$depths"
  ask niah8 niah --lengths "$lengths" --depths "$depths" --variants keys8
  ask keyvalue keyvalue --lengths "$pairs" --depths "$depths"
  ask ruler ruler --lengths "$lengths" --variants niah_multikey_1,niah_multikey_2,niah_multikey_3
  mmneedle passkey --model "$engine/$folder" --tokenizer "$folder" --from 512 --to "$longest" \
    --samples "$samples" --log "$out/$model-passkey" --quiet ${ARGS:-} \
    | tee "$out/$model-passkey.txt" || status=$?
done
mmneedle score "${runs[@]}" | tee "$out/scores.txt"
mmneedle effective "${runs[@]}" | tee "$out/effective.txt"
mmneedle text-report "${runs[@]}" --out "$out/text.html"
exit "$status"
