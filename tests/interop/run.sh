#!/usr/bin/env bash
# run.sh - files both ways between memopt and the Python packages safetensors and gguf.
#
# Installs them into build/interop/venv; where pip cannot, it says "skipped". A check for
# development, not part of `make test`: make interop
set -eu
cd "$(dirname "$0")/../.."
folder=build/interop
python=$folder/venv/bin/python
mkdir -p "$folder"
if ! "$python" -c 'import safetensors, gguf, numpy' 2> /dev/null; then
    rm -rf "$folder/venv"
    install() {
        python3 -m venv "$folder/venv" &&
            "$folder/venv/bin/pip" install --quiet safetensors gguf numpy
    }
    if ! install > "$folder/pip.log" 2>&1; then
        echo "skipped: pip cannot install safetensors, gguf and numpy (see $folder/pip.log)"
        exit 0
    fi
fi
rm -f "$folder"/*.safetensors "$folder"/*.gguf "$folder"/*.json
"$folder/interop" write "$folder"
"$python" tests/interop/check.py "$folder"
"$folder/interop" read "$folder"
