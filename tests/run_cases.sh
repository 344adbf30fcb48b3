#!/bin/sh
# run_cases.sh PROGRAM...: runs a program of GoogleTest, and fails also if one of its cases ends the program with success
# before the others have run. GoogleTest removes the file when it ends by itself.
TEST_PREMATURE_EXIT_FILE=$(mktemp) || exit
export TEST_PREMATURE_EXIT_FILE
"$@" || { status=$?; rm -f "$TEST_PREMATURE_EXIT_FILE"; exit "$status"; }
[ ! -e "$TEST_PREMATURE_EXIT_FILE" ] || { rm -f "$TEST_PREMATURE_EXIT_FILE"; echo "$1 ended before its last case"; exit 1; }
