#!/usr/bin/env bash
# cli_memopt_files.sh PROGRAM - what memopt promises for files of tensors, one function per fact.
#
# As cli_memopt.sh. Needs bash, awk, cmp, od, truncate; python3 and sha256sum where present.
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/cli.sh"
gpt=$(dirname "$self")/data/gpt_tiny.safetensors # 28 tensors, 112768 bytes, F32

# ---- helpers -----------------------------------------------------------------------------------

# model FILE HEADER DATA - a safetensors file; DATA as for printf.
model() {
    local n=${#2}
    printf "$(printf '\\x%02x\\x%02x' $((n & 255)) $((n >> 8)))\0\0\0\0\0\0" > "$1"
    printf '%s' "$2" >> "$1"
    printf "$3" >> "$1"
}

# tensor FILE NAME DTYPE SHAPE BYTES DATA - with one tensor in it.
tensor() {
    model "$1" "{\"$2\":{\"dtype\":\"$3\",\"shape\":[$4],\"data_offsets\":[0,$5]}}" "$6"
}

# zeros FILE ROWS COLUMNS - a matrix of zeros that takes no space on the disk.
zeros() {
    tensor "$1" x.weight F32 "$2,$3" $(($2 * $3 * 4)) ''
    truncate -s +$(($2 * $3 * 4)) "$1"
}

# floats FILE NAME... - two floats in a tensor of each name, 1.0 and 2.0.
floats() {
    local file=$1 name header= at=0 data=
    shift
    for name in "$@"; do
        header="$header,\"$name\":{\"dtype\":\"F32\",\"shape\":[2],"
        header="$header\"data_offsets\":[$at,$((at + 8))]}"
        data="$data\\0\\0\\x80\\x3f\\0\\0\\0\\x40"
        at=$((at + 8))
    done
    model "$file" "{${header#,}}" "$data"
}

names() { "$program" inspect "$1" | awk '/^name/ { on = 1; next } !NF { on = 0 } on { print $1 }'; }
shape() { "$program" inspect "$1" | awk -v name="$2" '$1 == name { print $2 $4 }'; }
field() { grep -o "\"$2\":[0-9.e+-]*" "$1" | head -n 1 | cut -d: -f2; }
last_bytes() { tail -c "$2" "$1" | od -An -v -tx1 | tr -d ' \n'; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 < b + 0) }'; }

# is_json FILE - one line of JSON.
is_json() {
    [ "$(wc -l < "$1")" = 1 ]
    ! have python3 || python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$1"
}

# Every command on a file of tensors, with what it needs behind IN.
on_files='inspect IN
verify IN
convert IN out.safetensors
quantize IN out.safetensors --to nf4
diff IN IN
merge-lora IN IN out.safetensors --alpha 1
split IN folder.out
place IN --max-memory cpu'

# ---- all commands ------------------------------------------------------------------------------

test_inputs_that_cannot_be_read_are_named() {
    local line
    mkdir folder
    tensor short.safetensors x F32 2 8 '\0\0\0\0'
    while read -r line; do
        case $line in verify*) continue ;; esac
        # shellcheck disable=SC2086
        refuses 2 'nothing: No such file or directory' ${line//IN/nothing}
        # shellcheck disable=SC2086
        refuses 2 'Not a regular file' ${line//IN/\/dev\/null}
        # shellcheck disable=SC2086
        refuses 2 'short.safetensors: ' ${line//IN/short.safetensors}
        [ ! -e out.safetensors ]
    done <<< "$on_files"
    refuses 2 'folder: neither model.safetensors.index.json nor model.safetensors in it' \
        inspect folder
}

test_wrong_flags_are_named() {
    local word
    refuses 2 'file missing' inspect
    refuses 2 'file missing' convert a
    refuses 2 'the name of a file is empty' convert "$gpt" ''
    refuses 2 'file missing' merge-lora a b
    refuses 2 '3 files, not 2' diff a b c
    refuses 2 '--only: value missing' inspect a --only
    refuses 2 "--dtype: 'int4' is not f32" convert a b --dtype int4
    refuses 2 '--keep goes with --dtype' convert a b --keep x
    for word in a =b s/a s//b/ s/a/b/x 's/(/b/'; do
        refuses 2 "--rename: '$word'" convert "$gpt" b --rename "$word"
    done
    refuses 2 "--metadata: 'x' is not KEY=VALUE" convert "$gpt" b --metadata x
    refuses 2 '--to missing' quantize a b
    refuses 2 "--to: 'int4' is not" quantize a b --to int4
    refuses 2 '--block: 48 is not a power of two from 32 to 4096' quantize a b --to nf4 --block 48
    refuses 2 '--block: 32 is not a power of two from 64 to 4096' quantize a b --to q8 --block 32
    refuses 2 '--block: int8 has a scale for each row' quantize a b --to int8 --block 64
    refuses 2 '--nested goes with nf4 and fp4' quantize a b --to int8 --nested
    refuses 2 "--tolerance: '-1' is not a number of 0 or more" diff a b --tolerance=-1
    refuses 2 "--alpha: '0' is not a number above 0" merge-lora a b c --alpha 0
}

test_outputs_that_cannot_be_written_are_named() {
    mkdir folder
    for command in convert 'quantize --to nf4'; do
        # shellcheck disable=SC2086
        refuses 1 'nowhere/x' $command "$gpt" nowhere/x
        # shellcheck disable=SC2086
        refuses 1 'folder' $command "$gpt" folder
    done
    refuses 1 'nowhere/x.bin: No such file' convert "$gpt" nowhere/x.bin --metadata n_head=4
    [ -z "$(ls folder)" ]
}

test_full_disk_leaves_the_old_file() {
    local rc command
    mkdir d
    for command in convert 'quantize --to q8' 'convert --metadata n_head=4'; do
        local out=d/out.safetensors
        case $command in *n_head*) out=d/out.bin ;; esac
        echo old > $out
        rc=0
        # shellcheck disable=SC2086
        limited 8 "$program" $command "$gpt" $out || rc=$?
        [ $rc = 1 ] || { cat limited.err; say "$command: exit status $rc"; }
        grep -q 'File too large' limited.err || { cat limited.err; return 1; }
        [ "$(wc -l < limited.err)" = 1 ]
        [ "$(cat $out)" = old ]
        [ "$(ls d)" = "$(basename $out)" ] || say "left behind: $(ls d)"
        rm $out
    done
}

test_a_full_standard_output_is_an_error() {
    [ -e /dev/full ] || skip "no /dev/full"
    local line rc
    while read -r line; do
        case $line in merge*) continue ;; esac
        rc=0
        # shellcheck disable=SC2086
        "$program" ${line//IN/$gpt} > /dev/full 2> err || rc=$?
        [ $rc = 1 ] && grep -q 'No space left on device' err || { cat err; say "$rc: $line"; }
    done <<< "$on_files"
}

test_a_signal_leaves_nothing_behind() {
    local pid rc=0 i
    zeros in.safetensors 16384 16384
    mkdir d
    "$program" convert in.safetensors d/out.safetensors --dtype f16 2> err &
    pid=$!
    for i in $(seq 200); do
        [ -z "$(ls d)" ] || break
        sleep 0.02
    done
    kill -TERM $pid
    wait $pid || rc=$?
    [ $rc = 1 ] || { cat err; say "exit status $rc"; }
    grep -q 'interrupted, nothing is written' err
    [ -z "$(ls d)" ] || say "left behind: $(ls d)"
}

test_memory_is_a_piece_and_not_the_file() {
    local line
    zeros in.safetensors 4096 8192 # 128 MiB
    zeros tall 33554432 1
    export OMP_NUM_THREADS=1
    (ulimit -v 110000; "$program" --version > /dev/null) || skip "does not run in 110 MB"
    for line in 'verify IN' 'diff IN in2.safetensors' 'convert IN out --dtype f8_e4m3' \
        'convert IN out --transpose x.weight --dtype f8_e4m3' 'quantize IN out --to nf4' \
        'quantize IN out --to fp4 --nested' 'convert tall out --transpose x.weight'; do
        [ -e in2.safetensors ] || cp --sparse=always in.safetensors in2.safetensors
        # shellcheck disable=SC2086
        (ulimit -v 110000; "$program" ${line//IN/in.safetensors} > out.txt) || say "$line"
    done
}

test_names_are_printed_without_control_characters() {
    tensor odd.safetensors 'a\u001bb\nc' F32 1 4 '\0\0\xc0\x7f'
    for command in inspect verify; do
        ends 0 $command odd.safetensors
        grep -q 'a?b?c' out
        ! grep -q "$(printf '\033')" out
        ends 0 $command odd.safetensors --json
        is_json out
        grep -q '"name":"a\\u001bb\\u000ac"' out
    done
    refuses 2 'a?b?c' quantize odd.safetensors x --to nf4 --only '*'
}

# ---- inspect -----------------------------------------------------------------------------------

test_inspect_shows_names_types_shapes_bytes_and_totals() {
    model a.safetensors '{"__metadata__":{"who":"me"},"x":{"dtype":"F16","shape":[2,3],'\
'"data_offsets":[0,12]},"s":{"dtype":"I64","shape":[],"data_offsets":[12,20]},"e":{"dtype":"F16",'\
'"shape":[0,4],'\
'"data_offsets":[12,12]}}' '12345678901234567890'
    ends 0 inspect a.safetensors
    grep -q '^a.safetensors: safetensors, 3 tensors, 20 B$' out
    grep -q '^  who = me$' out
    grep -qE '^x +F16 +12  \[2,3\]$' out
    grep -qE '^s +I64 +8  \[\]$' out
    grep -qE '^e +F16 +0  \[0,4\]$' out
    grep -qE '^F16 +2 tensors +6 elements +12 bytes' out
    grep -qE '^I64 +1 tensor +1 elements +8 bytes' out
    ends 0 inspect a.safetensors "$gpt" --json --only '[xs]'
    is_json out
    grep -q '"metadata":{"who":"me"}' out
    grep -q '{"name":"x","dtype":"F16","shape":\[2,3\],"bytes":12}' out
    ! grep -q '"name":"e"' out
    grep -q '"totals":\[{"dtype":"F16","tensors":1,"elements":6,"bytes":12}' out
}

test_inspect_reads_the_header_only() {
    zeros big.safetensors 65536 65536 # 16 GiB that are not there
    ends 0 inspect big.safetensors
    grep -q '16.0 GiB' out
}

# ---- verify ------------------------------------------------------------------------------------

test_verify_counts_what_is_not_finite() {
    tensor f32.safetensors x F32 4 16 '\0\0\x80\x7f\0\0\x80\xff\x01\0\x80\x7f\xff\xff\x7f\x7f'
    tensor f16.safetensors x F16 4 8 '\0\x7c\0\xfc\x01\x7c\xff\x7b'
    tensor bf16.safetensors x BF16 4 8 '\x80\x7f\x80\xff\xc0\x7f\x7f\x7f'
    tensor f64.safetensors x F64 4 32 \
        '\0\0\0\0\0\0\xf0\x7f\0\0\0\0\0\0\xf0\xff\x01\0\0\0\0\0\xf0\x7f\0\0\0\0\0\0\xef\x7f'
    tensor c64.safetensors x C64 2 16 '\0\0\x80\x7f\0\0\x80\xff\x01\0\x80\x7f\xff\xff\x7f\x7f'
    tensor f8.safetensors x F8_E5M2 4 4 '\x7c\xfc\x7d\x7b'
    ends 0 verify ./*.safetensors
    [ "$(grep -c ': ok: .*, 1 NaN, 2 Inf$' out)" = 6 ]
    [ "$(grep -cE '^  x +1 NaN, 2 Inf of [24]$' out)" = 6 ]
    tensor e4m3.safetensors x F8_E4M3 4 4 '\x7f\xff\x7e\x78'
    tensor i32.safetensors x I32 1 4 '\0\0\x80\x7f'
    ends 0 verify e4m3.safetensors i32.safetensors --json
    is_json out
    grep -q '"nan":2,"inf":0,"not_finite":\[{"name":"x","nan":2,"inf":0}\]' out
    grep -q '"nan":0,"inf":0,"not_finite":\[\]' out
    ends 1 verify f16.safetensors --finite
    grep -q 'f16.safetensors: BROKEN' out
    ends 0 verify "$gpt" --finite
}

test_verify_tells_which_files_are_broken_and_why() {
    cp "$gpt" good.safetensors
    cp "$gpt" long.safetensors
    echo >> long.safetensors
    head -c 100000 "$gpt" > short.safetensors
    tensor overlap.safetensors x F32 2 4 '1234'
    : > empty.safetensors
    ends 1 verify ./*.safetensors nothing.safetensors
    [ "$(grep -c ': ok: ' out)" = 1 ]
    for name in long short overlap empty; do grep -q "^./$name.safetensors: BROKEN: " out; done
    grep -q '^nothing.safetensors: BROKEN: No such file or directory$' out
    [ ! -s err ]
    ends 1 verify ./*.safetensors --json
    is_json out
    grep -q '"broken":4}' out
}

test_verify_hashes_as_sha256sum() {
    have sha256sum || skip "no sha256sum"
    local n
    ends 0 verify "$gpt" --sha256
    grep -q "^  sha256 $(sha256sum < "$gpt" | cut -d' ' -f1)$" out
    for n in $(seq 0 9 130); do # the last block, of every kind
        tensor "$n.safetensors" x U8 "$n" "$n" "$(printf "%${n}s")"
        ends 0 verify "$n.safetensors" --sha256 --json
        grep -q "\"sha256\":\"$(sha256sum < "$n.safetensors" | cut -d' ' -f1)\"" out
    done
}

# ---- convert -----------------------------------------------------------------------------------

test_convert_changes_types_to_nearest() {
    # 1, 1 + 2^-8, 65520, -3.4e38
    tensor a.safetensors x F32 4 16 '\0\0\x80\x3f\0\x80\x80\x3f\0\xf0\x7f\x47\x99\xc8\x7f\xff'
    ends 0 convert a.safetensors b --dtype bf16
    [ "$(last_bytes b 8)" = 803f803f804780ff ]
    grep -q '^b: safetensors, 1 of 1 tensors, 8 B, was 16 B; 1 with another type, 0 transposed$' out
    grep -q '^1 numbers are too large for the new type' out
    ends 0 convert a.safetensors b --dtype f16 --json
    [ "$(last_bytes b 8)" = 003c043c007c00fc ]
    is_json out
    [ "$(field out overflowed)" = 2 ]
    ends 0 convert a.safetensors b --dtype f16 --saturate
    [ "$(last_bytes b 8)" = 003c043cff7bfffb ]
    ends 0 convert b c --dtype f64
    [ "$(last_bytes c 16)" = 0000000000fcef400000000000fcefc0 ]
    ends 0 convert c d --dtype f16
    [ "$(last_bytes d 8)" = 003c043cff7bfffb ]
    tensor i.safetensors x I32 1 4 '\1\2\3\4'
    ends 0 convert i.safetensors j --dtype f16
    [ "$(last_bytes j 4)" = 01020304 ] && [ "$(shape j x)" = 'I32[1]' ]
}

test_convert_takes_patterns() {
    floats a.safetensors h.0.w h.0.norm.w e.w
    ends 0 convert a.safetensors b --dtype f16 --only 'h.*' --keep '*norm*'
    [ "$(shape b h.0.w) $(shape b h.0.norm.w) $(shape b e.w)" = 'F16[2] F32[2] F32[2]' ]
    # sorted by the size of the elements
    [ "$(names b | tail -n 1)" = h.0.w ]
    ends 0 convert a.safetensors b --drop 'h.0.?' --drop e.w
    [ "$(names b)" = h.0.norm.w ]
    ends 0 convert a.safetensors b --drop '*'
    [ -z "$(names b)" ]
}

test_convert_renames() {
    floats a.safetensors model.h.0.w model.h.1.w e.model.w
    ends 0 convert a.safetensors b --rename model.=
    [ "$(names b | tr '\n' ' ')" = 'h.0.w h.1.w e.model.w ' ]
    ends 0 convert a.safetensors b --rename 's/\.h\.([0-9]+)\./.layers.\1.x&/'
    [ "$(names b | head -n 1)" = model.layers.0.x.h.0.w ]
    ends 0 convert a.safetensors b --rename 's/[ew]/_/g' --rename e=f --rename mod_l=m
    [ "$(names b | tr '\n' ' ')" = 'm.h.0._ m.h.1._ _.mod_l._ ' ]
    refuses 2 'h.w' convert a.safetensors b2 --rename 's/\.[01]//' --rename model.=
    [ ! -e b2 ]
}

test_convert_transposes() {
    tensor a.safetensors x U8 2,3 6 123456
    ends 0 convert a.safetensors b --transpose x
    [ "$(tail -c 6 b)" = 142536 ] && [ "$(shape b x)" = 'U8[3,2]' ]
    ends 0 convert b c --transpose '*'
    ends 0 diff a.safetensors c
    ends 0 convert "$gpt" b --transpose 'h.*.c_*.weight' --dtype bf16
    ends 0 convert b c --transpose 'h.*.c_*.weight' --dtype f32
    ends 1 diff "$gpt" b
    ends 0 diff "$gpt" c --tolerance 0.004
    # a column of it is more than what is held at a time
    tensor tall x U8 17000000,2 34000000 ''
    yes "$gpt" | head -n 305 | xargs cat | head -c 34000000 >> tall
    ends 0 convert tall b --transpose x
    [ "$(tail -c 34000000 b | head -c 16 | od -An -tx1)" = \
        "$(tail -c 34000000 tall | head -c 32 | od -An -v -tx1 -w2 | cut -c2-3 | tr '\n' ' ' |
            sed 's/^/ /; s/ $//')" ]
    ends 0 convert b c --transpose x
    cmp tall c || cmp <(tail -c 34000000 tall) <(tail -c 34000000 c)
    refuses 2 "'ln_f.bias' has 1 dimension, not 2" convert "$gpt" d --transpose 'ln_f.*as'
}

test_convert_keeps_metadata_and_adds_to_it() {
    local pair
    model a.safetensors '{"__metadata__":{"a":"1","b":"2"},"x":{"dtype":"U8","shape":[1],'\
'"data_offsets":[0,1]}}' x
    ends 0 convert a.safetensors b --metadata b=3=4 --metadata c=
    ends 0 inspect b --json
    for pair in '"a":"1"' '"b":"3=4"' '"c":""' '"format":"pt"'; do grep -qF "$pair" out; done
    ! grep -qF '"b":"2"' out
}

test_convert_may_write_over_its_input() {
    cp "$gpt" a.safetensors
    ends 0 convert a.safetensors a.safetensors --dtype f16
    ends 0 verify a.safetensors
    ends 0 diff "$gpt" a.safetensors --tolerance 0.001
    [ "$(ls ./*safetensors*)" = ./a.safetensors ]
}

test_convert_writes_and_reads_checkpoints_of_llm_c() {
    ends 0 convert "$gpt" a.bin --metadata n_head=4
    # positions, vocabulary, layers, heads, channels, padded vocabulary
    [ "$(od -An -tu4 -N32 a.bin | tr -s ' \n' ' ')" = ' 20240326 3 24 61 2 4 32 128 ' ]
    [ "$(stat -c %s a.bin)" = $((1024 + 112768 + (128 - 61) * 32 * 4)) ]
    ends 0 convert a.bin b.safetensors
    ends 0 diff "$gpt" b.safetensors
    grep -q '^28 equal, 0 different, 0 missing, 0 extra' out
    [ "$(shape a.bin h.0.attn.c_attn.weight)" = 'F32[96,32]' ]
    [ "$(shape b.safetensors h.0.attn.c_attn.weight)" = 'F32[32,96]' ]
    ends 0 convert a.bin c.bin --dtype bf16
    [ "$(od -An -tu4 -N8 c.bin | tr -s ' \n' ' ')" = ' 20240326 5 ' ]
    ends 0 diff a.bin c.bin --tolerance 0.004
    ends 0 verify a.bin
    grep -q '^a.bin: ok: llm.c, 28 tensors, 110.1 KiB, 0 NaN, 0 Inf$' out
    refuses 2 'unknown heads for 32 channels' convert "$gpt" d.bin
    refuses 2 '5 heads for 32 channels' convert "$gpt" d.bin --metadata n_head=5
    refuses 2 'llm.c has F32 and BF16, not F16' convert a.bin d.bin --dtype f16
    refuses 2 'llm.c has one type' convert a.bin d.bin --dtype bf16 --only 'ln_f.*'
    refuses 2 "27 tensors are not those of GPT-2" convert a.bin d.bin --drop ln_f.bias
    refuses 2 "llm.c has no tensor 'x." convert a.bin d.bin --rename ln_f.=x.
    refuses 2 "where another one is missing" convert a.bin d.bin --rename h.1.=h.2.
    [ ! -e d.bin ]
}

test_broken_checkpoints_of_llm_c_are_named() {
    ends 0 convert "$gpt" a.bin --metadata n_head=4
    head -c 5000 a.bin > short.bin
    refuses 2 'short.bin: llm.c: 5000 bytes, not the' inspect short.bin
    head -c 100 a.bin > head.bin
    refuses 2 'head.bin: llm.c: shorter than a header' inspect head.bin
    { head -c 4 a.bin; printf '\4'; tail -c +6 a.bin; } > version.bin
    refuses 2 'version.bin: llm.c: version 4, not 3 (fp32) or 5 (bf16)' inspect version.bin
    { head -c 12 a.bin; printf '\377'; tail -c +14 a.bin; } > vocabulary.bin
    refuses 2 'padded vocabulary: 128, less than 255' inspect vocabulary.bin
    { head -c 16 a.bin; printf '\0'; tail -c +18 a.bin; } > layers.bin
    refuses 2 'layers.bin: llm.c: layers: 0' inspect layers.bin
}

test_convert_goes_to_gguf_and_back() {
    ends 0 convert "$gpt" a.gguf --metadata general.architecture=gpt2 --metadata n:u32=7 \
        --metadata x:f32=-1.5 --metadata b:bool=true --metadata i:i8=-128
    [ "$(head -c 4 a.gguf)" = GGUF ]
    [ "$(shape a.gguf h.0.attn.c_attn.weight)" = 'F32[32,96]' ]
    ends 0 inspect a.gguf
    [ "$(sed -n '2,6p' out | tr -d '\n')" = \
        '  general.architecture = gpt2  n = 7  x = -1.5  b = true  i = -128' ]
    ends 0 convert a.gguf b.safetensors
    ends 0 diff "$gpt" b.safetensors
    ends 0 diff a.gguf b.safetensors --tolerance 0
    ends 0 convert a.gguf c.gguf
    cmp a.gguf c.gguf # numbers stay numbers
    refuses 2 "metadata 'n' is '-1', no u32" convert "$gpt" d.gguf --metadata n:u32=-1
    refuses 2 "metadata 'b' is '1', no bool" convert "$gpt" d.gguf --metadata b:bool=1
    tensor u x U8 1 1 x
    refuses 2 "'x' is U8, which GGUF does not have" convert u d.gguf
    tensor five x I8 1,1,1,1,1 1 x
    refuses 2 "'x' has 5 dimensions, GGUF at most 4" convert five d.gguf
    [ ! -e d.gguf ]
    head -c 100000 a.gguf > short.gguf
    ends 1 verify a.gguf short.gguf
    grep -q '^a.gguf: ok: GGUF, 28 tensors' out
    grep -q '^short.gguf: BROKEN: ' out
}

test_blocks_of_gguf_are_within_their_bounds() {
    ends 0 convert "$gpt" q8.gguf --dtype q8_0
    ends 0 convert "$gpt" q4.gguf --dtype q4_0 --keep 'w?e.*'
    [ "$(shape q8.gguf wte.weight) $(shape q8.gguf ln_f.bias)" = 'Q8_0[61,32] F32[32]' ]
    [ "$(shape q4.gguf wte.weight)" = 'F32[61,32]' ]
    [ "$(shape q4.gguf h.0.mlp.c_fc.weight)" = 'Q4_0[32,128]' ]
    # half a step of 1/127 and of 1/8 of the largest number, which is below 0.25
    ends 0 diff "$gpt" q8.gguf --tolerance 0.001
    ends 0 diff "$gpt" q4.gguf --tolerance 0.03
    ends 1 diff "$gpt" q4.gguf --tolerance 0.001
    ends 0 convert q4.gguf d.safetensors --dtype f32
    ends 0 diff q4.gguf d.safetensors --tolerance 0
    ends 0 verify q4.gguf q8.gguf --finite
    ends 0 diff q4.gguf q4.gguf
    refuses 2 "'wte.weight' is Q8_0, which safetensors does not have" convert q8.gguf e.safetensors
    refuses 2 "'wte.weight' is Q8_0" convert q8.gguf e.gguf --transpose wte.weight
    zeros odd 2 33
    refuses 2 "'x.weight' has rows of 33, Q8_0 has blocks of 32" convert odd e.gguf --dtype q8_0
    [ ! -e e.gguf ]
    tensor inf x F32 1,32 128 "\\0\\0\\x80\\x7f$(printf '\\0%.0s' $(seq 124))"
    ends 0 convert inf inf.gguf --dtype q8_0
    ends 1 verify inf.gguf --finite
    grep -q ', 32 NaN, 0 Inf' out
}

# ---- quantize ----------------------------------------------------------------------------------

test_quantize_names_are_those_of_bitsandbytes() {
    ends 0 convert "$gpt" a --drop 'h.1.*'
    ends 0 quantize a b --to nf4 --nested --only h.0.mlp.c_fc.weight
    [ "$(names b | grep c_fc.w | sort | tr '\n' ' ')" = \
        "$(printf 'h.0.mlp.c_fc.weight%s ' '' .absmax .nested_absmax .nested_quant_map \
            .quant_map .quant_state.bitsandbytes__nf4)" ]
    [ "$(shape b h.0.mlp.c_fc.weight)" = 'U8[2048,1]' ]
    [ "$(shape b h.0.mlp.c_fc.weight.absmax)" = 'U8[64]' ]
    [ "$(shape b h.0.mlp.c_fc.weight.nested_absmax)" = 'F32[1]' ]
    grep -a -o '{"quant_type": .*}' b > state
    grep -q '"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": \[32,128\]' state
    grep -qF '"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": ' state
    grep -qE '"nested_offset": *0\.[0-9]{9,}}$' state
    ends 0 quantize a b --to fp4 --block 128 --only h.0.mlp.c_fc.weight
    [ "$(shape b h.0.mlp.c_fc.weight.absmax)" = 'F32[32]' ]
    grep -qa '"quant_type": "fp4", "blocksize": 128' b
    ends 0 quantize a b --to int8 --only h.0.mlp.c_fc.weight
    [ "$(names b | grep c_fc.[^b] | sort | tr '\n' ' ')" = \
        'h.0.mlp.c_fc.SCB h.0.mlp.c_fc.weight h.0.mlp.c_fc.weight_format ' ]
    [ "$(shape b h.0.mlp.c_fc.SCB)" = 'F32[32]' ]
    [ "$(shape b h.0.mlp.c_fc.weight_format)" = 'U8[]' ]
    ends 0 quantize a b --to q8 --only h.0.mlp.c_fc.weight
    [ "$(shape b h.0.mlp.c_fc.weight.absmax)" = 'F32[16]' ]
    ends 0 verify b --finite
}

test_quantize_codes_follow_the_formula() {
    local n
    # NF4 of 1, -1, 0, 0.5: codes 15, 0, 7, 12; the scale is 1
    tensor a x F32 1,4 16 '\0\0\x80\x3f\0\0\x80\xbf\0\0\0\0\0\0\0\x3f'
    ends 0 quantize a b --to nf4 --only x
    n=$(shape b x.quant_state.bitsandbytes__nf4 | sed 's/.*\[\(.*\)\]/\1/')
    [ "$(tail -c $((n + 2)) b | head -c 2 | od -An -tx1)" = ' f0 7c' ] # in front of the state
    # rows of 2, -1 and 0, 0.25: codes 127, -64 and 0, 127; scales 2 and 0.25
    tensor a x.weight F32 2,2 16 '\0\0\0\x40\0\0\x80\xbf\0\0\0\0\0\0\x80\x3e'
    ends 0 quantize a b --to int8
    [ "$(last_bytes b 13)" = 000000400000803e7fc0007f00 ]
    grep -qE '^x.weight +13 +16 +0.007874' out
}

test_quantize_chooses_matrices_of_layers() {
    floats a.safetensors y
    ends 0 quantize "$gpt" b --to q8
    [ "$(names b | grep -c quant_map)" = 8 ]
    ! names b | grep -q 'w[tp]e.*quant_map\|ln_.*quant_map'
    ends 0 quantize "$gpt" b --to q8 --skip '*.mlp.*'
    [ "$(names b | grep -c quant_map)" = 4 ]
    ends 0 quantize "$gpt" b --to q8 --only '*te.weight' --only 'ln_f.*' --skip '*.bias'
    [ "$(names b | grep quant_map | tr '\n' ' ')" = 'wte.weight.quant_map ln_f.weight.quant_map ' ]
    ends 0 diff "$gpt" b --only wpe.weight --only 'h.*' # copied
    refuses 2 'no tensor is to be quantized' quantize a.safetensors b --to nf4
    refuses 2 "'y' has 1 dimension: int8 is for matrices" quantize a.safetensors b --to int8 \
        --only y
}

test_quantize_errors_are_within_the_bounds_of_the_codes() {
    local bits
    ends 0 quantize "$gpt" b --to int8 --json
    is_json out
    # half a step of 1/127 of the largest number of a row, which is below 0.5
    below "$(field out max_abs)" 0.00197
    ends 0 quantize "$gpt" b --to q8 --json
    below "$(field out relative_rms)" 0.02
    ends 0 quantize "$gpt" b --to nf4 --json
    below "$(field out relative_rms)" 0.11
    ends 0 quantize "$gpt" b --to nf4 --nested --json
    below "$(field out relative_rms)" 0.11
    [ "$(field out bytes_before)" -gt "$(field out bytes)" ]
    zeros z.safetensors 512 1024
    ends 0 quantize z.safetensors b --to nf4 --nested
    bits=$(sed -n 's/.*; \([0-9.]*\) bits a number.*/\1/p' out)
    below "$bits" 4.15 || say "$bits" # 4 + 8/64 + 32/16384, and 1.4 KiB of tables
}

test_quantize_refuses_what_is_not_finite() {
    tensor a x.weight F32 1,2 8 '\0\0\x80\x7f\0\0\0\0'
    for method in nf4 q8 int8; do
        refuses 2 "a: 'x.weight' holds NaN or infinity" quantize a b --to $method
        [ ! -e b ]
    done
}

# ---- diff --------------------------------------------------------------------------------------

test_diff_tells_how_much_tensors_differ() {
    tensor a x F32 2 8 '\0\0\x80\x3f\0\0\0\x40' # 1, 2
    tensor b x F32 2 8 '\0\0\x80\x3f\0\0\x20\x40' # 1, 2.5
    ends 0 diff a a
    grep -q '^1 equal, 0 different, 0 missing, 0 extra$' out
    ends 1 diff a b
    grep -qE '^x +max abs 0.5, max rel 0.2, rms 0.353553, 1 of 2 differ$' out
    ends 0 diff a b --tolerance 0.5
    ends 1 diff a b --tolerance 0.499
    ends 1 diff a b --tolerance 0
    ends 0 diff a a --tolerance 0 --all
    grep -q '^x .*max abs 0,' out
    ends 1 diff a b --json
    is_json out
    grep -q '"equal":false,"difference":"values"' out
    [ "$(field out max_abs) $(field out max_rel) $(field out rms)" = '0.5 0.2 0.353553391' ]
}

test_diff_finds_missing_extra_shape_and_type() {
    floats a x y z
    floats b x w z
    ends 1 diff a b
    grep -qE '^y +missing in b$' out
    grep -qE '^w +only in b$' out
    grep -q '^2 equal, 0 different, 1 missing, 1 extra$' out
    ends 0 diff a b --only '[xz]'
    tensor a x U8 2,3 6 123456
    tensor b x U8 3,2 6 123456
    tensor c x I8 2,3 6 123456
    ends 1 diff a b
    grep -qE '^x +shape: U8 \[2,3\] and U8 \[3,2\]$' out
    ends 1 diff a b --tolerance 1
    ends 1 diff a c
    grep -qE '^x +dtype: U8 \[2,3\] and I8 \[2,3\]' out
    ends 0 diff a c --tolerance 0
    ends 1 diff a b --json
    is_json out
    grep -q '"difference":"shape","a":{"dtype":"U8","shape":\[2,3\]},"b":{' out
}

test_diff_knows_nan_infinity_and_large_integers() {
    tensor nan x F32 1 4 '\0\0\xc0\x7f'
    tensor nan2 x F32 1 4 '\1\0\xc0\xff'
    tensor inf x F32 1 4 '\0\0\x80\x7f'
    tensor one x F32 1 4 '\0\0\x80\x3f'
    ends 0 diff nan nan2
    ends 1 diff nan one --tolerance 1e30
    ends 1 diff inf one --tolerance 1e30
    ends 0 diff inf inf --tolerance 0
    ends 1 diff inf nan
    ends 1 diff inf one --json
    is_json out
    grep -q '"max_abs":null' out
    # 2^62 and 2^62 + 1, which are the same double
    tensor big x I64 1 8 '\0\0\0\0\0\0\0\x40'
    tensor big2 x I64 1 8 '\1\0\0\0\0\0\0\x40'
    ends 1 diff big big2
    grep -q 'max abs 1,' out
    ends 0 diff big big2 --tolerance 1
    tensor f4 x F4 4 2 ab
    tensor f4b x F4 4 2 ac
    ends 0 diff f4 f4
    ends 1 diff f4 f4b
}

# ---- merge-lora --------------------------------------------------------------------------------

# adapter FILE PREFIX - A = [1, 2], B = [3; 4] of rank 1, for x.
adapter() {
    model "$1" "{\"$2.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},\
\"$2.lora_B.weight\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]}}" \
        '\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40'
}

test_merge_lora_adds_the_product() {
    tensor base x.weight F32 2,2 16 '\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f' # ones
    adapter lora base_model.model.x
    # W + 2 [3 6; 4 8] = [7 13; 9 17]
    ends 0 merge-lora base lora out.safetensors --alpha 2
    [ "$(last_bytes out.safetensors 16)" = 0000e040000050410000104100008841 ]
    grep -q '^out.safetensors: 1 of 1 tensors with their adapters, alpha 2$' out
    # its transpose: [7 9; 13 17]
    ends 0 merge-lora base lora out.safetensors --alpha 2 --fan-in-fan-out --json
    [ "$(last_bytes out.safetensors 16)" = 0000e040000010410000504100008841 ]
    is_json out
    grep -q '"merged":\[{"name":"x.weight","rank":1,"scale":2}\]' out
    # in the type of the base
    ends 0 convert base half --dtype bf16
    ends 0 merge-lora half lora half --alpha 2
    [ "$(last_bytes half 8)" = e040504110418841 ]
    # a prefix that the base does not have
    adapter lora base_model.model.transformer.x
    ends 0 merge-lora base lora out.safetensors --alpha 2
    [ "$(last_bytes out.safetensors 16)" = 0000e040000050410000104100008841 ]
}

test_merge_lora_passes_over_what_a_checkpoint_has_beside_adapters() {
    tensor base x.weight F32 2,2 16 '\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f' # ones
    model lora "{\"x.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},\
\"x.lora_B.weight\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]},\
\"optimizer.x.lora_A.weight.m\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]},\
\"memopt.checksum\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[20,24]}}" \
        '\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\0\0\0\0\0\0'
    ends 0 merge-lora base lora out.safetensors --alpha 2
    [ "$(last_bytes out.safetensors 16)" = 0000e040000050410000104100008841 ]
}

test_merge_lora_reads_the_folder_of_peft() {
    mkdir a
    tensor base x.weight F32 2,2 16 '\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f'
    adapter a/adapter_model.safetensors base_model.model.x
    refuses 2 '--alpha missing, and there is no a/adapter_config.json' merge-lora base a out
    echo '{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "fan_in_fan_out": true, "use_rslora": true,
        "target_modules": ["x", "\u0078\"y"], "alpha_pattern": {}, "bias": null}' \
        > a/adapter_config.json
    ends 0 merge-lora base a o
    [ "$(last_bytes o 16)" = 0000e040000010410000504100008841 ]
    grep -q 'alpha 2, rslora, fan_in_fan_out$' out
    ends 0 merge-lora base a/adapter_model.safetensors o2
    cmp o o2
    echo '{"lora_alpha": "2"}' > a/adapter_config.json
    refuses 2 'a/adapter_config.json: lora_alpha is no number' merge-lora base a o
    echo '{"lora_alpha": 2, "use_dora": true}' > a/adapter_config.json
    refuses 2 'DoRA is not supported' merge-lora base a o
    echo '{"lora_alpha": 2, "alpha_pattern": {"x": 3}}' > a/adapter_config.json
    refuses 2 'alpha_pattern' merge-lora base a o
    echo '{"peft_type": "IA3", "lora_alpha": 2}' > a/adapter_config.json
    refuses 2 "peft_type is 'IA3'" merge-lora base a o
    for text in '' '{' '{"a":1,}' '[1 2]' '{"a":tru}' '{"a":"x}' '{} x' '{"a":01x}' '{a:1}'; do
        echo "$text" > a/adapter_config.json
        refuses 2 'a/adapter_config.json: not JSON' merge-lora base a o
    done
}

test_merge_lora_replaces_other_tensors_and_names_what_does_not_fit() {
    floats base x.bias
    floats lora base_model.model.x.bias
    refuses 2 'no lora_A and lora_B in it' merge-lora base lora o --alpha 1
    floats lora base_model.model.y.bias
    refuses 2 "'y.bias' is not in base" merge-lora base lora o --alpha 1
    floats lora base_model.model.x.lora_magnitude_vector.weight
    refuses 2 'is not supported' merge-lora base lora o --alpha 1
    tensor base x.weight F32 2,2 16 1234567890123456
    tensor lora x.lora_A.weight F32 1,2 8 12345678
    refuses 2 "'x.lora_A.weight' has no lora_B" merge-lora base lora o --alpha 1
    tensor base x.weight F32 2,3 24 123456789012345678901234
    adapter lora x
    refuses 2 "'x.weight' is [2,3], which does not fit" merge-lora base lora o --alpha 1
    tensor base x.weight U8 2,2 4 1234
    refuses 2 "'x.weight' is not a matrix of floats" merge-lora base lora o --alpha 1
    # an adapter with one whole tensor beside the pair
    model base '{"x.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"x.bias":{"dtype":'\
'"F16","shape":[1],"data_offsets":[16,18]}}' '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
    model lora '{"x.lora_A.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'\
'"x.lora_B.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},'\
'"x.bias":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}}' \
        '\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\x80\x3f'
    ends 0 merge-lora base lora o --alpha 1
    grep -q '1 of 2 tensors with their adapters, alpha 1; 1 replaced$' out
    [ "$(last_bytes o 18)" = 000040400000c0400000804000000041003c ]
}

# ---- shards ------------------------------------------------------------------------------------

index=model.safetensors.index.json

test_split_and_merge_are_each_others_way_back() {
    local kib
    for kib in 1K 40K 70K 1G; do
        ends 0 split "$gpt" s$kib --max-bytes $kib
        ends 0 merge s$kib back.safetensors
        cmp "$gpt" back.safetensors
    done
    [ "$(ls s1G)" = model.safetensors ]
    ls s40K | grep -qx model-00004-of-00004.safetensors
    ends 0 verify s40K/*.safetensors
    grep -q '"total_size": 112768$' s40K/$index
    grep -q '    "wte.weight": "model-00001-of-00004.safetensors"' s40K/$index
    ends 0 split s40K two --max-bytes 70K # again, otherwise
    grep -qx "model-00001-of-00002.safetensors  16 tensors, 61952 bytes (60.5 KiB)" out
    grep -qx "two/$index: safetensors, 2 shards, 28 tensors, 110.1 KiB" out
    ends 0 split "$gpt" j --max-bytes 40K --json
    is_json out
    grep -q "^{\"index\":\"j/$index\",\"tensors\":28,\"bytes\":112768,\"shards\":\[" out
    grep -q '{"file":"model-00001-of-00004.safetensors","tensors":10,"bytes":28288}' out
    ends 0 merge j/$index back.safetensors --json
    is_json out
    grep -q '"shards":4,"tensors":28,"bytes":112768}' out
    ends 0 split "$gpt" one --json
    is_json out
    grep -q '^{"file":"one/model.safetensors"' out
}

test_every_command_reads_shards() {
    local in
    ends 0 split "$gpt" s --max-bytes 40K
    for in in s s/$index; do
        ends 0 inspect $in
        grep -qx "s/$index: safetensors, 4 shards, 28 tensors, 110.1 KiB" out
        grep -qx 'model-00001-of-00004.safetensors  10 tensors, 28288 bytes (27.6 KiB)' out
        ends 0 diff "$gpt" $in
    done
    ends 0 inspect s --json --only wte.weight
    is_json out
    grep -qF '"bytes":7808,"shard":"model-00001-of-00004.safetensors"}' out
    ends 0 verify s --json --sha256
    is_json out
    [ "$(grep -o '"[a-z0-9-]*.safetensors":"[0-9a-f]\{64\}"' out | wc -l)" = 4 ]
    ends 0 convert s a.safetensors --dtype f16
    ends 0 convert "$gpt" b.safetensors --dtype f16
    cmp a.safetensors b.safetensors
    ends 0 quantize s a.safetensors --to nf4
    ends 0 quantize "$gpt" b.safetensors --to nf4
    cmp a.safetensors b.safetensors
    ends 0 place s --max-memory 0=64K,cpu --json
    mv out place.out
    ends 0 place "$gpt" --max-memory 0=64K,cpu --json
    cmp place.out out
    ends 0 convert "$gpt" a.gguf
    ends 0 place a.gguf --max-memory 0=64K,cpu --json
    cmp place.out out
    tensor base x.weight F32 2,2 16 '\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f\0\0\x80\x3f'
    adapter lora base_model.model.x
    ends 0 split base t
    ends 0 merge-lora t lora o.safetensors --alpha 2
    [ "$(last_bytes o.safetensors 16)" = 0000e040000050410000104100008841 ]
}

test_split_replaces_nothing_and_leaves_nothing_behind() {
    local rc=0
    ends 0 split "$gpt" s --max-bytes 40K
    refuses 2 'is there already' split "$gpt" s --max-bytes 40K
    rm s/$index s/model-0000[1-3]*
    refuses 2 's/model-00004-of-00004.safetensors: is there already' split "$gpt" s
    : > file
    refuses 1 'file: Not a directory' split "$gpt" file
    refuses 1 'nowhere/s: No such file or directory' split "$gpt" nowhere/s
    mkdir old
    limited 32 "$program" split "$gpt" new --max-bytes 40K || rc=$?
    [ $rc = 1 ] && grep -q 'File too large' limited.err
    [ ! -e new ] # the second shard is too large
    limited 32 "$program" split "$gpt" old --max-bytes 40K || [ $? = 1 ]
    [ -z "$(ls old)" ]
    ends 0 convert "$gpt" a.bin --metadata n_head=4
    refuses 2 "'h.0.attn.c_attn.weight' lies the other way" split a.bin new
    [ ! -e new ]
}

test_outputs_do_not_break_the_shards_that_are_read() {
    ends 0 split "$gpt" s --max-bytes 40K
    for command in convert merge 'quantize --to nf4'; do
        # shellcheck disable=SC2086
        refuses 2 "s/$index: an index is written by memopt split" $command s s/$index
        # shellcheck disable=SC2086
        refuses 2 "is a shard of s/$index" $command s s/model-00002-of-00004.safetensors
    done
    ends 0 verify s
}

test_what_is_wrong_with_shards_is_named() {
    local i=$index text
    ends 0 split "$gpt" s --max-bytes 40K
    cp s/$i good
    refuses 2 'nothing: No such file' merge nothing o
    for text in '' '{' '[]' '{}' '{"weight_map":[]}' '{"weight_map":{"x":1}}'; do
        echo "$text" > s/$i
        refuses 2 "s/$i: byte" merge s/$i o
    done
    echo '{"weight_map":{"x":"../good"}}' > s/$i
    refuses 2 "'../good' is not the name of a file beside the index" merge s/$i o
    sed 's/wte.weight/wte.wait/' good > s/$i
    refuses 2 "model-00001-of-00004.safetensors: tensor 'wte.wait' of the index" merge s/$i o
    grep -v wte.weight good > s/$i
    refuses 2 "model-00001-of-00004.safetensors: tensor 'wte.weight' is not in" merge s/$i o
    sed 's/112768/112769/' good > s/$i
    refuses 2 'total_size is 112769, but the tensors have 112768 bytes' merge s/$i o
    cp good s/$i
    rm s/model-00003-of-00004.safetensors
    refuses 2 'model-00003-of-00004.safetensors: No such file' merge s/$i o
    mkdir s/model-00003-of-00004.safetensors
    truncate -s -1 s/model-00001-of-00004.safetensors
    ends 1 verify s "$gpt"
    grep -qE "^s: BROKEN: .*model-00001-of-00004.s.*; .*model-00003-of-00004.s.* regular file$" out
    ends 1 verify s --json
    is_json out
    ends 2 merge s o
    [ "$(wc -l < err)" = 2 ] # a line for each
    [ ! -e o ]
}

test_names_of_any_characters_pass_through_an_index() {
    model a.safetensors '{"a\u00e9\ud83d\ude00\"\\b":{"dtype":"U8","shape":[1],"data_offsets":'\
'[0,1]},"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}' xy
    ends 0 split a.safetensors s --max-bytes 1
    ends 0 merge s b.safetensors
    ends 0 diff a.safetensors b.safetensors
    # as Python writes it
    sed 's/"a.*: /"a\\u00e9\\ud83d\\ude00\\"\\\\b": /' s/$index > s/i.index.json
    grep -qF 'a\u00e9\ud83d\ude00\"\\b' s/i.index.json
    ends 0 merge s/i.index.json c.safetensors
    cmp b.safetensors c.safetensors
}

# ------------------------------------------------------------------------------------------------

run_facts
