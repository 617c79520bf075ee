#!/usr/bin/env bash
# cli_cl.sh PROGRAM - what examples/09_cl_info says on machines where OpenCL is not as it should be,
# one function per fact. Prints and ends as cli_memopt.sh does.
# shellcheck source=tests/cli.sh
. "$(dirname "$0")/cli.sh"

# says STATUS TEXT FLAG... - ends so, with no line of an error but one, which holds the text.
says() {
    local status=$1 text=$2 rc=0
    shift 2
    "$program" "$@" > out 2> err || rc=$?
    [ $rc = "$status" ] && [ ! -s err ] && [ "$(grep -cF -- "$text" out)" = 1 ] && return
    cat out err
    say "exit status $rc, not $status with '$text': $*"
}

# A machine without drivers, or with none that loads.
no_drivers() {
    mkdir -p drivers
    export OCL_ICD_VENDORS=$PWD/drivers
}

some_device() { "$program" | grep -q '^cl:' || skip "no OpenCL device"; }

test_no_platform_is_one_line() {
    no_drivers
    says 1 "there is no OpenCL platform" cl:0.0
    [ "$(wc -l < out)" -le 2 ] || say "more than the line and the answer: $(cat out)"
}

test_no_platform_is_an_answer_where_no_device_was_asked_for() {
    no_drivers
    says 0 "no OpenCL device"
}

test_a_driver_that_is_not_there_is_like_none() {
    no_drivers
    echo "$PWD/drivers/nothing.so" > drivers/broken.icd
    says 1 "there is no OpenCL platform" auto
}

test_a_driver_that_is_no_library_is_like_none() {
    no_drivers
    echo "$PWD/drivers/broken.icd" > drivers/broken.icd
    says 1 "there is no OpenCL platform" auto
}

test_a_broken_driver_beside_a_good_one_changes_nothing() {
    local vendors=${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}
    some_device
    mkdir drivers
    cp "$vendors"/*.icd drivers/
    echo "$PWD/drivers/nothing.so" > drivers/broken.icd
    OCL_ICD_VENDORS=$PWD/drivers says 0 "filled with 42" auto
}

test_a_text_that_names_no_device_is_refused() {
    local text
    some_device
    for text in gpu cl:x cl: cl:0.x cl:0.0.0 cl:-1 'cl:0 '; do
        says 1 "device '$text' is none of auto, cl, cl:P and cl:P.D" "$text"
    done
}

test_a_device_that_is_not_there_is_named() {
    some_device
    says 1 "device 'cl:0.63': that platform has no such device" cl:0.63
    says 1 "device 'cl:99': there is no such platform" cl:99
}

test_the_device_in_use_is_named() {
    some_device
    says 0 "chosen: " auto
    says 0 "filled with 42" auto
}

run_facts
