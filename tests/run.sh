#!/usr/bin/env bash
# run.sh - builds and runs every test in every variant, then the examples and the gates; prints one
# line for each, what the failed ones said, and at the end "N passed, N failed". `make test` calls
# it and sets:
#   MAKE, TESTS   names without test_ and .c
#   ONLY_TESTS    not empty = no examples, no gates
# SLOW_TESTS=1 runs what takes minutes, too: see CONTRIBUTING.md.
# Numeric tests run once more for each instruction set that MEMOPT_CPU can force, those of
# memopt_cl.h on each axis of cl_axis.sh.
set -u
cd "$(dirname "$0")/.."
isa_tests=${ISA_TESTS:-half gemm optim attention loss distill dpo accum norm act rope compress \
    quant quant4 int8}
# Those whose time goes into a driver run with sanitizers for SLOW_TESTS=1 only.
driver_tests="cl_faults cl_gemm cl_optim cl_page_optim cl_quant cl_attention"
tsan_tests=${TSAN_TESTS:-base pool queue page stream loader}
limit_s=${LIMIT_S:-300}
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
results=build/test/results failures=build/test/results/failures
passed=0 failed=0 skipped=0
keys=()

has() { case " $2 " in *" $1 "*) return 0 ;; esac; return 1; }

# Two variants have all between them: both sources, with and without sanitizers. What is neither
# repeated on an axis nor for each instruction set needs no third one.
sides="src-asan header-plain" plain_tests=
if [ -n "${SLOW_TESTS:-}${ONLY_TESTS:-}" ]; then
    sides="src-plain $sides" plain_tests=$TESTS
else
    for test in $TESTS; do
        case " $isa_tests " in *" $test "*) plain_tests+=" $test" ;; esac
        case $test in cl | cl_*) plain_tests+=" $test" ;; esac
    done
fi

run_once() {
    local file=$1 rc=0 begin=$SECONDS
    shift
    timeout "$limit_s" "$@" > "$file.log" 2>&1 < /dev/null || rc=$?
    echo $rc > "$file.rc"
    echo $((SECONDS - begin)) > "$file.s"
    return $rc
}

# LeakSanitizer itself can crash when a driver's thread ends while it looks at all threads: that
# says nothing about the test, so it runs once more.
run_again() {
    if grep -qs 'LeakSanitizer has encountered a fatal error' "$1.log"; then run_once "$@"; fi
}

# start KIND KEY COMMAND... - in the background, at most $jobs at a time.
start() {
    local kind=$1 key=$2 file
    file=$results/${key//\//_}
    shift 2
    keys+=("$kind:$key")
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    { run_once "$file" "$@" || run_again "$file" "$@"; } 2> /dev/null &
}

# Sets of kernels to force, beside the one that this CPU takes by itself; the rest is skipped aloud.
forced_sets=scalar
if [ "$(uname -m)" = x86_64 ]; then
    if grep -qsw avx2 /proc/cpuinfo; then forced_sets="scalar avx2"
    else echo "skipped: kernels for avx2"; skipped=$((skipped + 1)); fi
    grep -qsw avx512vl /proc/cpuinfo ||
        { echo "skipped: kernels for avx512"; skipped=$((skipped + 1)); }
fi

start_tests() {
    local side test
    # TSan needs addresses where it expects them.
    local fixed=()
    setarch "$(uname -m)" -R true 2>/dev/null && fixed=(setarch "$(uname -m)" -R)
    for test in $TESTS; do
        for side in $sides; do
            case $side${SLOW_TESTS:-} in src-asan) has "$test" "$driver_tests" && continue ;; esac
            start cmocka "$side/$test" "build/test/$side/test_$test"
        done
        has "$test" "$tsan_tests" &&
            start cmocka "src-tsan/$test" "${fixed[@]}" "build/test/src-tsan/test_$test"
        has "$test" "$isa_tests" || continue
        for isa in $forced_sets; do
            start cmocka "src-plain/$test@$isa" \
                env MEMOPT_CPU=$isa "build/test/src-plain/test_$test"
        done
    done
}

# Seconds that one test may take on an axis; the compilers of CPU devices are slow, and simulators
# slower.
axis_limit_s=${AXIS_LIMIT_S:-$([ -z "${SLOW_TESTS:-}" ] && echo 240 || echo 1800)}

# Tests that an axis adds something to. What has no kernels does not depend on the group's size.
axis_tests() {
    local test
    for test in $TESTS; do
        case $1:$test in
        *:cl_faults | *:cl_devices) ;; # have their own devices
        rusticl:cl | rusticl:cl_* | poor:cl | poor:cl_*) echo "$test" ;;
        denorms:cl_accum | denorms:cl_half | denorms:cl_quant) echo "$test" ;;
        denorms:cl_optim) [ -z "${SLOW_TESTS:-}" ] || echo "$test" ;;
        denorms:cl_compress) echo "$test" ;;
        streams:cl_half | streams:cl_quant | streams:cl_accum) echo "$test" ;;
        streams:* | denorms:* | *:cl | *:cl_heap_*) ;;
        oclgrind:cl_attention | oclgrind:cl_quant | oclgrind:cl_int8 | oclgrind:cl_accum | \
            oclgrind:cl_optim | oclgrind:cl_loss | oclgrind:cl_lora | \
            oclgrind:cl_linear_attention | oclgrind:cl_norm | oclgrind:cl_embedding | \
            oclgrind:cl_gemm | oclgrind:cl_act | oclgrind:cl_half) # half a minute each, or more
            [ -z "${SLOW_TESTS:-}" ] || echo "$test" ;;
        oclgrind:cl_page* | oclgrind:cl_store | oclgrind:cl_arena | oclgrind:cl_wrap) ;; # copies
        wg64:cl_* | narrow:cl_* | oclgrind:cl_*) echo "$test" ;;
        esac
    done
}

start_axes() {
    local axis test why tests
    for axis in wg64 streams denorms narrow poor rusticl oclgrind; do
        tests=$(axis_tests $axis)
        [ -n "$tests" ] || continue
        why=$(tests/cl_axis.sh --missing $axis)
        if [ -n "$why" ]; then
            echo "skipped: tests on the axis $axis: $why"
            skipped=$((skipped + $(echo "$tests" | wc -l)))
            continue
        fi
        for test in $tests; do
            limit_s=$axis_limit_s start cmocka "axis-$axis/$test" \
                tests/cl_axis.sh $axis "build/test/src-plain/test_$test"
        done
    done
}

start_examples() {
    local source name
    for source in examples/*.c; do
        [ -e "$source" ] || continue
        name=$(basename "$source" .c)
        case $name in *_cl_*)
            [ -e build/memopt_cl.o ] ||
                { echo "skipped: $name needs OpenCL"; skipped=$((skipped + 1)); continue; } ;;
        esac
        start exit "example/$name" "build/examples/$name"
    done
}

# What the programs promise on their command lines. Tables of many runs do not repeat with
# sanitizers.
start_programs() {
    local tables='without_running ten_budgets prints_trains fit_finds smallest_budget'
    [ -z "${SLOW_TESTS:-}" ] || tables=
    start cmocka cli/train_gpt tests/cli_train_gpt.sh build/train_gpt
    start cmocka cli/train_gpt@asan env SKIP="$tables" \
        tests/cli_train_gpt.sh build/test/src-asan/train_gpt
    start cmocka cli/kill tests/cli_kill.sh build/train_gpt
    start cmocka cli/kill@asan env ONLY='disk saves take settings save_every bad' \
        tests/cli_kill.sh build/test/src-asan/train_gpt
    start cmocka cli/memopt tests/cli_memopt.sh build/memopt
    start cmocka cli/memopt@asan env SKIP="$tables" \
        tests/cli_memopt.sh build/test/src-asan/memopt
    start cmocka cli/memopt_estimate tests/cli_memopt_estimate.sh build/memopt
    start cmocka cli/memopt_estimate@asan tests/cli_memopt_estimate.sh build/test/src-asan/memopt
    start cmocka cli/memopt_files tests/cli_memopt_files.sh build/memopt
    start cmocka cli/memopt_files@asan tests/cli_memopt_files.sh build/test/src-asan/memopt
    if [ -e build/examples/09_cl_info ]; then
        start cmocka cli/cl_info tests/cli_cl.sh build/examples/09_cl_info
    fi
    start exit isa_agree build/test/isa_agree
    start exit bench/smoke build/memopt-bench --n 4096 -r 1 --filter .
}

start_gates() {
    local gate
    for gate in $(tools/gates.sh --list); do start exit "gate/$gate" tools/gates.sh "$gate"; done
}

# Sums of the summary lines of cmocka's groups: "passed failed skipped groups". They need not start
# a line, since cmocka writes to both stdout and stderr.
count_cmocka() {
    grep -ao '\[  \(PASSED \|FAILED \|SKIPPED\) \] [0-9]* test(s)' "$1" |
        awk '{ n[$2] += $4 } $2 == "PASSED" { groups++ }
             END { print n["PASSED"] + 0, n["FAILED"] + 0, n["SKIPPED"] + 0, groups + 0 }'
}

# One test that is its exit status; 77 = skipped.
count_exit() {
    case $1 in
    0) echo 1 0 0 1 ;;
    77) echo 0 0 1 1 ;;
    *) echo 0 1 0 1 ;;
    esac
}

report() {
    local kind=${1%%:*} key=${1#*:} file rc p f s groups
    file=$results/${key//\//_}
    rc=$(cat "$file.rc" 2>/dev/null || echo 1)
    if [ "$kind" = cmocka ]; then
        read -r p f s groups < <(count_cmocka "$file.log")
        # A crash, a leak, or a run that did not come to its summary.
        if { [ "$rc" != 0 ] || [ "$groups" = 0 ]; } && [ "$f" = 0 ]; then f=1; fi
    else
        read -r p f s groups < <(count_exit "$rc")
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-36s %4s s %3d passed' "$key" "$(cat "$file.s" 2>/dev/null || echo '?')" "$p"
    [ "$f" -gt 0 ] && printf ', %d FAILED (exit status %s)' "$f" "$rc"
    [ "$s" -gt 0 ] && printf ', %d skipped' "$s"
    echo
    if [ "$f" -gt 0 ]; then
        { echo "FAILED: $key (exit status $rc)"
          grep -av '^\[ RUN  \|^\[       OK' "$file.log" | tail -n 60 | sed 's/^/    /'; } \
            >> "$failures"
    elif [ "$s" -gt 0 ] && [ "$kind" = exit ]; then sed 's/^/    /' "$file.log"
    fi
}

rm -rf "$results"
mkdir -p "$results"
: > "$failures"
case " ${MAKEFLAGS:-}" in *" -j"*) parallel= ;; *) parallel=-j$jobs ;; esac
goals=build-tests
[ -n "${ONLY_TESTS:-}" ] || goals="build-tests build-cli-tests build/test/isa_agree all"
begin=$SECONDS
# shellcheck disable=SC2086
${MAKE:-make} --no-print-directory -k $parallel WERROR=1 TESTS="$TESTS" \
    PLAIN_TESTS="$plain_tests" $goals ||
    { echo "FAILED: some of it does not build" >> "$failures"; failed=$((failed + 1)); }
echo "built in $((SECONDS - begin)) s"

# PoCL alone, where it is there and nothing else was asked for: the same device everywhere, and
# some vendors' drivers end programs that are built with sanitizers. Compiled kernels are shared.
if [ -z "${OCL_ICD_VENDORS:-}" ] && [ -z "$(tests/cl_axis.sh --missing pocl)" ]; then
    export OCL_ICD_VENDORS=$PWD/build/test/icd/pocl
fi
export POCL_CACHE_DIR=$PWD/build/test/cache/pocl MEMOPT_CL_CACHE=$PWD/build/test/cache/memopt
mkdir -p "$POCL_CACHE_DIR"

# What takes longest begins first, so that no processor waits for it at the end.
if [ -z "${ONLY_TESTS:-}" ]; then start_gates; start_programs; fi
start_axes
start_tests
if [ -z "${ONLY_TESTS:-}" ]; then start_examples; fi
wait
for key in "${keys[@]}"; do report "$key"; done
cat "$failures"

summary="$passed passed, $failed failed"
[ "$skipped" -gt 0 ] && summary="$summary, $skipped skipped"
echo "$summary"
[ "$failed" -eq 0 ]
