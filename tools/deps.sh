#!/usr/bin/env bash
# deps.sh - installs what building and testing memopt needs, where that is missing: on Debian and
# Ubuntu, as root or through sudo. Elsewhere it says what is missing. Exit 1 when something is
# missing without which the library does not build; the rest only makes tests skip.
set -u
needed=() wanted=()

have() { command -v "$1" > /dev/null 2>&1; }
compiles() { echo "$1" | cc -fsyntax-only -x c - 2> /dev/null; }

# check LIST PACKAGE TEST... - adds PACKAGE to LIST unless the test holds.
check() {
    local -n list=$1
    local package=$2
    shift 2
    "$@" || list+=("$package")
}

look() {
    needed=() wanted=()
    check needed gcc have cc
    check needed make have make
    check needed g++ have c++
    check needed libcmocka-dev compiles '#include <stdarg.h>
        #include <stddef.h>
        #include <stdint.h>
        #include <setjmp.h>
        #include <cmocka.h>'
    check wanted clang have clang
    check wanted clang-format-14 clang_format_14
    check wanted pkg-config have pkg-config
    check wanted cmake have cmake
    # NEON on other machines, and the hook for somebody else's matrix product.
    check wanted gcc-aarch64-linux-gnu have aarch64-linux-gnu-gcc
    check wanted libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/stdio.h
    check wanted qemu-user-static have qemu-aarch64-static
    check wanted libopenblas0-pthread openblas
    # OpenCL: headers and loader to build memopt_cl.h, a CPU runtime to run it, and somebody else's
    # matrix product.
    check wanted opencl-c-headers compiles '#define CL_TARGET_OPENCL_VERSION 120
        #include <CL/cl.h>'
    check wanted ocl-icd-opencl-dev opencl_loader
    check wanted pocl-opencl-icd library libpocl.so
    # More of them to test on, and the compilers of GPU vendors for `make cl-check`.
    check wanted mesa-opencl-icd library libRusticlOpenCL.so
    check wanted oclgrind have oclgrind
    check wanted clang-15 have clang-15
    check wanted libclc-15 test -e /usr/lib/clc/amdgcn--amdhsa.bc
    check wanted llvm-spirv-15 have llvm-spirv-15
    check wanted spirv-tools have spirv-val
    check wanted intel-opencl-icd have ocloc
    check wanted libclblast-dev compiles '#define CL_TARGET_OPENCL_VERSION 120
        #include <clblast_c.h>'
    if [ "$(uname -m)" = aarch64 ]; then drop_cross; fi
}

clang_format_14() {
    have clang-format-14 ||
        { have clang-format && clang-format --version | grep -q 'version 14\.'; }
}

openblas() {
    ls /usr/lib/*/libopenblas.so.0 /usr/lib/libopenblas.so.0 2> /dev/null | grep -q .
}

opencl_loader() {
    echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null -lOpenCL 2> /dev/null
}

library() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -qF "$1"; }

drop_cross() {
    local package kept=()
    for package in "${wanted[@]}"; do
        case $package in *aarch64* | *arm64* | qemu*) ;; *) kept+=("$package") ;; esac
    done
    wanted=("${kept[@]}")
}

# Packages that this release has; others only make tests skip.
known() {
    local package
    for package in "$@"; do
        apt-cache show "$package" > /dev/null 2>&1 && echo "$package"
    done
}

look
missing=("${needed[@]}" "${wanted[@]}")
if [ ${#missing[@]} -eq 0 ]; then
    echo "deps: all there"
    exit 0
fi

root=
[ "$(id -u)" = 0 ] || root="sudo -n"
if have apt-get && $root true 2> /dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    echo "deps: installing ${missing[*]}"
    $root apt-get update -qq || echo "deps: apt-get update failed; going on with what is known"
    # shellcheck disable=SC2046
    $root apt-get install -y -qq --no-install-recommends $(known "${missing[@]}") > /dev/null ||
        echo "deps: apt-get install failed"
    look
fi

[ ${#wanted[@]} -eq 0 ] || echo "deps: missing, so some tests are skipped: ${wanted[*]}"
[ ${#needed[@]} -eq 0 ] && exit 0
echo "deps: missing and needed: ${needed[*]} (these are their names on Debian)"
exit 1
