#!/bin/sh -e
# The first things that can be told: by now nothing but this file has been read.
echo "$_" "$BASH_ARGV0" "${#BASH_ARGV[@]}" "${#DIRSTACK[@]}" "$((BASHPID - $$))" "$PPID" "$SHLVL" "$OPTIND"
(( SECONDS <= EPOCHSECONDS && RANDOM >= 0 && SRANDOM >= 0 )) && echo counts
readlink /proc/$$/fd/{0,1,2,255} | sed 's/\[.*//'
ls /proc/$$/fd
grep -E '^(flags|pos)' /proc/$$/fdinfo/255
tr '\0' ' ' < /proc/$$/cmdline
readlink /proc/$$/{cwd,exe,root}
# By the shell itself: for a moment after it has made a process it keeps signals away.
while read -r line; do
    case $line in Name:* | Threads:* | SigBlk:* | SigIgn:* | CapEff:*) echo "$line" ;; esac
done < /proc/$$/status
stat -c "%n %a %h %s %F" "$0"
set -o
shopt
trap -p
umask
history
jobs
hash
ps -o sid=,pgid=,tty= -p $$ | sed "s/\b$$\b/itself/g"
declare -p | grep -v -E ' (EUID|UID|HOSTNAME|HOSTTYPE|MACHTYPE|RANDOM|SRANDOM|EPOCH[A-Z]*|BASH_COMMAND|BASHPID|GROUPS|SHELL|_)='
