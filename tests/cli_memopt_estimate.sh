#!/usr/bin/env bash
# cli_memopt_estimate.sh PROGRAM - what memopt estimate promises, one function per fact.
#
# Prints one line per test and ends like cmocka; a function fails with its first failing command and
# skips with status 77. ONLY=words runs the facts whose name holds one of them. Needs bash, awk,
# python3 where present.
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/cli.sh"

# ---- helpers -----------------------------------------------------------------------------------

llama_2_7b() {
    cat << END
{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
 "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
 "num_key_value_heads": 32, "rope_theta": 10000.0, "tie_word_embeddings": false,
 "torch_dtype": "float16", "vocab_size": 32000}
END
}

# bytes NAME - of that line of the table.
bytes() { awk -v name="$1" '$1 == name { print $4 }' out; }

# ---- the command -------------------------------------------------------------------------------

test_a_config_is_enough_and_says_the_format() {
    llama_2_7b > config.json
    ends 0 estimate --config config.json
    [ "$(bytes weights)" = 13476831232 ]
    [ "$(bytes gradients)" = 13476831232 ]
    [ "$(bytes optimizer)" = $((8 * 6738415616)) ]
    ends 0 estimate --config . --infer
    [ "$(bytes weights)" = 13476831232 ]
    [ "$(bytes cache)" = $((2 * 32 * 2048 * 4096 * 2)) ]
    [ -z "$(bytes gradients)" ]
}

test_flags_replace_what_the_file_says() {
    llama_2_7b > config.json
    ends 0 estimate --config config.json --layers 1 --dtype f32 --infer --seq 100 --cache int8
    local block=$((4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096))
    [ "$(bytes weights)" = $((4 * (2 * 32000 * 4096 + block + 4096))) ]
    [ "$(bytes cache)" = $((2 * 100 * 4096)) ]
    ends 0 estimate --config config.json --infer --kv-heads 8 --seq 4096
    [ "$(bytes cache)" = $((2 * 32 * 4096 * 1024 * 2)) ]
}

test_sizes_alone_are_a_model_too() {
    ends 0 estimate --layers 12 --channels 768 --heads 12 --positions 1024 --vocab 50257
    grep -q '^gpt2: 12 layers of 768 channels, 12 heads of 64, 3072 hidden, 50257 words' out
    grep -q '124439808 numbers' out
    [ "$(bytes weights)" = $((4 * 124439808)) ]
    ends 0 estimate --arch llama --layers 32 --channels 4096 --heads 32 --hidden 11008 \
        --vocab 32000 --untied
    grep -q 6738415616 out
}

test_weights_of_a_file_count_as_they_are_stored() {
    ends 0 estimate --config "$(dirname "$self")/data/gpt_tiny.safetensors"
    grep -q 'F32 112768 of 112768 bytes' out
    [ "$(bytes weights)" = 112768 ]
    grep -q 'heads are not in the file' err
    "$program" convert "$(dirname "$self")/data/gpt_tiny.safetensors" half.safetensors --dtype bf16
    ends 0 estimate --config half.safetensors --heads 4
    [ "$(bytes weights)" = 56384 ]
    grep -q '4 heads of 8,' out
}

test_explain_shows_the_formula_with_its_numbers() {
    llama_2_7b > config.json
    ends 0 estimate --config config.json --infer --seq 4096 --explain
    grep -qF '2 L b s k e = 2 x 32 x 4096 x 4096 x 2' out
    grep -qF 'N w = 6738415616 x 2 (f16)' out
}

test_the_lines_add_up_to_the_total() {
    llama_2_7b > config.json
    for flags in '' '--infer --devices 4' '--dtype nf4 --lora 64 --recompute full --seq 512' \
        '--zero 3 --devices 8 --master --slack 5% --runtime 500M' \
        '--optim 8bit --chunk 64 --math'; do
        # shellcheck disable=SC2086
        ends 0 estimate --config config.json $flags
        awk '$1 == "total" { exit !(sum == $4) }
            $4 ~ /^[0-9]+$/ && !/not at the peak/ { sum += $4 }' out || { cat out; say "$flags"; }
    done
}

test_json_is_an_object_with_the_same_numbers() {
    have python3 || skip "no python3"
    llama_2_7b > config.json
    ends 0 estimate --config config.json --json --dtype bf16 --optim 8bit --devices 8 --zero 1
    python3 - << 'END'
import json
e = json.load(open("out"))
assert e["model"]["numbers"] == 6738415616 and e["model"]["heads"] == 32
assert e["file"]["kind"] == "llama" and e["file"]["context"] == 4096
assert e["devices"] == 8 and e["trained"] == 6738415616
lines = {l["name"]: l for l in e["lines"]}
assert lines["weights"]["bytes"] == 2 * 6738415616
assert 2 * 6738415616 / 8 < lines["optimizer"]["bytes"] < 2.04 * 6738415616 / 8
assert sum(l["bytes"] for l in e["lines"] if l["at_peak"]) == e["total_bytes"]
assert all(" = " in l["formula"] for l in e["lines"])
END
}

run=(--layers 4 --channels 32 --heads 4 --vocab 64 --seq 64 --threads 1)

test_a_strategy_makes_it_the_plan_of_a_run() {
    ends 0 estimate "${run[@]}" --strategy none --explain
    grep -q '^train_gpt --strategy checkpoint=none,.*: 4 x 64 tokens on 1 thread$' out
    [ "$(bytes weights)" = $((4 * (64 * 32 + 64 * 32 + 4 * 12704 + 64))) ]
    grep -qF '(12 h^2 + 13 h) + 2 h = 64 x 32 + 64 x 32 + 4 x 12704 + 2 x 32' out
    awk '$1 == "total" { exit !(sum == $4) }
        NR > 2 && /^[a-z]/ && $4 ~ /^[0-9]+$/ && !/not at the peak/ { sum += $4 }' out
    grep -q '^  h\.3 ' out
    ends 0 estimate "${run[@]}" --strategy paged,checkpoint=block
    grep -q '^paged .* in a file beside$' out
}

test_a_budget_is_kept_or_its_excess_told() {
    ends 0 estimate "${run[@]}" --strategy checkpoint=optimal --budget 2500K
    [ "$(awk '$1 == "total" { print $4 }' out)" -le 2560000 ]
    ! grep -q '^at most' out
    ends 0 estimate "${run[@]}" --strategy offload --budget 2500K
    grep -q '^at most .* 2560000  where the run measures another link$' out
    ends 1 estimate "${run[@]}" --strategy none --budget 1M
    grep -q '^memopt estimate: does not fit: [0-9]* bytes, the budget is 1048576$' err
}

test_json_of_a_run_has_stages_and_lines() {
    have python3 || skip "no python3"
    ends 0 estimate "${run[@]}" --strategy release,act=8 --json
    python3 - << 'END'
import json
e = json.load(open("out"))
lines = e["estimate"]["lines"]
assert sum(l["bytes"] for l in lines if l["at_peak"]) == e["peak_bytes"] == e["most_bytes"]
assert [s["name"] for s in e["stages"]] == ["embedding", "h.0", "h.1", "h.2", "h.3", "head"]
assert e["threads"] == 1 and e["batch"] == 4 and e["seconds"] > 0
END
}

test_what_is_wrong_is_named() {
    llama_2_7b > config.json
    refuses 2 '--layers missing (or --config FILE)' estimate
    refuses 2 '--positions missing' estimate --layers 1 --channels 64 --heads 1 --vocab 9
    refuses 2 "--arch: unknown 'bert'" estimate --arch bert --layers 1
    refuses 2 'none.json: No such file' estimate --config none.json
    refuses 2 "--dtype: unknown 'f33'" estimate --config config.json --dtype f33
    refuses 2 "--rest: 'int8' is not f32, bf16 or f16" estimate --config config.json --rest int8
    refuses 2 "--cache: 'nf4' is not" estimate --config config.json --cache nf4
    refuses 2 "--optim: unknown '2bit'" estimate --config config.json --optim 2bit
    refuses 2 "--zero: unknown '4'" estimate --config config.json --zero 4
    refuses 2 "--slack: a percentage" estimate --config config.json --slack 5
    refuses 2 'weights in nf4 are trained by adapters alone' estimate --config config.json \
        --dtype nf4
    refuses 2 'heads of 7 do not divide channels of 4096' estimate --config config.json --heads 7
    sed 's/"llama"/"gemma2"/' config.json > gemma.json
    refuses 2 "gemma.json: model_type 'gemma2' is not supported" estimate --config gemma.json
    sed 's/32000/"32000"/' config.json > text.json
    refuses 2 'text.json: vocab_size is "32000", not a whole number' estimate --config text.json
    refuses 2 '1 files, not 0' estimate config.json
    refuses 2 '--strategy plans a run of train_gpt' estimate "${run[@]}" --strategy none --infer
    refuses 2 'auto is a search' estimate "${run[@]}" --strategy auto
    refuses 2 'go with --strategy' estimate "${run[@]}" --budget 1M
    refuses 2 "unknown 'fast'" estimate "${run[@]}" --strategy fast
    refuses 2 'accum=3 does not divide' estimate "${run[@]}" --strategy accum=3
    refuses 2 "threads: '2K' is not a whole number" estimate "${run[@]}" --strategy none \
        --threads 2K
}

run_facts
