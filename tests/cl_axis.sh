#!/usr/bin/env bash
# cl_axis.sh AXIS PROGRAM - a test of memopt_cl.h on another implementation of OpenCL, or on one
# that is set up in another way. Ends as the program does, or with 1 when only the axis found
# something.
#
# cl_axis.sh --missing AXIS - what the axis needs and this machine has not; nothing = it can run.
#
# pocl       as PoCL is: groups of one work-item
# wg64       groups of 64
# streams    PoCL; kernels that store large results past the caches do so with small ones too
# denorms    groups of 64, denormals are zero
# narrow     a device with groups up to 64 and one compute unit
# rusticl    Mesa on llvmpipe: no queues out of order, no double, memory taken at once
# oclgrind   a simulator that sees data races and wrong calls; slow, so TEST_CL_SMALL is set. Its
#            check for what nobody wrote is off: it reports what the second of two uploads to one
#            buffer brought
# poor       the limits of a small GPU, by the layer of cl_layer.c, which counts what is not
#            released
set -u
cd "$(dirname "$0")/.."
folder=$PWD/build/test

# A library that the dynamic loader knows, by the beginning of its name.
library() {
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p |
        awk -v name="$1" 'index($1, name) == 1 && !found { found = 1; print $1 }'
}

# A folder of drivers with this one alone.
driver() {
    local name
    name=$(library "$2")
    [ -n "$name" ] || return 1
    mkdir -p "$folder/icd/$1"
    [ -e "$folder/icd/$1/$1.icd" ] || echo "$name" > "$folder/icd/$1/$1.icd"
    export OCL_ICD_VENDORS=$folder/icd/$1
}

missing() {
    case $1 in
    rusticl) driver rusticl libRusticlOpenCL.so || echo "rusticl is not installed" ;;
    oclgrind) command -v oclgrind > /dev/null || echo "oclgrind is not installed" ;;
    *) driver pocl libpocl.so || echo "PoCL is not installed" ;;
    esac
}

if [ "$1" = --missing ]; then missing "$2"; exit; fi
axis=$1 program=$2
name=$(basename "$program")
why=$(missing "$axis")
if [ -n "$why" ]; then
    printf 'skipped: %s\n[  PASSED  ] 0 test(s).\n[  SKIPPED ] 1 test(s).\n' "$why"
    exit
fi
missing "$axis" > /dev/null
# Compiled kernels, kept from run to run.
export POCL_CACHE_DIR=$folder/cache/pocl MESA_SHADER_CACHE_DIR=$folder/cache/mesa
export MEMOPT_CL_CACHE=$folder/cache/memopt
mkdir -p "$POCL_CACHE_DIR" "$MESA_SHADER_CACHE_DIR" "$folder/axis"
log=$folder/axis/$axis.$name
rm -f "$log"
case $axis in pocl | streams) ;; *) export TEST_CL_WORK_GROUP=64 ;; esac
# It takes PoCL minutes to make good code of such groups.
case $axis in wg64 | narrow | poor) export TEST_CL_OPTIONS=-cl-opt-disable ;; esac
status=0
case $axis in
pocl | wg64) "$program" || status=$? ;;
streams) TEST_CL_OPTIONS=-DMO_STREAM_BYTES=64 "$program" || status=$? ;;
denorms) TEST_CL_OPTIONS="-cl-opt-disable -cl-denorms-are-zero" "$program" || status=$? ;;
narrow) POCL_MAX_WORK_GROUP_SIZE=64 POCL_MAX_PTHREAD_COUNT=1 "$program" || status=$? ;;
rusticl) RUSTICL_ENABLE=llvmpipe "$program" || status=$? ;;
oclgrind)
    TEST_CL_SMALL=1 oclgrind --data-races --check-api --log "$log" "$program" ||
        status=$?
    # Its own exit status says nothing.
    if [ -s "$log" ]; then
        head -n 40 "$log"
        status=1
    fi ;;
poor)
    export TEST_LAYER_WORK_GROUP=64 TEST_LAYER_LOCAL=32768 TEST_LAYER_ALIGN=1024
    export TEST_LAYER_MAX_ALLOC=104857600 TEST_LAYER_GLOBAL=1073741824 TEST_LAYER_UNIFIED=0
    export TEST_LAYER_TYPE=gpu TEST_LAYER_NAME="A poor device"
    export TEST_LAYER_EXTENSIONS=cl_khr_byte_addressable_store
    OPENCL_LAYERS=$folder/cl_layer.so TEST_LAYER_REPORT=$log "$program" || status=$?
    [ -s "$log" ] || { echo "the layer was not in use"; status=1; }
    if grep leaked "$log"; then status=1; fi ;;
*) echo "no axis $axis"; status=1 ;;
esac
exit $status
