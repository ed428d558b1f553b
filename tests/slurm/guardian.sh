#!/bin/sh
# Ends a test's SLURM with all that it started, and removes its directory, as soon as nobody holds this script's
# standard input any more: when the test drops it, and also when the test is killed.
#
#     guardian.sh MARKER DIRECTORY
#
# What belongs to it has MARKER in its environment, which nothing else on this machine has.
trap '' INT TERM HUP
marker=$1
directory=$2
cat >/dev/null

# slurmstepd writes its title over its environment, and works in the directory that slurmd was started from.
ours() {
    grep -lzxF -- "FEMDD_TEST_CLUSTER=$marker" /proc/[0-9]*/environ 2>/dev/null
    # shellcheck disable=SC2044  # names below /proc have no blanks
    for process in $(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$directory*" 2>/dev/null); do
        process=${process%/cwd}
        if [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ]; then echo "$process/environ"; fi
    done
}

for signal in CONT TERM KILL KILL; do
    for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        found=$(ours)
        if [ -z "$found" ]; then break 2; fi
        # Asked once, then given time.
        if [ "$round" -eq 1 ]; then
            for file in $found; do
                pid=${file#/proc/}
                kill -s "$signal" "${pid%/environ}" 2>/dev/null
            done
            if [ "$signal" = CONT ]; then break; fi
        fi
        sleep 0.2
    done
done
rm -rf -- "$directory"
