#!/usr/bin/env bash
# cl_vendors.sh [TEST]... - tests of memopt_cl.h on OpenCL runtimes that PyPI has as wheels: an
# older PoCL with another LLVM, and Intel's for CPUs. Nothing is installed outside
# build/cl_vendors. `make cl-vendors`.
#
# TEST are names such as cl_accum, built in build/test/src-plain; the default is cl and cl_accum. A
# runtime that cannot be fetched is skipped; exit 1 when a test fails on one that is there.
set -u
cd "$(dirname "$0")/.."
folder=$PWD/build/cl_vendors
[ $# -gt 0 ] || set -- cl cl_accum
status=0

# A wheel and what it needs, unpacked; nothing in them is run by that. The loader stays ours.
fetch() {
    local wheel more=
    # What it needs and does not say.
    if [ "$1" = intel-opencl-rt ]; then more=intel-cmplr-lib-rt; fi
    [ -e "$folder/$1/done" ] && return
    # shellcheck disable=SC2086
    python3 -m pip download -q --only-binary :all: -d "$folder/$1" "$1" $more \
        > "$folder/$1.log" 2>&1 || return 1
    for wheel in "$folder/$1"/*.whl; do
        python3 -m zipfile -e "$wheel" "$folder/$1" || return 1
    done
    rm -f "$folder/$1"/*.whl
    find "$folder/$1" -name 'libOpenCL.so*' -delete
    touch "$folder/$1/done"
}

# The library that its .icd file would name.
driver_of() {
    find "$folder/$1" \( -name 'libpocl*.so*' -o -name 'libintelocl.so*' \) ! -name '*devices*' |
        sort | head -n 1
}

for package in pocl-binary-distribution intel-opencl-rt; do
    mkdir -p "$folder/$package" "$folder/icd/$package"
    fetch "$package" || { echo "skipped: $package: $(tail -n 1 "$folder/$package.log")"; continue; }
    driver=$(driver_of "$package")
    [ -n "$driver" ] || { echo "skipped: $package: no driver in it"; continue; }
    echo "$driver" > "$folder/icd/$package/driver.icd"
    # What the driver needs lies beside it.
    libraries=$(find "$folder/$package" -name '*.so*' -exec dirname {} + | sort -u | paste -sd:)
    for test in "$@"; do
        OCL_ICD_VENDORS=$folder/icd/$package LD_LIBRARY_PATH=$libraries MEMOPT_CL_CACHE= \
            POCL_CACHE_DIR=$folder/cache timeout 300 "build/test/src-plain/test_$test" \
            > "$folder/$package.$test.log" 2>&1
        rc=$?
        echo "$package $test: exit status $rc; $(grep -ao '\[  [A-Z]* *\] [0-9]* test(s)' \
            "$folder/$package.$test.log" | paste -sd' ')"
        [ $rc = 0 ] || status=1
    done
done
exit $status
