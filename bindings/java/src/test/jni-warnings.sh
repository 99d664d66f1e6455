#!/usr/bin/env bash
# Fails if -Xcheck:jni had anything to say in what the JVM printed.
set -euo pipefail
log=$1
[ -s "$log" ] || { echo "jni-warnings.sh: $log is not there: the tests did not run under -Xcheck:jni" >&2; exit 1; }
if grep -n -E 'WARNING|FATAL ERROR in native|JNI local refs' "$log"; then
    echo "jni-warnings.sh: the JVM warns of the use of JNI" >&2
    exit 1
fi
