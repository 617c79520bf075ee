#!/usr/bin/env bash
# gates.sh - rules that the sources and the built library keep, one function each.
#
#   tools/gates.sh [NAME]...   run these, or all; exit 1 when one fails
#   tools/gates.sh --list      their names
#
# A gate returns 0 (holds), 1 (broken, says where) or 77 (cannot be checked here, says why). Before
# it looks at the real input it runs on a known-bad one, which it must reject: `rejects COMMAND`.
# Needs `make headers build/memopt.o` first.
set -u
cd "$(dirname "$0")/.."
CC=${CC:-cc} CXX=${CXX:-c++}
includes="-Isrc -Isrc/base -Isrc/memory -Isrc/numeric -Isrc/train -Isrc/plan -Isrc/store"
includes+=" -Isrc/advise"
cl_includes="$includes -Ibuild/cl -Isrc/cl"
c_warnings="-Wall -Wextra -Wpedantic -Wshadow -Wundef -Wstrict-prototypes -Werror"
cxx_warnings="-Wall -Wextra -Wpedantic -Werror"
libs="-lm -ldl -lpthread"
opencl() {
    echo '#include <CL/cl.h>' |
        $CC -DCL_TARGET_OPENCL_VERSION=120 -fsyntax-only -x c - 2> /dev/null
}

skip() { echo "skipped: $*"; exit 77; }
have() { command -v "$1" > /dev/null 2>&1; }
rejects() {
    if "$@" > "$dir/rejected" 2>&1; then echo "the known-bad input passes: $*"; return 1; fi
}
# C and shell sources that people write: everything but the joined headers.
written() { find src tools tests examples bench fuzz -type f -name "$1" 2> /dev/null | sort; }

# ---- headers: the joined header is what the sources give ----------------------------------------

same_header() { cmp "$1" "$2" || { echo "$1 is stale: make headers, and commit it"; return 1; }; }

gate_headers() {
    local flags
    flags=$(printf -- '-I %s ' ${includes//-I/})
    # shellcheck disable=SC2086
    build/amalgamate $flags src/memopt.h src/memopt.c "$dir/memopt.h" || return 1
    { cat "$dir/memopt.h"; echo; } > "$dir/bad.h"
    rejects same_header "$dir/bad.h" "$dir/memopt.h" || return 1
    same_header memopt.h "$dir/memopt.h" || return 1
    # shellcheck disable=SC2086
    build/amalgamate $flags -I src/cl -I src/cl/kernels -k memopt.h src/memopt_cl.h \
        src/memopt_cl.c "$dir/memopt_cl.h" && same_header memopt_cl.h "$dir/memopt_cl.h" || return 1
    # make renews memopt.h by itself; what counts is what was committed with these sources.
    git cat-file -e HEAD:memopt.h 2>/dev/null || return 0
    [ -z "$(git status --porcelain -- src tools/amalgamate.c examples/01_quickstart.c)" ] ||
        return 0
    local name
    for name in memopt.h memopt_cl.h; do
        git show "HEAD:$name" > "$dir/committed_$name"
        same_header "$dir/committed_$name" "$dir/$name" || return 1
    done
}

# ---- layering: what the joining tool must reject ------------------------------------------------

# Each folder of tests/fixtures/amalgamate holds all.h, all.c, more -I and -k in `flags`, and in
# `expect` the message, or the joined header where there is nothing to reject.
amalgamate_says() {
    local folder=$1 root=$PWD
    # shellcheck disable=SC2046
    (cd "$folder" && "$root/build/amalgamate" -I . $(cat flags 2> /dev/null) all.h all.c \
        "$root/$dir/out.h") 2>&1 && cat "$dir/out.h"
}

gate_layering() {
    local folder got bad=0
    rejects test "$(amalgamate_says tests/fixtures/amalgamate/order)" = "" || return 1
    for folder in tests/fixtures/amalgamate/*/; do
        rm -f "$dir/out.h"
        got=$(amalgamate_says "$folder")
        [ "$got" = "$(cat "$folder/expect")" ] && continue
        echo "$folder: amalgamate says"
        echo "$got"
        bad=1
    done
    return $bad
}

# ---- symbols: the library never prints or exits, and exports mo_ alone --------------------------

forbidden='printf|fprintf|vprintf|vfprintf|puts|putchar|fputs|fputc|putc|perror|psignal'
forbidden="$forbidden|stdout|stderr|abort|exit|_exit|_Exit|quick_exit|__assert_fail|__errno"

good_symbols() {
    local bad
    bad=$(nm -u "$1" | awk '{ print $NF }' | sed 's/^__\(.*\)_chk$/\1/' | grep -xE "$forbidden")
    [ -z "$bad" ] || { echo "$1 uses" $bad; return 1; }
    bad=$(nm -g --defined-only "$1" | awk '{ print $NF }' | grep -v '^mo_')
    [ -z "$bad" ] || { echo "$1 exports" $bad; return 1; }
    # The CPU dispatch variable is the only state.
    bad=$(nm "$1" | awk '$2 ~ /^[BbDdCc]$/ { print $3 }' |
        sed 's/\.[0-9]*$//' | grep -vx moi_cpu_in_use)
    [ -z "$bad" ] || { echo "$1 has mutable globals" $bad; return 1; }
}

gate_symbols() {
    local i=0 text
    for text in 'void mo_a(void) { puts("a"); }' 'void mo_a(void) { exit(1); }' \
        'void mo_a(int i) { assert(i); }' 'void alone(void) {}' 'int mo_count;' \
        'int mo_a(void) { static int n; return n++; }'; do
        i=$((i + 1))
        printf '#include <stdio.h>\n#include <stdlib.h>\n#include <assert.h>\n%s\n' "$text" \
            > "$dir/bad$i.c"
        $CC -O0 -fno-pic -c "$dir/bad$i.c" -o "$dir/bad$i.o" || return 1
        rejects good_symbols "$dir/bad$i.o" || return 1
    done
    # shellcheck disable=SC2086
    $CC -O1 -DNDEBUG -fno-pic $includes -c src/memopt.c -o "$dir/memopt.o" || return 1
    good_symbols "$dir/memopt.o" || return 1
    opencl || return 0
    # shellcheck disable=SC2086
    $CC -O1 -DNDEBUG -fno-pic $cl_includes -c src/memopt_cl.c -o "$dir/memopt_cl.o" || return 1
    good_symbols "$dir/memopt_cl.o"
}

# ---- matrix: the joined header compiles everywhere ----------------------------------------------

# matrix_case NAME COMPILE... - one compilation of $dir/$NAME; in the background, errors to a file.
matrix_case() {
    local name=$1
    shift
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    { "$@" > "$dir/$name.log" 2>&1 || echo "$*" >> "$dir/failed"; } &
}

# Those that link_all links; the others are only read.
linked="gcc-c99-impl gcc-c99-user gcc-c99-static clang-c11-impl g++-c++17-impl g++-c++11-user
    clang++-c++17-user"
matrix_object() {
    local name=$1
    shift
    case " $(echo $linked) " in
    *" $name "*) matrix_case "$name" "$@" -c -o "$dir/$name.o" ;;
    *) matrix_case "$name" "$@" -fsyntax-only ;;
    esac
}

write_matrix_sources() {
    printf '#define MEMOPT_IMPLEMENTATION\n#include "memopt.h"\n' > "$dir/impl.c"
    printf '#include "memopt.h"\nint main(void) { return mo_version()[0] == 0; }\n' > "$dir/user.c"
    { echo '#define MEMOPT_STATIC'; cat "$dir/impl.c" "$dir/user.c"; } > "$dir/static.c"
    { echo '#define MEMOPT_NO_SIMD'; cat "$dir/impl.c"; } > "$dir/scalar.c"
    local name
    # memopt_cl.h alone, and in one file with memopt.h.
    printf '#define MEMOPT_CL_IMPLEMENTATION\n#include "memopt_cl.h"\n' > "$dir/cl.c"
    { echo '#define MEMOPT_IMPLEMENTATION'; cat "$dir/cl.c"; } > "$dir/cl_both.c"
    { echo '#define MEMOPT_STATIC'; cat "$dir/cl_both.c" "$dir/user.c"; } > "$dir/cl_static.c"
    for name in cl cl_both cl_static; do cp "$dir/$name.c" "$dir/$name.cpp"; done
    for name in impl user static scalar; do cp "$dir/$name.c" "$dir/$name.cpp"; done
}

compiles() { [ ! -s "$dir/failed" ] || { cat "$dir/failed" "$dir"/*.log; return 1; }; }

compile_all() {
    local cc cxx std name cl_sources=
    opencl && cl_sources="cl cl_both cl_static"
    for cc in gcc clang; do
        have $cc || continue
        for std in c99 c11; do
            for name in impl static user; do
                matrix_object $cc-$std-$name $cc -std=$std $c_warnings -I. "$dir/$name.c"
            done
        done
        for name in $cl_sources; do
            matrix_case $cc-$name $cc -std=c99 $c_warnings -I. -fsyntax-only "$dir/$name.c"
        done
        matrix_case $cc-scalar $cc -std=c99 $c_warnings -I. -fsyntax-only "$dir/scalar.c"
        # Without optimisation the intrinsics of gcc are macros that -Wconversion objects to. What
        # only the optimizer sees is an error where the tests build this header.
        matrix_case $cc-O2 $cc -std=c11 -O2 $c_warnings -Wconversion -I. -fsyntax-only \
            "$dir/impl.c"
    done
    for cxx in g++ clang++; do
        have $cxx || continue
        for name in $cl_sources; do
            matrix_case $cxx-$name $cxx -std=c++11 $cxx_warnings -I. -fsyntax-only "$dir/$name.cpp"
        done
        for std in c++11 c++17; do
            for name in impl static user; do
                matrix_object $cxx-$std-$name $cxx -std=$std $cxx_warnings -I. "$dir/$name.cpp"
            done
        done
    done
    wait
}

# Two files of one program, one with the implementation: C and C, C++ and C, C++ and C++.
link_all() {
    local compiler impl user out="$dir/linked"
    while read -r compiler impl user; do
        have "$compiler" || continue
        $compiler "$dir/$impl.o" "$dir/$user.o" -o "$out" $libs && "$out" ||
            { echo "$compiler $impl $user: does not link or run"; return 1; }
    done << END
gcc gcc-c99-impl gcc-c99-user
g++ gcc-c99-impl g++-c++11-user
g++ g++-c++17-impl g++-c++11-user
clang clang-c11-impl gcc-c99-user
clang++ clang-c11-impl clang++-c++17-user
END
    gcc "$dir/gcc-c99-static.o" -o "$out" $libs && "$out"
}

gate_matrix() {
    have gcc || have clang || skip "neither gcc nor clang"
    write_matrix_sources
    # Known bad: a conversion that loses bits, which the warnings must stop.
    echo 'int moi_bad(double x); int moi_bad(double x) { return x; }' > "$dir/bad.c"
    matrix_case bad $CC $c_warnings -Wconversion -fsyntax-only "$dir/bad.c"
    wait
    rejects compiles || return 1
    rm -f "$dir/failed" "$dir"/*.log
    compile_all
    compiles && link_all
}

# ---- format, text, names ------------------------------------------------------------------------

gate_format() {
    local formatter=
    for name in clang-format-14 clang-format; do
        have $name && $name --version | grep -q 'version 14\.' && formatter=$name && break
    done
    [ -n "$formatter" ] || skip "clang-format 14 is not installed"
    printf 'int  moi_bad( int x ){return x;}\n' > "$dir/bad.c"
    rejects $formatter --style=file --dry-run -Werror "$dir/bad.c" || return 1
    { written '*.h'; written '*.c'; } | grep -v '^tests/fixtures/' |
        xargs $formatter --style=file --dry-run -Werror 2>&1 | grep -a 'error:' |
        cut -d: -f1 | sort | uniq -c | sed 's/$/ (make format)/' | { ! grep .; }
}

# ASCII, LF, no tabs, at most 100 columns, a newline at the end.
plain_text() {
    awk -v bad=0 '
        /[^ -~]/ { print FILENAME ":" FNR ": a character that is not printable ASCII"; bad = 1 }
        length > 100 { print FILENAME ":" FNR ": " length " columns"; bad = 1 }
        / $/ { print FILENAME ":" FNR ": blank at the end of the line"; bad = 1 }
        END { exit bad }' "$@"
}

gate_text() {
    local i=0 text
    for text in 'a\tb' 'a\r' '\303\244' 'a ' "$(printf '%0101d' 0)"; do
        i=$((i + 1))
        printf "$text\n" > "$dir/bad$i"
        LC_ALL=C rejects plain_text "$dir/bad$i" || return 1
    done
    # shellcheck disable=SC2046
    LC_ALL=C plain_text $(for pattern in '*.h' '*.c' '*.inc' '*.cl' '*.sh'; do
        written "$pattern"; done)
}

# Names of static functions and variables at the left margin, without declarations; a name may come
# twice in one file, in two branches of #if.
static_names() {
    local file
    for file in "$@"; do
        awk '/^(static|MOI_|MEMOPT_)/ {
                 whole = $0
                 while (whole !~ /[;{=]/ && (getline more) > 0) whole = whole " " more
                 print whole
             }' "$file" |
            sed -nE 's/^((MEMOPT|MOI)_[A-Z_]+(\([^)]*\))? )*(static|MOI_ALWAYS_INLINE) //
                t found
                d
                : found
                /\) *;$/d
                s/MOI_[A-Z]+\([^)]*\) *//g
                s/ *(=|;|\[|\().*//
                s/.*[ *]([A-Za-z_0-9]+)$/\1/p' | sort -u | sed "s|\$| $file|"
    done
}

unique_names() {
    local twice
    twice=$(static_names "$@" | sort | awk '{ if ($1 == name) print name ": " file " and " $2
                                              name = $1; file = $2 }')
    [ -z "$twice" ] || { echo "$twice"; return 1; }
}

private_names() {
    local bad
    bad=$(static_names "$@" | grep -v '^moi_')
    [ -z "$bad" ] || { echo "not moi_: $bad"; return 1; }
}

gate_names() {
    echo 'static int moi_twice(void) { return 1; }' > "$dir/a.c"
    echo 'static const int moi_twice = 1;' > "$dir/b.c"
    echo 'static void helper(void) {}' > "$dir/c.c"
    rejects unique_names "$dir/a.c" "$dir/b.c" || return 1
    rejects private_names "$dir/c.c" || return 1
    # shellcheck disable=SC2046
    unique_names $(find src -name '*.[ch]') && private_names $(find src -name '*.[ch]')
}

# ---- the manual page: short, and its quick start is the tested example --------------------------

# The lines of the comment that opens a joined header, behind line 1.
top_comment() { sed -n '2,/\*\//p' "$1"; }

good_manual() {
    local n
    n=$(top_comment "$1" | wc -l)
    [ "$n" -le 250 ] || { echo "$1: the top comment has $n lines, more than 250"; return 1; }
    top_comment "$1" > "$dir/manual"
    # Every line of the example, in one piece.
    awk 'NR == FNR { want[++n] = $0; next }
         { have[++m] = $0 }
         END { for (i = 0; i + n <= m; i++) {
                   for (k = 1; k <= n && have[i + k] == want[k]; k++) ;
                   if (k > n) exit 0
               }
               exit 1 }' "$2" "$dir/manual" ||
        { echo "$2 is not in the top comment of $1"; return 1; }
}

gate_manual() {
    [ -e examples/01_quickstart.c ] || skip "no examples/01_quickstart.c"
    { sed -n 1p memopt.h; yes '' | head -300; sed -n '2,$p' memopt.h; } > "$dir/long.h"
    sed 's/MEMOPT_IMPLEMENTATION/MEMOPT_IMPL/' memopt.h > "$dir/changed.h"
    rejects good_manual "$dir/long.h" examples/01_quickstart.c || return 1
    rejects good_manual "$dir/changed.h" examples/01_quickstart.c || return 1
    good_manual memopt.h examples/01_quickstart.c || return 1
    $CC -std=c11 -DMEMOPT_NO_SIMD -I. examples/01_quickstart.c -o "$dir/quickstart" $libs &&
        "$dir/quickstart"
}

# ---- install: the installed package serves a C program through pkg-config and CMake -------------

builds_against() {
    local stage=$1
    # shellcheck disable=SC2046
    PKG_CONFIG_PATH=$stage/share/pkgconfig $CC -DMEMOPT_NO_SIMD \
        "$dir/impl.c" "$dir/user.c" -o "$dir/user" \
        $(PKG_CONFIG_PATH=$stage/share/pkgconfig pkg-config --cflags --libs memopt) && "$dir/user"
}

builds_with_cmake() {
    printf 'cmake_minimum_required(VERSION 3.10)\nproject(user C)\nfind_package(memopt %s REQUIRED)
add_executable(user impl.c user.c)\ntarget_link_libraries(user memopt::memopt)\n' "$2" \
        > "$dir/CMakeLists.txt"
    cmake -S "$dir" -B "$dir/cmake" -DCMAKE_PREFIX_PATH="$1" -DCMAKE_C_FLAGS=-DMEMOPT_NO_SIMD &&
        cmake --build "$dir/cmake" &&
        "$dir/cmake/user"
}

gate_install() {
    local stage=$PWD/$dir/stage
    have pkg-config || skip "pkg-config is not installed"
    write_matrix_sources
    rejects builds_against "$dir/nothing" || return 1
    ${MAKE:-make} -s --no-print-directory install programs= PREFIX="$stage" > "$dir/log" 2>&1 ||
        { cat "$dir/log"; return 1; }
    builds_against "$stage" || return 1
    have cmake || return 0
    rejects builds_with_cmake "$stage" 99.0 || return 1
    rm -rf "$dir/cmake"
    builds_with_cmake "$stage" 0.1 > "$dir/log" 2>&1 || { cat "$dir/log"; return 1; }
}

# ---- neon: the AArch64 kernels give the same bits, run by an emulator ---------------------------

neon_gcc() { aarch64-linux-gnu-gcc -std=c11 -D_DEFAULT_SOURCE -O1 $includes "$@"; }
# As many numbers as need not wait for an emulator long; SLOW_TESTS=1 all.
neon_numbers=${SLOW_TESTS:+1000003}
neon_run() {
    neon_gcc -DISA_AGREE_N="${neon_numbers:-200003}" -static "$@" tests/isa_agree.c \
        "$dir/memopt.o" -o "$dir/isa_agree" $libs && qemu-aarch64-static "$dir/isa_agree"
}

gate_neon() {
    [ -e tests/isa_agree.c ] || skip "no tests/isa_agree.c"
    have aarch64-linux-gnu-gcc || skip "aarch64-linux-gnu-gcc is not installed"
    have qemu-aarch64-static || skip "qemu-aarch64-static is not installed"
    neon_gcc -c src/memopt.c -o "$dir/memopt.o" || return 1
    rejects neon_run -DISA_AGREE_KNOWN_BAD || return 1
    neon_run
}

# ---- plain: without SIMD the compiler makes vectors of the loops that matter ---------------------

# The first loop of a function that the report names is on one of its own lines.
vectorized() {
    local function=$1 file=$2 report=$3 from to
    from=$(grep -n "MOI_FN($function)(const" "$file" | head -n 1 | cut -d: -f1)
    [ -n "$from" ] || { echo "$file: no $function"; return 1; }
    to=$(awk -v from="$from" 'NR > from && /^}/ { print NR; exit }' "$file")
    awk -F: -v file="$file" -v from="$from" -v to="$to" '
        $1 == file && $2 > from && $2 < to && /loop vectorized/ { found = 1 }
        END { exit !found }' "$report" || { echo "$file: $function: not vectorized"; return 1; }
}

plain_vectorizes() {
    # shellcheck disable=SC2086
    gcc -std=c99 -O3 -fno-math-errno -DMEMOPT_NO_SIMD $c_warnings "$@" $includes \
        -fopt-info-vec-optimized="$dir/report" -c src/memopt.c -o "$dir/memopt.o" || return 1
    vectorized moi_q8_absmax src/numeric/mo_quant.inc "$dir/report" &&
        vectorized moi_row_range src/train/mo_optim.inc "$dir/report"
}

gate_plain() {
    gcc -dumpversion > /dev/null 2>&1 || skip "gcc is not installed"
    rejects plain_vectorizes -O0 || return 1
    plain_vectorizes
}

# ---- kernels: every variant compiles anywhere, see cl_check.sh, which has known-bad kernels -----

gate_kernels() { tools/cl_check.sh --fast; }

# -------------------------------------------------------------------------------------------------

all="matrix neon kernels plain symbols install manual headers layering format text names"

run_gate() {
    dir=build/gates/$1
    rm -rf "$dir"
    mkdir -p "$dir"
    (gate_"$1")
}

[ "${1:-}" = --list ] && { echo "$all"; exit 0; }
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $all
status=0
for gate in "$@"; do
    run_gate "$gate"
    case $? in
    0) echo "gate $gate: holds" ;;
    77) [ $# -gt 1 ] || exit 77 ;;
    *) echo "gate $gate: BROKEN"; status=1 ;;
    esac
done
exit $status
