#!/usr/bin/env bash
# cli_kill.sh PROGRAM - train_gpt is killed at any moment and goes on as if it had not been.
#
# KILLS=200 is the number of kills (15), KILL_SEED what their moments come from. Prints one line per
# test and ends like cmocka, see cli.sh. Needs bash, awk, cmp.
# Files in memory do not wait for a disk: more saves in less time, and a kill loses nothing.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/cli.sh"
root=$(dirname "$(dirname "$self")")
data=$root/tests/data/gpt_tiny
unset MEMOPT_CPU
kills=${KILLS:-15}
seed=${KILL_SEED:-$RANDOM}
RANDOM=$seed

run=(--tokens "$data.tokens.bin" --threads 1)
start=("${run[@]}" --init "$data.safetensors" --heads 4 --batch 3 --lr 1e-3)
saving=(--save k/run.safetensors --save-every 1 --keep 2)
losses() { grep -o '"loss":\[[^]]*' "$1" | cut -d[ -f2 | tr , ' '; }
# Steps of the files in k, in order.
steps() {
    find k -name 'run-*.safetensors' | sed 's/.*run-0*\([0-9]*\)\.safetensors/\1/' | sort -n
}

# train NAME FLAG... - a run that succeeds; its JSON in NAME.json.
train() {
    local name=$1
    shift
    "$program" "$@" --json > "$name.json" 2> "$name.err" || { cat "$name.err"; say "failed: $*"; }
}

# At a random moment of the next 0.4 s; or, every other time, just when the files in k change: at a
# temporary file, or when there are more files than are kept.
wait_to_kill() {
    local found
    if [ $((RANDOM % 2)) = 0 ]; then
        sleep "0.$(printf %03d $((RANDOM % 400)))"
        return
    fi
    sleep "0.$(printf %03d $((RANDOM % 200)))"
    while kill -0 "$1" 2> /dev/null; do
        found=(k/*)
        case "${found[*]}" in *.tmp*) return ;; esac
        [ ${#found[@]} -lt 3 ] || return 0
    done
}

# kill_run FLAG... - starts it and kills it.
kill_run() {
    local pid
    "$program" "$@" > killed.out 2> killed.err &
    pid=$!
    wait_to_kill $pid
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    case $(echo k/*) in *.tmp*) halves=$((halves + 1)) ;; esac
}

# What must hold after every kill. had: a file had been complete before.
check_after_kill() {
    local at expected got n
    n=$(steps | wc -l)
    if [ "$n" = 0 ]; then # fine before the first save
        [ "$had" = 0 ] || say "no complete file is left"
        return 0
    fi
    [ "$n" -le 4 ] || say "$n files, not 2 and at most 2 that were to be removed"
    had=1
    at=$(steps | tail -n 1)
    train next "${run[@]}" --resume k --strategy "$strategy" --steps 2
    grep -q "^resumed from k/run-0*$at\.safetensors" next.err ||
        { cat next.err; say "not from $at"; }
    ! grep -q '^train_gpt: ' next.err || { cat next.err; return 1; }
    expected=$(echo "$whole" | cut -d ' ' -f "$((at + 1))-$((at + 2))")
    got=$(losses next.json)
    [ -n "$got" ] && [ "$got" = "$expected" ] || say "after step $at: $got, not $expected"
    done_kills=$((done_kills + 1))
    [ "$at" -lt 500 ] || { rm -f k/*; had=0; }
}

# Kills of a run under a strategy; each goes on where the last one was killed.
survives() {
    local i had=0 done_kills=0 halves=0 whole share=$(((kills + 4) / 5)) strategy=$1 from
    mkdir -p k
    train whole "${start[@]}" --strategy "$@" --steps 900
    whole=$(losses whole.json)
    for ((i = 0; i < 4 * share && done_kills < share; i++)); do
        from=(--resume k --strategy "$strategy")
        [ $had = 1 ] || from=("${start[@]}" --strategy "$@")
        kill_run "${run[@]}" "${from[@]}" --steps 390 "${saving[@]}"
        echo "KILL_SEED=$seed, kill $i"
        check_after_kill
    done
    [ "$done_kills" -ge "$share" ] || say "only $done_kills kills came after a save"
    train last "${run[@]}" --resume k --steps 1 "${saving[@]}"
    [ "$(find k -type f | wc -l)" = 2 ] || say "left behind: $(ls k)"
    echo "$*: $done_kills kills, $halves with a half file, last at step $(steps | tail -n 1)" \
        >> "$dir/counts"
}

test_killed_run_continues_f32() { survives none; }
test_killed_run_continues_8bit() { survives optim=8bit; }
test_killed_run_continues_bf16_with_clipping() {
    survives optim=bf16 --clip 0.5 --weight-decay 0.1
}
test_killed_run_continues_4bit() { survives optim=4bit; }
test_killed_run_continues_accumulating() { survives accum=3 --accum 2; }

# The example: whatever happens, it prints the same losses.
test_killed_example_continues() {
    local example=$root/build/examples/13_resume i
    [ -x "$example" ] || skip "no $example: make"
    "$example" whole.safetensors | grep '^step' > whole
    for i in 1 2 3 4; do
        "$example" run.safetensors > "out$i" 2> err &
        sleep "0.0$((RANDOM % 90 + 10))"
        kill -9 $! 2> /dev/null || true
        wait $! 2> /dev/null || true
        [ ! -s err ] || { cat err; return 1; }
        # It began anew if it had come to its end.
        ! tail -n 1 "out$i" | grep -q '^step 5000' || rm -f out? run*
    done
    "$example" run.safetensors > out5
    cat out? | grep '^step' | sort -u | cmp - whole
    [ -z "$(find . -name 'run*')" ] || say "left behind: $(ls)"
}

# ---- a full disk -------------------------------------------------------------------------------

# A file system with room for two files and a half: the third save fails.
test_full_disk_keeps_what_was_saved() {
    local rc=0 one
    unshare -m true 2> /dev/null || unshare -rm true 2> /dev/null || skip "no mounts here"
    mkdir k
    train one "${start[@]}" --strategy none --steps 5 --save one.st
    one=$(wc -c < one.st)
    export -f full_disk
    program=$program one=$one unshare -rm bash -c 'full_disk "$@"' bash "${start[@]}" > log 2>&1 ||
        rc=$?
    [ $rc != 77 ] || skip "$(cat log)"
    [ $rc = 0 ] || { cat log; return 1; }
}
full_disk() {
    local rc=0
    mount -t tmpfs -o size=$((one * 5 / 2)) none k 2> /dev/null ||
        { echo "no mounts here"; return 77; }
    "$program" "$@" --strategy none --steps 9 --save k/run.safetensors --save-every 1 --keep 3 \
        > out 2>&1 || rc=$?
    cat out
    [ $rc = 1 ] && grep -q '^train_gpt: .*No space left on device' out || return 1
    ls k
    [ "$(echo k/*)" = "k/run-00000001.safetensors k/run-00000002.safetensors" ] || return 1
    "$program" --tokens "$2" --threads 1 --resume k --steps 3 || return 1
    # Once there is room again, it goes on.
    rm k/run-00000001.safetensors
    "$program" --tokens "$2" --threads 1 --resume k --steps 3 --save k/run.safetensors \
        --save-every 1 --keep 1 || return 1
    [ "$(echo k/*)" = k/run-00000005.safetensors ]
}

# ---- signals -----------------------------------------------------------------------------------

# ends_early SIGNAL: the run saves, says so, and its losses are the first ones of the whole run.
ends_early() {
    local pid rc=0 n
    mkdir -p k
    train whole "${start[@]}" --strategy none --steps 20
    env --default-signal="$1" "$program" "${start[@]}" --strategy none --steps 1000000 \
        --save k/run.safetensors --save-every 10 --json > early.json 2> early.err &
    pid=$!
    while [ ! -e k/run.safetensors ]; do kill -0 $pid || return 1; done
    kill -s "$1" $pid
    wait $pid || rc=$?
    [ $rc = 3 ] || { cat early.err; say "exit status $rc"; }
    grep -q '^train_gpt: signal [0-9]* after step [0-9]* of 1000000: saved' early.err
    n=$(grep -o '"steps":[0-9]*' early.json | cut -d: -f2)
    [ "$(losses early.json | wc -w)" = "$n" ] || say "not $n losses"
    [ "$(losses early.json | cut -d ' ' -f 1-10)" = "$(losses whole.json | cut -d ' ' -f 1-10)" ]
    train more "${run[@]}" --resume k/run.safetensors --steps 1 --save k/run.safetensors
    train again "${start[@]}" --strategy none --steps $((n + 1)) --save again.st
    cmp again.st k/run.safetensors
}
test_sigterm_saves_and_ends() { ends_early TERM; }
test_ctrl_c_saves_and_ends() {
    env --default-signal=INT true 2> /dev/null || skip "env has no --default-signal"
    ends_early INT
}

# A step takes a second or two here.
test_second_signal_ends_at_once() {
    local pid rc=0
    "$program" --text "$root/memopt.h" --layers 2 --channels 256 --heads 4 --accum 8 --threads 1 \
        --strategy none --save run.st --save-every 1 > out 2> err &
    pid=$!
    while [ ! -e run.st ]; do kill -0 $pid || { cat err; return 1; }; done
    cp run.st first.st
    kill -TERM $pid
    sleep 0.1
    kill -0 $pid || say "the first one did not wait for the step"
    kill -TERM $pid
    wait $pid || rc=$?
    [ $rc = 143 ] || { cat err; say "exit status $rc"; }
    cmp run.st first.st
    [ -z "$(find . -name 'run.st.*')" ]
}

# ---- files -------------------------------------------------------------------------------------

test_save_every_and_keep_name_their_files() {
    mkdir k
    train run "${start[@]}" --strategy none --steps 7 --save k/run.safetensors --save-every 3 \
        --keep 2
    [ "$(steps | tr '\n' ' ')" = "6 7 " ] || say "steps: $(steps)"
    train run "${start[@]}" --strategy none --steps 6 --save k/one.st --save-every 3
    [ "$(cd k && echo one*)" = one.st ]
    train six "${start[@]}" --strategy none --steps 6 --save six.st
    cmp six.st k/one.st
}

test_resume_takes_the_newest_that_is_whole() {
    mkdir k
    train whole "${start[@]}" --strategy none --steps 8
    train run "${start[@]}" --strategy none --steps 7 --save k/run.safetensors --save-every 1 \
        --keep 3
    head -c 100000 k/run-00000007.safetensors > cut
    cp cut k/run-00000007.safetensors
    printf x | dd of=k/run-00000006.safetensors bs=1 seek=200000 conv=notrunc 2> /dev/null
    train next "${run[@]}" --resume k --steps 3
    grep -q '^resumed from k/run-00000005' next.err
    [ "$(grep -c '^train_gpt: k/run-0000000[67].*passed over' next.err)" = 2 ]
    [ "$(losses next.json)" = "$(losses whole.json | cut -d ' ' -f 6-8)" ]
    train next "${run[@]}" --resume k/run.safetensors --steps 3 # the name that --save had
    [ "$(losses next.json)" = "$(losses whole.json | cut -d ' ' -f 6-8)" ]
    if "$program" "${run[@]}" --resume k/run-00000006.safetensors > out 2> err; then
        say "a damaged file was taken, or another one than that"
    fi
    [ "$(grep -c '^train_gpt: ' err)" = 1 ] && grep -q '^train_gpt: .*is damaged' err
}

test_settings_come_from_the_file() {
    train whole "${start[@]}" --seed 7 --weight-decay 0.1 --clip 0.5 --accum 2 --strategy none \
        --steps 6 --save whole.st
    train half "${start[@]}" --seed 7 --weight-decay 0.1 --clip 0.5 --accum 2 --strategy none \
        --steps 3 --save half.st
    train rest "${run[@]}" --resume half.st --steps 3 --strategy none --save rest.st
    cmp whole.st rest.st
    sample() {
        "$program" "${run[@]}" --steps 0 --sample 30 "${@:2}" 2> /dev/null > out
        sed -n '/^--- sample/,/^---$/p' out > "$1"
        [ -s "$1" ]
    }
    sample a --resume whole.st
    sample b --resume rest.st
    sample c --resume rest.st --seed 8
    cmp a b
    ! cmp -s a c
}

test_bad_uses_are_refused() {
    local text
    refused() {
        local rc=0
        "$program" "${@:3}" > out 2> err || rc=$?
        [ $rc = "$1" ] && [ "$(wc -l < err)" = 1 ] && grep -qF -- "$2" err ||
            { cat err; say "status $rc, not $1 with '$2'"; }
    }
    mkdir empty
    refused 2 "--keep: needs --save" "${start[@]}" --keep 2
    refused 2 "--save-every: needs --save" "${start[@]}" --save-every 2
    for text in 0 -1 x 1.5 ''; do
        refused 2 "--keep: '$text'" "${start[@]}" --save a --keep "$text"
        refused 2 "--save-every: '$text'" "${start[@]}" --save a --save-every "$text"
    done
    refused 1 "empty: no complete checkpoint" "${run[@]}" --resume empty
    refused 1 "nowhere: no complete checkpoint" "${run[@]}" --resume nowhere
    refused 1 "nowhere" "${run[@]}" --resume nowhere/run.st
}

run_facts # not in a condition, where set -e would do nothing
rc=$?
cat counts 2> /dev/null
exit $rc
