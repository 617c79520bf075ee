# cli.sh - what the tests of command lines share; sourced by cli_*.sh PROGRAM.
#
# Sets self, program and dir, a temporary folder that is the current one. run_facts runs the
# functions test_* of the script in their order, each in a folder of its own; prints one line for
# each and ends like cmocka. A function fails with its first failing command and skips with status
# 77. ONLY=words runs the facts whose name holds one of them, SKIP=words leaves such facts out.
# shellcheck shell=bash
set -u
export LC_ALL=C
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
case ${1:?usage: $(basename "$0") PROGRAM} in
/*) program=$1 ;;
*) program=$PWD/$1 ;;
esac
error_begin=${program##*/}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

say() { echo "$*"; return 1; }
skip() { echo "skipped: $*"; exit 77; }
have() { command -v "$1" > /dev/null 2>&1; }

chosen() {
    local word
    for word in ${SKIP:-}; do case $1 in *"$word"*) return 1 ;; esac; done
    [ -n "${ONLY:-}" ] || return 0
    for word in $ONLY; do case $1 in *"$word"*) return 0 ;; esac; done
    return 1
}

run_facts() {
    local name passed=0 failed=0 skipped=0
    for name in $(sed -n 's/^\(test_[a-z0-9_]*\)() {.*/\1/p' "$self"); do # in this order
        chosen "$name" || continue
        mkdir "$dir/$name"
        (set -e; cd "$dir/$name"; "$name") > "$dir/log" 2>&1
        case $? in
        0) echo "[       OK ] $name"; passed=$((passed + 1)) ;;
        77) echo "[  SKIPPED ] $name"; sed 's/^/    /' "$dir/log"; skipped=$((skipped + 1)) ;;
        *) echo "[  FAILED  ] $name"; sed 's/^/    /' "$dir/log"; failed=$((failed + 1)) ;;
        esac
        rm -rf "${dir:?}/$name"
    done
    echo "[  PASSED  ] $passed test(s)."
    [ $skipped = 0 ] || echo "[  SKIPPED ] $skipped test(s)."
    [ $failed = 0 ] || echo "[  FAILED  ] $failed test(s)."
    [ $failed = 0 ]
}

# ends STATUS FLAG... - runs the program with its output in out and err.
ends() {
    local status=$1 rc=0
    shift
    "$program" "$@" > out 2> err || rc=$?
    [ $rc = "$status" ] || { cat err; say "exit status $rc, not $status: $*"; }
}

# refuses STATUS TEXT FLAG... - ends so, prints nothing on stdout and one line on stderr, with TEXT
# and with error_begin at its start. Counts in cases.
refuses() {
    local status=$1 text=$2 rc=0
    shift 2
    "$program" "$@" > refused.out 2> refused.err < /dev/null || rc=$?
    cases=$((${cases:-0} + 1))
    grep -v 'WARNING: AddressSanitizer failed to allocate' refused.err > refused.lines
    if [ $rc = "$status" ] && [ ! -s refused.out ] && [ "$(wc -l < refused.lines)" -eq 1 ] &&
        grep -q "^$error_begin" refused.lines && grep -qF -- "$text" refused.lines; then
        return 0
    fi
    echo "exit status $rc, not $status with '$text': $*"
    head -n 20 refused.out refused.err
    return 1
}

# limited KIB COMMAND... - runs it with a limit on the size of files, as a full disk; stderr goes
# to limited.err.
limited() {
    local kib=$1 rc=0
    shift
    (trap '' XFSZ; ulimit -S -f "$kib"; set -o pipefail
     "$@" 2>&1 > /dev/null | (ulimit -S -f unlimited; cat)) > limited.err || rc=$?
    return $rc
}
