#!/usr/bin/env bash
# cl_check.sh - the kernels against compilers that need no device, each file with every variant of
# its `check:` lines. `make cl-check`.
#
#   tools/cl_check.sh [--fast] [FILE]...   these kernel files (accum gemm), or all; exit 1 when one
#                                          is refused, 77 when nothing could be checked
#
# lint     OpenCL C 1.2 without any extension, no warning but for what a variant does not use;
#          -DMO_DOUBLE=1 stands for a device that has fp64; groups of one work-item once more with
#          what compilers for processors add
# spirv    valid SPIR-V 1.0 for OpenCL 1.2, with no capability beyond those of every device
# vendors  what the compilers of AMD, NVIDIA and Intel make of it, and how many registers; memory in
#          place of registers is an error. Not with --fast, and not for groups of one work-item,
#          which are for CPUs
#
# Kernels that are known to be bad, in tests/fixtures/cl_check, show that each check can fail. What
# passed before is not compiled again: build/cl_check/passed. WG="1 64" are the work-groups.
set -u
cd "$(dirname "$0")/.."
export LC_ALL=C
out=build/cl_check
kernels=src/cl/kernels
amd_library=/usr/lib/clc/amdgcn--amdhsa.bc
no_double="icllp tgllp dg2" # devices without fp64
nvidia_library=/usr/lib/clc/nvptx64--nvidiacl.bc
capabilities="Addresses Linkage Kernel Vector16 Float16Buffer Int64 Int16 Int8"

have() { command -v "$1" > /dev/null 2>&1; }
find_ptxas() {
    command -v ptxas || ls /usr/local/cuda/bin/ptxas build/cl_vendors/ptxas 2> /dev/null
}
ptxas=${PTXAS:-$(find_ptxas | head -n 1)}

# ---- one case: source, wg, options, and work, the beginning of names for its files --------------

# Checks say what is wrong, and add "TARGET KERNEL REGISTERS SPILLED-BYTES" to $work.rows.
build_options() {
    echo "-cl-std=CL1.2 -cl-fp32-correctly-rounded-divide-sqrt -DMEMOPT_WG=$wg $options"
}
wants_double() { case " $options " in *" -DMO_DOUBLE=1 "*) return 0 ;; esac; return 1; }

compile() {
    # shellcheck disable=SC2046
    clang-15 -x cl $(build_options) -Xclang -finclude-default-header "$@" "$source"
}

check_lint() {
    local extensions=-all
    if wants_double; then extensions=-all,+cl_khr_fp64,+__opencl_c_fp64; fi
    syntax --target=spir64 -Xclang -cl-ext=$extensions &&
        if [ "$wg" = 1 ]; then syntax --target=x86_64-linux-gnu -march=haswell; fi
}
syntax() {
    compile "$@" -fsyntax-only -Wall -Wextra -Werror -Wno-unused -Wno-unused-parameter
}

# -O0: what later passes make is not always valid.
check_spirv() {
    local found
    compile --target=spir64 -c -emit-llvm -O0 -o "$work.bc" &&
        llvm-spirv-15 --spirv-max-version=1.0 "$work.bc" -o "$work.spv" &&
        spirv-val --target-env opencl1.2 "$work.spv" || return 1
    for found in $(spirv-dis "$work.spv" | awk '$1 == "OpCapability" { print $2 }'); do
        case " $capabilities " in *" $found "*) continue ;; esac
        if [ "$found" = Float64 ] && wants_double; then continue; fi
        echo "needs the SPIR-V capability $found"
        return 1
    done
}

check_amd() {
    compile -c --target=amdgcn-amd-amdhsa -mcpu="$1" -nogpulib -O3 -Xclang -mlink-builtin-bitcode \
        -Xclang $amd_library -Rpass-analysis=kernel-resource-usage -o "$work.o" 2> "$work.log" ||
        { cat "$work.log"; return 1; }
    awk -v target="$1" '
        / Function Name: / { name = $5 }
        / VGPRs: / { registers = $4 }
        / ScratchSize / { scratch = $5 }
        / VGPRs Spill: / { print target, name, registers, scratch + 4 * $5 }
    ' "$work.log" >> "$work.rows"
}

# Without ptxas there are no registers, but the code is there.
check_nvidia() {
    compile -S --target=nvptx64--nvidiacl -march="$1" -O3 -Xclang -mlink-builtin-bitcode \
        -Xclang $nvidia_library -o "$work.ptx" || return 1
    [ -n "$ptxas" ] || return 0
    "$ptxas" -arch="$1" -v "$work.ptx" -o "$work.cubin" > "$work.log" 2>&1 ||
        { cat "$work.log"; return 1; }
    awk -v target="$1" '
        / Compiling entry function / { split($0, quoted, "\047"); name = quoted[2] }
        / stack frame, / { spilled = $1 + $5 }
        / Used [0-9]+ registers/ {
            for (i = 1; $i != "Used"; i++) ;
            print target, name, $(i + 1), spilled
        }' "$work.log" >> "$work.rows"
}

# Registers are 128 for as many lanes as the compiler chooses: those are shown.
check_intel() {
    mkdir -p "$work.intel"
    ocloc compile -file "$source" -device "$1" --format zebin -options "$(build_options)" \
        -output k -out_dir "$work.intel" > "$work.log" 2>&1 || { cat "$work.log"; return 1; }
    readelf -p .ze_info "$work.intel"/k_*.bin | sed 's/^ *\[ *[0-9a-f]*\]//; s/\\n$//' |
        awk -v target="$1" '
            function row() { if (name) print target, name, "simd" lanes, spilled + 0 }
            /^ *- name:/ { row(); name = $3; spilled = 0 }
            $1 == "simd_size:" { lanes = $2 }
            $1 ~ /:$/ && NF == 1 { buffers = $1 == "per_thread_memory_buffers:" }
            buffers && $1 == "size:" { spilled += $2 }
            END { row() }' > "$work.found"
    [ -s "$work.found" ] || { echo "ocloc made no kernels"; return 1; }
    cat "$work.found" >> "$work.rows"
}

check_target() {
    case $1 in
    lint | spirv) check_"$1" ;;
    gfx*) check_amd "$1" ;;
    sm_*) check_nvidia "$1" ;;
    *) check_intel "$1" ;;
    esac
}

# FILE|WG|OPTIONS|TARGET - the rows, with the case in front, or what is refused. Both are kept in a
# file: passed under a checksum of all that matters.
run_case() {
    local file wg options target source key work spilled
    IFS='|' read -r file wg options target <<< "$1"
    source=$out/joined/$file.cl
    key=$({ echo "$1"; cat "$source" "$out/version"; } | sha256sum | cut -c 1-32)
    work=$out/work/$key
    [ ! -e "$out/passed/$key" ] || { cat "$out/passed/$key"; return; }
    : > "$work.rows"
    check_target "$target" > "$work.err" 2>&1 || echo "$1: refused" > "$out/refused/$key"
    spilled=$(awk '$4 > 0 { printf "%s: %d bytes; ", $2, $4 }' "$work.rows")
    [ -z "$spilled" ] || echo "$1: in memory: $spilled" >> "$out/refused/$key"
    sed "s/ /|/g; s/^/$file|$wg|$options|/" "$work.rows" > "$work.table"
    cat "$work.table"
    if [ -e "$out/refused/$key" ]; then head -n 20 "$work.err" >> "$out/refused/$key"
    else mv "$work.table" "$out/passed/$key"; fi
    rm -rf "$work".*
}

# ---- all cases ---------------------------------------------------------------------------------

# FILE SHARED of the table in mo_cl_kernel.h, those that hold kernels.
table() {
    sed -n '/define MOI_CL_FILES/,/[^\\]$/s/.*X(\([a-z0-9_]*\), \([a-z0-9_]*\)).*/\1 \2/p' \
        src/cl/mo_cl_kernel.h
}
shared_of() { table | awk -v file="$1" '$1 == file { print $2 }'; }

# The file behind everything that it shares, in the way of an #include: what is not used there is
# not worth a warning.
join() {
    local chain=$1 next
    next=$(shared_of "$1")
    while [ -n "$next" ] && [ "$next" != prelude ]; do
        chain="$next $chain"
        next=$(shared_of "$next")
    done
    for next in prelude ${chain% *}; do
        [ "$next" = "$1" ] && continue
        echo "# 1 \"$kernels/$next.cl\" 1"
        cat "$kernels/$next.cl"
        echo "# 1 \"${2:-$kernels}/$1.cl\" 2"
    done
    cat "${2:-$kernels}/$1.cl"
}

variants() { sed -n 's/^.*[ *]check: *\(-D[^*]*[^* ]\).*/\1/p' "$1" | grep . || echo; }

cases() {
    local file wg options target
    for file in "$@"; do
        for wg in ${WG:-1 64}; do
            variants "$kernels/$file.cl" | while read -r options; do
                for target in $portable; do echo "$file|$wg|$options|$target"; done
                [ "$wg" = 1 ] && continue
                for target in $vendors; do
                    case "$options $no_double " in *"-DMO_DOUBLE=1"*" $target "*) continue ;; esac
                    echo "$file|$wg|$options|$target"
                done
            done
        done
    done
}

run_cases() { xargs -r -d '\n' -n 1 -P "$(nproc)" "$0" --case; }

# Each bad kernel is refused by the checks that it is meant for, a good one by none.
known_bad() {
    local name targets target
    while read -r name targets; do
        join "$name" tests/fixtures/cl_check > "$out/joined/$name.cl"
        for target in $targets; do
            case " $portable $vendors " in *" $target "*) ;; *) continue ;; esac
            rm -rf "$out/refused"
            mkdir -p "$out/refused"
            run_case "$name|64||$target" > /dev/null
            [ -n "$(ls "$out/refused")" ] ||
                { echo "the known-bad $name.cl passes $target"; return 1; }
        done
    done << END
half lint
warning lint
atomic spirv
spill gfx803 gfx1030 sm_75 skl dg2
END
    rm -rf "$out/refused"
    mkdir -p "$out/refused"
}

# One line for each kernel and its options, one column for each target.
show_table() {
    sort -t '|' -k 1,3 -s | awk -F '|' -v targets="$vendors" '
        BEGIN { n = split(targets, target, " ")
                printf "%-34s", "registers"
                for (i = 1; i <= n; i++) printf " %8s", target[i]
                print "" }
        function show() {
            printf "%-34s", name
            for (i = 1; i <= n; i++) printf " %8s", cell[target[i]]
            print "  " options
            delete cell
        }
        { key = $1 "|" $2 "|" $3 "|" $5
          if (!(key in seen)) { seen[key] = ++count; keys[count] = key }
          all[key, $4] = $7 > 0 ? $6 "!" : $6 }
        END { for (k = 1; k <= count; k++) {
                  split(keys[k], part, "|"); name = part[4]; options = part[3]
                  for (i = 1; i <= n; i++) cell[target[i]] = all[keys[k], target[i]]
                  show()
              } }'
}

# ---- tools -------------------------------------------------------------------------------------

# wanted TOOL... - whether all are there; what is missing is said.
wanted() {
    local what=$1 tool
    shift
    for tool in "$@"; do
        have "$tool" || [ -e "$tool" ] || { echo "skipped: $what: no $tool"; return 1; }
    done
}

choose_targets() {
    portable= vendors=
    wanted "lint" clang-15 && portable=lint
    wanted "spirv" clang-15 llvm-spirv-15 spirv-val spirv-dis && portable="$portable spirv"
    [ -n "$fast" ] && return
    wanted "AMD" clang-15 $amd_library && vendors="gfx803 gfx906 gfx1030 gfx1100"
    wanted "NVIDIA" clang-15 $nvidia_library && vendors="$vendors sm_75"
    [ -n "$ptxas" ] || echo "skipped: NVIDIA's registers: no ptxas"
    wanted "Intel" ocloc readelf && vendors="$vendors skl icllp tgllp dg2"
}

if [ "${1:-}" = --case ]; then run_case "$2"; exit; fi
fast=
if [ "${1:-}" = --fast ]; then fast=1; shift; fi
choose_targets
[ -n "$portable$vendors" ] || exit 77
rm -rf "$out/work" "$out/refused" "$out/joined"
mkdir -p "$out/work" "$out/passed" "$out/refused" "$out/joined"
{ cat "$0"; clang-15 --version; echo "$ptxas"; } > "$out/version" 2> /dev/null
[ $# -gt 0 ] || set -- $(table | while read -r file _; do
    grep -q '^MO_KERNEL' "$kernels/$file.cl" && echo "$file"; done)
known_bad || exit 1
for file in "$@"; do join "$file" > "$out/joined/$file.cl"; done
cases "$@" > "$out/cases"
run_cases < "$out/cases" > "$out/rows"
if [ -n "$vendors" ]; then show_table < "$out/rows"; fi
# Often many variants fail in the same way.
cat "$out"/refused/* 2> /dev/null | head -n 60
grep -h ': refused$\|: in memory: ' "$out"/refused/* 2> /dev/null | sort > "$out/refused.list"
n_refused=$(find "$out/refused" -type f | wc -l)
echo "$(wc -l < "$out/cases") checks, $n_refused refused; all in $out/refused.list"
[ "$n_refused" = 0 ]
