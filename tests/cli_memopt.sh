#!/usr/bin/env bash
# cli_memopt.sh PROGRAM - what memopt promises on its command line, one function per fact.
#
# Prints one line per test and ends like cmocka; a function fails with its first failing command and
# skips with status 77. ONLY=words runs the facts whose name holds one of them. Needs bash, awk,
# cmp; python3 and xmllint where present.
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/cli.sh"

# ---- helpers -----------------------------------------------------------------------------------

# rejects COMMAND MESSAGE TEXT FLAG... - refuses a file of this text, naming file and line.
rejects() {
    local command=$1 message=$2
    printf "$3" > bad.csv
    shift 3
    refuses 2 "memopt $command: bad.csv:$message" "$command" bad.csv "$@"
}

# Five buffers that fit into twelve bytes.
five() {
    cat << END
id,lower,upper,size
b1,0,3,4
b2,3,9,4
b3,0,9,4
b4,9,21,4
b5,0,21,4
END
}

# random_buffers SEED N - lifetimes within 100 steps.
random_buffers() {
    awk -v seed="$1" -v n="$2" 'BEGIN {
        srand(seed)
        print "id,lower,upper,size,alignment"
        for (i = 0; i < n; i++) {
            lower = int(100 * rand())
            print "b" i "," lower "," lower + 1 + int(20 * rand()) "," int(1000 * rand()) "," \
                2 ^ int(4 * rand())
        }
    }'
}

# Checks the rows of a plan against each other; prints "PEAK LIVE".
measure() {
    awk -F, '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        {
            n++
            low[n] = $at["lower"]; up[n] = $at["upper"]
            size[n] = $at["size"]; off[n] = $at["offset"]
            if ("alignment" in at && off[n] % $at["alignment"]) {
                print "line " NR ": unaligned"; bad = 1
            }
            if (off[n] !~ /^[0-9]+$/) { print "line " NR ": no offset"; bad = 1 }
            if (off[n] + size[n] > peak) peak = off[n] + size[n]
            for (i = 1; i < n; i++)
                if (low[i] < up[n] && low[n] < up[i] &&
                    off[i] < off[n] + size[n] && off[n] < off[i] + size[i]) {
                    print "line " NR " lies over buffer " i; bad = 1
                }
        }
        END {
            for (k = 1; k <= n; k++) {
                sum = 0
                for (i = 1; i <= n; i++) if (low[i] <= low[k] && low[k] < up[i]) sum += size[i]
                if (sum > live) live = sum
            }
            print peak + 0, live + 0
            exit bad
        }' "$1"
}
summary() { sed -n "s/.*$1 \([0-9.]*\).*/\1/p" err | tail -n 1; }

# ---- the program -------------------------------------------------------------------------------

test_help_and_version_go_to_standard_output() {
    local command
    ends 0 --version
    grep -qE '^memopt [0-9]+\.[0-9]+\.[0-9]+$' out
    ends 0 --help
    for command in estimate plan remat place inspect verify convert quantize diff merge-lora \
        split merge; do
        grep -q "memopt $command " out
        ends 0 $command --help
        grep -q "^memopt $command - " out
        grep -q 'Exit status' out
        [ ! -s err ]
        "$program" $command -h | cmp - out
        ends 0 --help
    done
}

test_what_it_does_not_know_is_named() {
    refuses 2 "unknown command 'plans'" plans
    refuses 2 "unknown flag '--capacity'" --capacity 3 plan
    refuses 2 "memopt plan: unknown flag '--budget'" plan x.csv --budget 3
    refuses 2 "memopt plan: unknown flag '-x'" plan -x x.csv
    refuses 2 "memopt remat: unknown flag '--capacity'" remat x.csv --capacity=3
    ends 2
    [ ! -s out ] && grep -q 'memopt plan' err
}

test_wrong_flags_are_named() {
    local word
    refuses 2 'file missing' plan
    refuses 2 'file missing' plan --capacity 3
    refuses 2 '2 files, not 1' plan a.csv b.csv
    for word in 0 -1 x 3X 1e99 99999999999999999999999 '' 0.2 K 3KK 0x10 inf nan 1.2.3; do
        refuses 2 "--capacity: '$word' is not a size" plan x.csv --capacity "$word"
        refuses 2 "--budget: '$word' is not a size" remat x.csv --budget "$word"
    done
    for word in 0 -1 x '' 1s nan inf; do
        refuses 2 "--time: '$word' is not a number above 0" plan x.csv --time "$word"
    done
    for word in 0% -1% % 5%% 5%x; do
        refuses 2 "--budget: '$word'" remat x.csv --budget "$word"
    done
    refuses 2 '--capacity: value missing' plan x.csv --capacity
    refuses 2 '--capacity: value missing' plan x.csv --capacity --svg
    refuses 2 '--svg: value missing' plan x.csv --svg=
    refuses 2 '--json takes no value' remat x.csv --json=1
    refuses 2 "--strategy: unknown 'fast'" remat x.csv --budget 3 --strategy fast
    refuses 2 '--budget missing' remat x.csv
    refuses 2 "--bandwidth: 'fast' is not a rate" remat x.csv --budget 3 --bandwidth fast
    refuses 2 "--bandwidth: '0' is not a rate" remat x.csv --budget 3 --bandwidth 0
    refuses 2 "--unit: 'hours' is not" remat x.csv --budget 3 --unit hours
    refuses 2 '--bandwidth goes with --strategy optimal' remat x.csv --budget 3 --bandwidth 1 \
        --strategy block
    refuses 2 'the same file' plan x.csv -o y --svg y
}

test_what_stands_behind_two_dashes_is_a_file() {
    five > --capacity
    ends 0 plan -- --capacity
    [ "$(measure out)" = '12 12' ]
}

test_a_full_standard_output_is_an_error() {
    [ -e /dev/full ] || skip "no /dev/full"
    local flags
    five > five.csv
    chain > chain.csv
    for flags in --help --version 'plan --help' 'plan five.csv' 'plan five.csv -o /dev/full' \
        'plan five.csv --svg /dev/full -o x' 'remat chain.csv --budget 50%' \
        'remat chain.csv --budget 50% --json'; do
        local rc=0
        # shellcheck disable=SC2086
        "$program" $flags > /dev/full 2> err || rc=$?
        [ $rc = 1 ] && grep -q 'No space left on device' err || { cat err; say "$rc: $flags"; }
    done
}

# ---- files -------------------------------------------------------------------------------------

test_inputs_that_cannot_be_read_are_named() {
    mkdir folder
    for command in 'plan' 'remat --budget 3'; do
        # shellcheck disable=SC2086
        refuses 2 'nothing.csv: No such file or directory' $command nothing.csv
        # shellcheck disable=SC2086
        refuses 2 'folder: Is a directory' $command folder
        # shellcheck disable=SC2086
        refuses 2 '/dev/null: empty, without a header' $command /dev/null
        # shellcheck disable=SC2086
        refuses 2 'standard input: empty, without a header' $command -
    done
}

test_outputs_that_cannot_be_written_are_named_before_the_search() {
    local flag
    five > five.csv
    mkdir folder
    for flag in -o --svg; do
        refuses 1 'nowhere/x: No such file or directory' plan five.csv $flag nowhere/x
        refuses 1 'folder: Is a directory' plan five.csv $flag folder
        refuses 1 'five.csv/x: Not a directory' plan five.csv $flag five.csv/x
    done
    [ -z "$(ls folder)" ]
    [ "$(id -u)" = 0 ] && return
    chmod a-w folder
    refuses 1 'folder/x: Permission denied' plan five.csv -o folder/x
}

test_output_replaces_a_file_as_a_whole() {
    five > five.csv
    mkdir d
    echo old > d/real
    chmod 640 d/real
    ln -s real d/link
    ends 0 plan five.csv -o d/link --svg d/new.svg
    [ ! -s out ]
    [ -L d/link ]
    [ "$(measure d/real)" = '12 12' ]
    [ "$(ls -l d/real | cut -c1-10)" = -rw-r----- ]
    [ "$(ls d | tr '\n' ' ')" = 'link new.svg real ' ]
    # also its own input
    ends 0 plan five.csv -o five.csv
    [ "$(measure five.csv)" = '12 12' ]
}

test_full_disk_leaves_the_old_file() {
    local kib rc
    random_buffers 1 500 > in.csv
    mkdir d
    echo old > d/out.csv
    for kib in 0 1 4; do
        rc=0
        limited $kib "$program" plan in.csv -o d/out.csv || rc=$?
        [ $rc = 1 ] || { cat limited.err; say "$kib KiB: exit status $rc"; }
        grep -q '^memopt plan: d/out.csv: File too large' limited.err ||
            { cat limited.err; return 1; }
        [ "$(cat d/out.csv)" = old ]
        [ "$(ls d)" = out.csv ] || say "left behind: $(ls d)"
    done
}

# ---- plan --------------------------------------------------------------------------------------

test_five_buffers_fit_into_twelve_bytes() {
    five > five.csv
    ends 0 plan five.csv --capacity 12
    [ "$(measure out)" = '12 12' ]
    [ "$(head -n 1 out)" = id,lower,upper,size,offset ]
    cut -d, -f1-4 out | cmp - five.csv
    [ "$(wc -l < err)" -eq 1 ]
    grep -q '^5 buffers, lower bound 12, peak 12 (12 B), ratio 1.0000, proved smallest, ' err
    ends 0 plan five.csv
    [ "$(measure out)" = '12 12' ]
}

test_a_layout_as_json_is_the_one_of_the_rows() {
    five > five.csv
    ends 0 plan five.csv --json -o rows.csv
    [ "$(wc -l < out)" -eq 1 ]
    grep -q '^{"file":"five.csv","lower_bound":12,"peak":12,"proved":true,"capacity":0,' out
    grep -q ',"fits":true,' out
    [ "$(tr '{' '\n' < out | sed -n 's/.*"offset":\([0-9]*\)}.*/\1/p')" = \
        "$(tail -n +2 rows.csv | sed 's/.*,//')" ]
    ends 1 plan five.csv --capacity 11 --json
    grep -q '"capacity":11,"fits":false,' out
    refuses 2 '--json and -o - both write to standard output' plan five.csv --json -o -
}

test_eleven_bytes_are_too_few_and_it_says_why() {
    five > five.csv
    ends 1 plan five.csv --capacity 11
    [ "$(measure out)" = '12 12' ] # the best there is
    grep -q '^memopt plan: does not fit: the smallest layout needs 12 bytes, the capacity' err
    grep -qE '^at step [0-9]+, 3 buffers need 12 bytes:$' err
    grep -qE '^  b5 +4 bytes, steps 0 to 20$' err
    grep -q '^3 of the buffers do not fit even alone, but without any one of them:' err
    [ "$(summary peak)" = 12 ]
}

test_input_comes_from_standard_input_too() {
    five | "$program" plan - > out 2> err
    [ "$(measure out)" = '12 12' ]
    printf 'id,lower,upper,size\n"a,0,1,1\n' > bad.csv
    "$program" plan - < bad.csv 2>&1 | grep -q '^memopt plan: standard input:2: quotes'
}

test_random_plans_are_valid_and_say_what_they_are() {
    local seed peak live
    for seed in 1 2 3 4 5 6 7 8 9 10 11 12; do
        random_buffers $seed 60 > in.csv
        ends 0 plan in.csv --time 0.2
        measure out > measured || { cat measured; say "seed $seed"; }
        read -r peak live < measured
        [ "$(summary peak)" = "$peak" ] || say "seed $seed: peak $(summary peak), not $peak"
        [ "$(summary 'lower bound')" -ge "$live" ] && [ "$(summary 'lower bound')" -le "$peak" ] ||
            say "seed $seed: lower bound $(summary 'lower bound'), live $live, peak $peak"
        # What was found is a capacity that fits; a plan of it changes nothing that it says.
        ends 0 plan in.csv --capacity "$peak"
        measure out > measured
    done
}

test_columns_pass_through_in_their_order() {
    printf 'note,size,upper,lower,id\n"x, ""y""",4,3,0,a\n,5,4,3,b\n' > in.csv
    ends 0 plan in.csv
    printf 'note,size,upper,lower,id,offset\n"x, ""y""",4,3,0,a,0\n,5,4,3,b,0\n' | cmp - out
}

test_given_offsets_stay_and_alignments_hold() {
    printf 'id,lower,upper,size,alignment,offset\na,0,4,10,1,\nb,0,4,3,1,7\nc,1,2,5,64,\n' > in.csv
    ends 0 plan in.csv
    measure out > /dev/null
    grep -q '^b,0,4,3,1,7$' out
    # its own output, where all offsets are given
    cp out again.csv
    ends 0 plan again.csv
    cmp again.csv out
    printf 'id,lower,upper,size,offset\na,0,4,4,0\nb,3,5,4,2\n' > over.csv
    ends 2 plan over.csv
    [ ! -s out ]
}

test_gaps_let_others_in() {
    printf 'id,lower,upper,size,gaps\na,0,9,8,3-6\nb,3,6,8,\n' > in.csv
    ends 0 plan in.csv
    [ "$(summary peak)" = 8 ]
    printf 'id,lower,upper,size,gaps\na,0,9,8,3-6@0:2\nb,3,6,6,\n' > in.csv
    ends 0 plan in.csv
    [ "$(summary peak)" = 8 ]
}

test_older_names_of_columns_mean_what_they_do_elsewhere() {
    # end is the last step itself: a and b meet at step 3
    printf 'buffer_id,start,end,size\na,0,3,4\nb,3,5,4\n' > in.csv
    ends 0 plan in.csv
    [ "$(summary peak)" = 8 ]
    printf 'buffer,begin,upper,size\na,0,3,4\nb,3,5,4\n' > in.csv
    ends 0 plan in.csv
    [ "$(summary peak)" = 4 ]
}

test_sizes_may_have_units() {
    local word
    printf 'id,lower,upper,size\na,0,1,1536\n' > in.csv
    for word in 1536 1.5K 1.5k 1.5KiB 1.5KB 1M 2G 1T; do ends 0 plan in.csv --capacity $word; done
    for word in 1535 1K 1.4K; do ends 1 plan in.csv --capacity=$word; done
}

test_bad_rows_are_named_by_file_line_column_and_value() {
    local h='id,lower,upper,size\n'
    rejects plan "2: size '-4': not a whole number" "${h}a,0,3,-4\n"
    rejects plan "2: size '4.5': not a whole number" "${h}a,0,3,4.5\n"
    rejects plan "2: size '18446744073709551616': not a whole number" \
        "${h}a,0,3,18446744073709551616\n"
    rejects plan "3: upper '3': not above the first step, 3" "${h}a,0,3,4\nb,3,3,4\n"
    rejects plan "4: id 'a': line 2 has it too" "${h}a,0,3,4\nb,0,3,4\na,3,4,1\n"
    rejects plan "2: a NUL byte: this is not text" "${h}a,0,3,\\0004\n"
    rejects plan "3: 3 columns, but the header has 4" "${h}a,0,3,4\nb,3,4\n"
    rejects plan " no column 'upper'" 'id,lower,size\n'
    rejects plan "1: column 'id' is there twice" 'id,lower,upper,size,id\n'
    rejects plan " empty, without a header" '\n\n'
    rejects remat "2: fw 'nan': not a number of 0 or more" \
        'index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp\n0,l,nan,0,0,0,0,0,0\n' --budget 1
    rejects remat "3: x_in '5': not the x_out of the row before, 4" \
        'index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp\n0,a,1,1,2,4,4,0,0\n1,l,0,0,5,0,0,0,0\n' \
        --budget 1
    rejects remat " no rows" 'index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp\n' --budget 1
}

test_sums_that_are_too_large_are_an_error() {
    printf 'id,lower,upper,size\na,0,3,18446744073709551615\nb,0,3,18446744073709551615\n' > in.csv
    ends 2 plan in.csv
    [ ! -s out ]
    grep -q '^memopt plan: in.csv: ' err
    rejects remat "2: x_in '9223372036854775808': the sizes up to here add up to more than" \
        'index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp\n0,l,1,1,9223372036854775808,0,0,0,0\n' \
        --budget 5
}

test_a_table_without_rows_is_an_empty_plan() {
    printf 'id,lower,upper,size\n' > in.csv
    ends 0 plan in.csv --svg x.svg
    [ "$(cat out)" = id,lower,upper,size,offset ]
    grep -q '^0 buffers, ' err
}

test_the_picture_shows_every_buffer() {
    random_buffers 3 40 | sed 's/^b7,/"<b>\&7",/' > in.csv
    ends 0 plan in.csv --svg x.svg --capacity 100K
    [ "$(grep -c '<rect class="item ' x.svg)" -le 40 ]
    grep -q '<title>b8: ' x.svg
    grep -q '<title>&#60;b&#62;&#38;7: ' x.svg
    grep -q 'in.csv</text>' x.svg
    have xmllint && xmllint --noout x.svg
    ends 0 plan in.csv --svg - -o rows.csv
    grep -q '^<svg ' out
}

# ---- remat -------------------------------------------------------------------------------------

# Three equal stages that save 10 bytes each, and the loss. Everything kept: 33 bytes, time 9.
chain() {
    cat << END
# by hand
index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp
0,a,1,2,1,1,10,0,0
1,b,1,2,1,1,10,0,0
2,c,1,2,1,1,10,0,0
3,loss,0,0,1,0,0,0,0
END
}

random_chain() {
    awk -v seed="$1" -v n="$2" 'BEGIN {
        srand(seed)
        print "index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp"
        x = 1 + int(20 * rand())
        for (i = 0; i < n; i++) {
            y = 1 + int(20 * rand())
            print i ",s" i "," int(100 * rand()) "," int(200 * rand()) "," x "," y "," \
                y + int(90 * rand()) "," int(9 * rand()) "," int(9 * rand())
            x = y
        }
        print n ",loss,0,1," x ",0,0,0," int(9 * rand())
    }'
}

field() { grep -o "\"$2\":[0-9.e+]*" "$1" | head -n 1 | cut -d: -f2; }
row() { awk -v name="$2" '$1 == name { print $4, $5, $6, $7 }' "$1"; } # bytes time ratio fits

# replay CHAIN JSON - runs the ops by the rules of the help; prints "PEAK TIME".
replay() {
    { grep -o '\["[a-z-]*",[0-9]*\]' "$2" | tr -d '[]"' | sed 's/^/op,/'; cat "$1"; } > both
    awk -F, '
        function need(truth, what) { if (!truth) { print "op " k ": no " what; bad = 1; exit } }
        function put(what, bytes) { held += bytes - have[what]; have[what] = bytes; has[what] = 1 }
        function drop(what) { held -= have[what]; delete have[what]; delete has[what] }
        function peaks(more) { if (held + more > peak) peak = held + more }
        $1 == "op" { kind[++n] = $2; stage[n] = $3; next }
        /^#/ || $1 == "index" { next }
        { fw[$1] = $3; bw[$1] = $4; x[$1] = $5; kept[$1] = $7; ft[$1] = $8; bt[$1] = $9; last = $1 }
        END {
            if (bad) exit 1
            put("x0", x[0])
            for (k = 1; k <= n; k++) {
                i = stage[k]; what = kind[k]
                if (what == "keep" || what == "drop" || what == "save" || what == "save-drop") {
                    need(("x" i) in has || ("k" i - 1) in has, "x" i)
                    put(what ~ /save/ ? "k" i : "x" i + 1, what ~ /save/ ? kept[i] : x[i + 1])
                    peaks(ft[i]); time += fw[i]
                    if (what ~ /drop/) drop("x" i)
                } else if (what == "loss") {
                    need(("x" i) in has || ("k" i - 1) in has, "x" i)
                    put("d" i, x[i]); peaks(bt[i]); time += fw[i] + bw[i]; drop("x" i)
                } else {
                    need(("d" i + 1) in has, "d" i + 1); need(("k" i) in has, "k" i)
                    need(("x" i) in has || ("k" i - 1) in has, "x" i)
                    put("d" i, x[i]); peaks(bt[i]); time += bw[i]
                    drop("d" i + 1); drop("k" i); drop("x" i)
                }
            }
            need(("d" 0) in has, "d0")
            print peak, time
            exit bad
        }' both
}

test_one_stage_runs_again_where_33_bytes_are_too_many() {
    chain > chain.csv
    ends 0 remat chain.csv --budget 33
    [ "$(row out optimal)" = '33 9 1.0000 fits' ]
    ends 0 remat chain.csv --budget 24
    [ "$(row out none)" = '33 9 1.0000 does' ]
    [ "$(row out first_n)" = '24 10 1.1111 fits' ]
    [ "$(row out optimal | cut -d' ' -f2-)" = '10 1.1111 fits' ]
    [ "$(row out block | cut -d' ' -f2-)" = '12 1.3333 fits' ]
    grep -q '^schedule of optimal:$' out
    grep -q '^  loss         3  loss$' out
}

test_percent_is_of_keeping_everything() {
    chain > chain.csv
    ends 0 remat chain.csv --budget 24 --json
    mv out bytes.json
    ends 0 remat chain.csv --budget 75% --json # of 33, rounded down
    cmp bytes.json out
    ends 0 remat chain.csv --budget 100%
    [ "$(row out optimal)" = '33 9 1.0000 fits' ]
}

test_a_link_saves_time_under_the_same_budget() {
    chain > chain.csv
    ends 0 remat chain.csv --budget 24 --json
    slow=$(grep -o '"chosen":{[^}]*' out | grep -o '"time":[0-9.e+]*' | cut -d: -f2)
    ends 0 remat chain.csv --budget 24 --bandwidth 1000000 --unit s --json
    grep -q '"chosen":{"strategy":"offload","fits":true' out
    grep -q '"recompute_time":'"$slow"',' out
    fast=$(grep -o '"chosen":{[^}]*' out | grep -o '"time":[0-9.e+]*' | cut -d: -f2)
    awk "BEGIN { exit !($fast < $slow) }" || say "$fast is not below $slow"
    mv out s.json
    ends 0 remat chain.csv --budget 24 --bandwidth 1G --unit ms --json
    cmp s.json out
    ends 0 remat chain.csv --budget 24 --bandwidth 1e12
    grep -q '^  offload  *[0-9]' out && grep -q '^  prefetched  *[0-9]' out
}

test_a_link_that_copies_nothing_in_time_changes_nothing() {
    chain > chain.csv
    ends 0 remat chain.csv --budget 24
    optimal=$(row out optimal)
    ends 0 remat chain.csv --budget 24 --bandwidth 1 --unit ns
    [ "$(row out offload | head -n 1)" = "$optimal" ]
}

test_random_schedules_replay_to_the_byte() {
    local seed percent strategy
    for seed in 1 2 3 4 5 6 7 8; do
        random_chain $seed $((seed + 3)) > chain.csv
        for percent in 45 60 80 100; do
            for strategy in optimal rotor none block segments first_n greedy; do
                "$program" remat chain.csv --budget $percent% --strategy $strategy --json \
                    > s.json 2> err || [ $? = 1 ]
                replay chain.csv s.json > replayed ||
                    { cat replayed; say "$seed $percent $strategy"; }
                [ "$(cat replayed)" = "$(field s.json peak_bytes) $(field s.json time)" ] ||
                    say "seed $seed, $percent %, $strategy: $(cat replayed), but it says" \
                        "$(field s.json peak_bytes) $(field s.json time)"
                if grep -q '"chosen":{[^}]*"fits":true' s.json; then
                    [ "$(field s.json peak_bytes)" -le "$(field s.json budget_bytes)" ]
                else [ "$(field s.json peak_bytes)" -gt "$(field s.json budget_bytes)" ]; fi
            done
        done
    done
}

test_optimal_is_never_slower_than_what_fits_beside_it() {
    local seed percent
    for seed in 11 12 13 14 15 16; do
        random_chain $seed 9 > chain.csv
        for percent in 50 65 80 95; do
            "$program" remat chain.csv --budget $percent% > out 2> err || [ $? = 1 ]
            awk '$1 == "optimal" { time = $5; fits = $7 == "fits" }
                 $1 ~ /^(none|block|segments|first_n|greedy)$/ && $7 == "fits" &&
                 (!fits || $5 < time) {
                     print $1 " is faster: " $5 " < " time; bad = 1
                 }
                 /^schedule/ { exit bad }' out || say "seed $seed, $percent %"
        done
    done
}

test_the_smallest_budget_that_can_is_named() {
    local floor
    random_chain 5 12 > chain.csv
    ends 1 remat chain.csv --budget 5
    floor=$(sed -n 's/^memopt remat: does not fit: .* needs \([0-9]*\) bytes, the .* 5$/\1/p' err)
    [ -n "$floor" ] || { cat err; return 1; }
    grep -q '^schedule of optimal:$' out
    ends 0 remat chain.csv --budget "$floor"
    ends 1 remat chain.csv --budget $((floor - 1)) --json
    [ "$(field out floor_bytes)" = "$floor" ]
    ends 1 remat chain.csv --budget 5 --strategy block
    grep -q '^memopt remat: does not fit: block needs ' err
}

test_the_frontier_falls() {
    random_chain 6 10 > chain.csv
    ends 0 remat chain.csv --frontier --json
    grep -o '"frontier":\[\[.*' out | grep -oE '\[[0-9]+,[0-9.]+\]' | tr -d '[]' > points
    [ "$(wc -l < points)" -ge 3 ]
    awk -F, 'NR > 1 && ($1 <= bytes || $2 >= time) { print "line " NR; exit 1 }
             { bytes = $1; time = $2 }' points
    [ "$(tail -n 1 points | cut -d, -f2)" = "$(field out plain_time)" ]
    ends 0 remat chain.csv --frontier
    [ "$(sed '1,/^frontier:/d' out | wc -l)" = $(($(wc -l < points) + 1)) ]
    ends 0 remat chain.csv --budget "$(sed -n '2s/,.*//p' points)" --json
    [ "$(field out time)" = "$(sed -n '2s/.*,//p' points)" ]
}

test_json_is_json() {
    have python3 || skip "no python3"
    chain > "$(printf 'a"\\\303\244\377.csv')"
    for flags in '--budget 3' '--budget 50%' --frontier '--budget 4% --strategy none --frontier'; do
        # shellcheck disable=SC2086
        "$program" remat a* $flags --json > out 2> err || [ $? = 1 ]
        python3 -c 'import json, sys; json.load(open("out", encoding="utf-8"))' || say "$flags"
        [ "$(wc -l < out)" = 1 ]
    done
}

test_the_loss_alone_is_a_chain() {
    printf 'index,name,fw,bw,x_in,x_out,xbar,fwd_tmp,bwd_tmp\n0,loss,1,2,4,0,0,0,3\n' > chain.csv
    ends 0 remat chain.csv --budget 100% --frontier
    [ "$(row out optimal)" = '11 3 1.0000 fits' ]
}

# ---- place -------------------------------------------------------------------------------------

# safetensors FILE NAME:BYTES... - a file of such tensors, in that order.
safetensors() {
    local file=$1 header= at=0 tensor size
    shift
    for tensor in "$@"; do
        size=${tensor##*:}
        header="$header,\"${tensor%:*}\":{\"dtype\":\"U8\",\"shape\":[$size],"
        header="$header\"data_offsets\":[$at,$((at + size))]}"
        at=$((at + size))
    done
    header="{${header#,}}"
    size=${#header}
    printf "\\$(printf %o $((size % 256)))\\$(printf %o $((size / 256)))" > "$file"
    head -c 6 /dev/zero >> "$file"
    printf %s "$header" >> "$file"
    head -c $at /dev/zero >> "$file"
}

# Two blocks of 50 and 30 bytes in two tensors each, a tenth and an eleventh of 10, what is around.
blocks() {
    safetensors blocks.safetensors head.weight:40 norm.weight:5 h.10.a.w:10 h.9.a.w:10 h.0.a.w:20 \
        h.0.b.w:30 h.1.a.w:10 h.1.b.w:20 wte.weight:40
}

# The devices of the items in a JSON answer, in order.
values() { grep -o '"items":\[.*' "$1" | grep -oE "\"$2\":(\"[^\"]*\"|null)" | cut -d: -f2; }
devices() { values "$1" device | tr -d '"\n'; }
names() { values "$1" name | tr -d '"' | tr '\n' ' '; }

seconds() { grep -oE '"step_s":[0-9.e+-]+' "$1" | cut -d: -f2; }

test_place_orders_by_name_and_keeps_numbered_blocks_together() {
    blocks
    ends 0 place blocks.safetensors --max-memory 0=90,cpu --buffers 1 --json
    [ "$(names out)" = "wte.weight h.0.a.w h.0.b.w h.1.a.w h.1.b.w h.9.a.w h.10.a.w norm.weight \
head.weight " ]
    [ "$(devices out)" = cpu00cpucpucpucpucpucpu ] # 50 and room for 40
    [ "$(field out moved_bytes)" = 135 ]
    ends 0 place blocks.safetensors --max-memory 0=90,cpu --json --greedy
    [ "$(devices out)" = 0cpucpucpucpucpucpucpucpu ] # 40 and room for 50
    ends 0 place blocks.safetensors --max-memory 0=90,cpu --json --greedy --no-split none
    [ "$(devices out)" = 0cpucpucpucpucpucpucpucpu ] # 60 and room for the head, 40
    ends 0 place blocks.safetensors --max-memory 0=100,cpu --json --greedy --no-split none
    [ "$(devices out)" = 00cpucpucpucpucpucpucpu ]
    ends 0 place blocks.safetensors --max-memory 0=100,cpu --json --greedy --no-split 'wte,h.*'
    [ "$(devices out)" = 0cpucpucpucpucpucpucpucpu ]
    ends 0 place blocks.safetensors --max-memory 0=85,cpu --json --greedy --order file
    [ "$(names out | cut -d' ' -f1)" = head.weight ]
    [ "$(devices out)" = cpucpucpucpucpucpucpucpucpu ] # 40 and room for 50
}

test_place_moves_no_more_than_greedy() {
    local memory greedy
    blocks
    for memory in 0=60,cpu=60,disk 0=70,cpu=150,disk 0=100,cpu=90,disk 0=120,cpu 0=90,1=50,cpu; do
        ends 0 place blocks.safetensors --max-memory $memory --json --greedy
        greedy=$(seconds out)
        ends 0 place blocks.safetensors --max-memory $memory --json
        grep -q '"is_optimal":true' out
        awk "BEGIN { exit !($(seconds out) <= $greedy) }" || say "$memory: more than $greedy"
    done
    ends 0 place blocks.safetensors --max-memory 0=185,cpu
    grep -q '^placement: 0 bytes over links, 0 s in a step (optimal)$' out
}

test_place_says_what_is_missing() {
    blocks
    ends 1 place blocks.safetensors --max-memory 0=90
    grep -qE '^memopt place: does not fit: 95 bytes of [0-9]* tensors have no place$' err
    grep -q ' nowhere ' out
    ends 0 place blocks.safetensors --max-memory 0=185
}

test_place_by_hand() {
    blocks
    ends 0 place blocks.safetensors --max-memory 0=150,cpu --map =cpu,h=0,h.1.b=cpu --json
    [ "$(devices out)" = cpu000cpu00cpucpu ]
    [ "$(field out moved_bytes)" = 105 ]
    ends 1 place blocks.safetensors --max-memory 0=100,cpu --map =cpu,h=0
    grep -q '^memopt place: does not fit: limits are exceeded by 40 bytes$' err
    refuses 2 "no rule covers item 'wte.weight', nor 2 more" place blocks.safetensors \
        --max-memory 0,cpu --map h=0
    refuses 2 "--map: device 'gpu' is not in --max-memory" place blocks.safetensors \
        --max-memory 0,cpu --map =gpu
}

test_place_refuses_what_makes_no_sense() {
    blocks
    refuses 2 'file missing' place --max-memory 0=1G
    refuses 2 '--max-memory missing' place blocks.safetensors
    refuses 2 "--max-memory: 0: 'x' is not a size" place blocks.safetensors --max-memory 0=x
    refuses 2 "device 'cpu' twice" place blocks.safetensors --max-memory cpu=1,cpu
    refuses 2 'device without a name' place blocks.safetensors --max-memory 0=1,,cpu
    refuses 2 "--link: device 'disk' is not in" place blocks.safetensors --max-memory 0,cpu \
        --link disk=3G
    refuses 2 "--link: cpu: 'fast' is not a rate" place blocks.safetensors --max-memory 0,cpu \
        --link cpu=fast
    refuses 2 'is neither name nor file' place blocks.safetensors --max-memory 0 --order x
    refuses 2 'nothing.safetensors' place nothing.safetensors --max-memory 0
    head -c 50 blocks.safetensors > short.safetensors
    refuses 2 'short.safetensors' place short.safetensors --max-memory 0
}

# ---- training ----------------------------------------------------------------------------------

# A run as small as a test can be.
run=(--layers 2 --channels 64 --heads 2 --seq 64 --batch 4 --threads 1)
number() { grep -o "\"$2\":[0-9.]*" "$1" | head -n 1 | cut -d: -f2; }

# random_pairs N - flags of a model, a share of what it needs in percent, what is open beside.
random_pairs() {
    awk -v n="$1" 'BEGIN {
        srand(11)
        split("release release,act precision,4bit lora", more, " ")
        for (i = 0; i < n; i++) {
            heads = 1 + int(3 * rand())
            printf "--layers %d --heads %d --channels %d --seq %d --batch %d", \
                1 + int(3 * rand()), heads, heads * 8 * (1 + int(3 * rand())), \
                8 * (1 + int(5 * rand())), 1 + int(6 * rand())
            if (rand() < 0.5) printf " --arch llama"
            if (i % 2) printf " --open %s", more[1 + int(4 * rand())]
            print "|" 20 + int(80 * rand())
        }
    }'
}

# Runs the command line that it prints, with the sibling of the program; or sees the refusal's
# number refused there too.
test_what_suggest_prints_trains_within_the_budget() {
    local flags share budget fit=0 cannot=0 line least
    local train=${program%/*}/train_gpt
    [ -x "$train" ] || skip "no train_gpt beside memopt"
    cat "$self" > text.txt
    while IFS='|' read -r flags share; do
        # shellcheck disable=SC2086
        ends 0 suggest $flags --threads 1 --strategy none --json
        budget=$(($(number out bytes) * share / 100))
        # shellcheck disable=SC2086
        if "$program" suggest $flags --threads 1 --budget $budget --text text.txt --steps 2 \
            > out 2> err; then
            line=$(tail -n 1 out)
            eval "\"\$train\" ${line#train_gpt} --json" > run.json 2> run.err ||
                say "$line: $(cat run.err)"
            [ "$(number run.json plan_bytes)" = "$(number run.json peak_bytes)" ]
            [ "$(number run.json peak_bytes)" -le $budget ] || say "$line: $(cat run.json)"
            fit=$((fit + 1))
        else
            grep -q '^memopt suggest: does not fit: ' err || say "$flags: $(cat err)"
            cannot=$((cannot + 1))
            case $flags in *--open*) continue ;; esac
            least=$(sed -n 's/.*budget that works is \([0-9]*\),.*/\1/p' err)
            # shellcheck disable=SC2086
            "$train" --text text.txt $flags --threads 1 --steps 1 --budget $((least - 1)) \
                > run.out 2> run.err && say "$flags: $least is not the smallest"
            grep -q "($least bytes)" run.err || say "$flags: $least: $(cat run.err)"
        fi
    done < <(random_pairs 20)
    echo "$fit fit, $cannot do not"
    [ $fit -ge 8 ] && [ $cannot -ge 2 ]
}

test_suggest_tells_what_each_part_saves() {
    ends 0 suggest "${run[@]}" --strategy none
    grep -q '^plain ' out
    ends 0 suggest "${run[@]}" --budget 2200K
    grep -q '^gpt2: 2 layers of 64 channels' out
    grep -q -- '-[0-9.]* KiB' out
    grep -q ' of 2252800 bytes' out
    tail -n 1 out | grep -q '^train_gpt --text FILE --layers 2 .* --budget 2252800$'
    ends 0 suggest "${run[@]}" --budget 2200K --text "it's.txt"
    tail -n 1 out | grep -qF "train_gpt --text 'it'\\''s.txt' --layers 2"
    ends 0 suggest "${run[@]}" --budget 2200K --arch llama --kv-heads 1 --json
    [ "$(number out budget_bytes)" = 2252800 ]
    ! have python3 || python3 -m json.tool out > /dev/null
    grep -q '"fits":true,"in_time":true' out
}

test_suggest_starts_from_a_file_too() {
    local data line train=${program%/*}/train_gpt
    data=$(dirname "$self")/data/gpt_tiny
    [ -x "$train" ] || skip "no train_gpt beside memopt"
    ends 0 suggest --config "$data.safetensors" --heads 4 --tokens "$data.tokens.bin" --batch 3 \
        --threads 1 --steps 2 --budget 2M
    line=$(tail -n 1 out)
    case $line in *" --init $data.safetensors --heads 4 --seq "*) ;; *) say "$line" ;; esac
    eval "\"\$train\" ${line#train_gpt} --json" > run.json
    [ "$(number run.json peak_bytes)" -le 2097152 ]
    ends 0 suggest "${run[@]}" --hidden 100 --budget 1G
    grep -q '^(no command line: train_gpt has no flag for --hidden)$' out
    ends 0 suggest "${run[@]}" --untied --budget 1G --json
    grep -q '"command":null' out
}

test_suggest_changes_what_is_open_alone() {
    ends 0 suggest "${run[@]}" --budget 1G --strategy auto,optim=bf16,checkpoint=block
    tail -n 1 out | grep -q 'checkpoint=block,accum=1,optim=bf16,loss=full'
    ends 1 suggest "${run[@]}" --budget 1K --strategy auto,optim=bf16,accum=2
    grep -q 'does not fit: .* are missing; the smallest budget .*accum=2,optim=bf16' err
    ends 1 suggest "${run[@]}" --budget 1G --seconds 1e-9
    grep -q 'too slow: the fastest that fits takes' err
}

test_fit_finds_the_largest_of_what_suggest_allows() {
    local largest
    ends 0 fit --layers 2 --channels 64 --heads 2 --seq 64 --threads 1 --budget 2M --json
    largest=$(number out batch)
    ends 0 suggest "${run[@]}" --batch "$largest" --budget 2M --strategy auto,accum=1
    ends 1 suggest "${run[@]}" --batch $((largest + 1)) --budget 2M --strategy auto,accum=1
    ends 0 fit --largest seq --layers 2 --channels 64 --heads 2 --batch 2 --threads 1 \
        --budget 4M --strategy checkpoint=light
    largest=$(sed -n 's/^largest seq: \([0-9]*\),.*/\1/p' out)
    ends 0 suggest "${run[@]}" --seq "$largest" --batch 2 --budget 4M --strategy checkpoint=light
    ends 1 suggest "${run[@]}" --seq $((largest + 1)) --batch 2 --budget 4M \
        --strategy checkpoint=light
    ends 1 fit --layers 2 --channels 64 --heads 2 --seq 64 --budget 1K
    grep -q '^memopt fit: does not fit: ' err
}

test_pareto_writes_the_frontier_as_table_and_picture() {
    local strategy=auto,optim=f32,loss=full,accum=1
    ends 0 pareto "${run[@]}" --strategy $strategy --budget 3M --csv p.csv --svg p.svg
    grep -q ' on the frontier$' out
    head -n 1 p.csv | grep -q '^index,bytes,seconds,frontier,fits,name$'
    awk -F, 'NR > 1 && $4 { if (n && ($2 >= bytes || $3 <= seconds)) exit 1
        n++; bytes = $2; seconds = $3 } END { exit n < 2 }' p.csv
    awk -F, 'NR > 1 && $5 != ($2 <= 3145728) { exit 1 }' p.csv
    ! have xmllint || xmllint --noout p.svg
    grep -q 'class="budget"' p.svg
    ends 0 pareto "${run[@]}" --strategy $strategy --json --all
    [ "$(grep -o '"strategy"' out | wc -l)" = "$(number out trials)" ]
    ! have python3 || python3 -m json.tool out > /dev/null
    ends 1 pareto "${run[@]}" --strategy $strategy --budget 1K
    grep -q '^memopt pareto: does not fit: the smallest of' err
}

test_what_makes_no_sense_of_a_training_is_refused() {
    refuses 2 '--devices: training runs on one device; memopt place spreads' suggest \
        --devices 0=1G,1=1G
    refuses 2 "--batch: '0' is not a whole number from 1" suggest --batch 0
    refuses 2 "--arch: unknown 'bert'" suggest --arch bert
    refuses 2 '--kv-heads: needs --arch llama' fit --kv-heads 2 --budget 1G
    refuses 2 'model: heads of 5 do not divide channels of 384' pareto --heads 5
    refuses 2 "--open: 'all' is none of release, act" suggest --open act,all
    refuses 2 'give either --text or --tokens' suggest --text a --tokens b
    refuses 2 'give either --seconds or --tokens-per-s' suggest --seconds 1 --tokens-per-s 1
    refuses 2 '--budget missing' fit
    refuses 2 "--largest: 'layers' is neither batch nor seq" fit --budget 1G --largest layers
    refuses 2 '--batch: it is what is looked for' fit --budget 1G --batch 2
    refuses 2 '1 files, not 0' pareto x
}

# ------------------------------------------------------------------------------------------------

run_facts
