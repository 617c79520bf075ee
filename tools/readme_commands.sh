#!/usr/bin/env bash
# readme_commands.sh - runs the commands of README.md: the lines of its ```sh blocks that start with
# `make ` or `build/`, each one test. Left out: those that test, install or clean. What was built
# for the tests is not built again, and the demo takes a third of its steps, all of them for
# SLOW_TESTS=1.
set -u
cd "$(dirname "$0")/.."
limit_s=${LIMIT_S:-400}
passed=0 failed=0
export WERROR=1
[ -n "${SLOW_TESTS:-}" ] || export DEMO_STEPS=10

commands() {
    [ -e README.md ] || return 0
    awk '/^```/ { inside = ($0 == "```sh"); next }
         inside && /^(make |build\/)/ { sub(/ +#.*/, ""); print }' README.md |
        grep -vE '^make .*(test|check|install|clean|fuzz)' | awk '!seen[$0]++'
}

while read -r command; do
    echo "\$ $command"
    if timeout "$limit_s" bash -c "$command" < /dev/null 2>&1; then
        passed=$((passed + 1))
    else
        echo "FAILED: $command"
        failed=$((failed + 1))
    fi
done < <(commands)

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
