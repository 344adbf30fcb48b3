#!/bin/sh
# run_cases.sh PROGRAM...: runs a GoogleTest program. Also fails if a case calls exit(0), which would skip the later cases.
# GoogleTest removes the file after its last case.
TEST_PREMATURE_EXIT_FILE=$(mktemp) || exit
export TEST_PREMATURE_EXIT_FILE
"$@" || { status=$?; rm -f "$TEST_PREMATURE_EXIT_FILE"; exit "$status"; }
[ ! -e "$TEST_PREMATURE_EXIT_FILE" ] || { rm -f "$TEST_PREMATURE_EXIT_FILE"; echo "$1 ended before its last case"; exit 1; }
