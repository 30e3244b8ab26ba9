#!/bin/sh
# The main job on the published data, every command of docs/walkthrough.md. Needs the data folder as its argument.
set -eu
data=$1
bin=${2:-.venv/bin}
export ATTUNE_DATA_DIR=${ATTUNE_DATA_DIR:-$(mktemp -d)} ATTUNE_LOG_LEVEL=ERROR
python=$bin/python
say() {
  printf '\n$ %s\n' "$*" | sed "s#$bin/##; s#$data#\$DATA#g"
  begun=$(date +%s.%N)
  "$@" 2>&1 | sed "s#$data#\$DATA#g"
  printf '(%.1f s)\n' "$(echo "$(date +%s.%N) - $begun" | bc 2>/dev/null || $python -c "print($(date +%s.%N) - $begun)")"
}
say $python manage.py migrate -v0
say $python manage.py import_dialogues "$data/redial/test.jsonl.gz" --dataset redial --split test
say $python manage.py import_dialogues "$data/inspired/test.tsv" --dataset inspired --split test
for system in kgsf_huyquangdao revcore_huyquangdao unicrs_var1_lmh85 unicrs_var2_lmh85 kgsf_icedpanda llama32_3b_lora_aguila deepseek_r1_llama8b_lora_aguila; do
  say $python manage.py import_responses "$data/llm_responses/redial_$system.jsonl.gz" --dataset redial --system "$system"
done
for system in gpt35_conv_raw_llmkb llama_conv_raw_llmkb glm_conv_raw_llmkb; do
  say $python manage.py import_responses "$data/llm_responses/inspired_$system.jsonl.gz" --dataset inspired --system "$system"
done
say $python manage.py prelabel
say $python manage.py build_report --dataset redial --dataset inspired \
  --system kgsf_huyquangdao --system revcore_huyquangdao --system unicrs_var1_lmh85 --system unicrs_var2_lmh85 --system kgsf_icedpanda \
  --system gpt35_conv_raw_llmkb --system llama_conv_raw_llmkb --system glm_conv_raw_llmkb --title "Classifier only" --output "$ATTUNE_DATA_DIR/report"
say $python -m evaluation report "$ATTUNE_DATA_DIR/report"
say $python manage.py build_report --dataset redial --system llama32_3b_lora_aguila --system deepseek_r1_llama8b_lora_aguila --title "Two fine-tuned LLMs, classifier only" --output "$ATTUNE_DATA_DIR/report-llm"
