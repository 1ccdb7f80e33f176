#!/bin/sh -e
# The first things that can be told: by now nothing but this file has been read.
echo "$_" "$BASH_ARGV0" "${#BASH_ARGV[@]}" "${#DIRSTACK[@]}" "$((BASHPID - $$))" "$PPID" "$SHLVL" "$OPTIND"
(( SECONDS <= EPOCHSECONDS && RANDOM >= 0 && SRANDOM >= 0 )) && echo counts
readlink /proc/$$/fd/{0,1,2,255} | sed 's/\[.*//'
ls /proc/$$/fd
grep -E '^(flags|pos)' /proc/$$/fdinfo/255
tr '\0' ' ' < /proc/$$/cmdline
readlink /proc/$$/{cwd,exe,root}
grep -E '^(Name|Threads|SigBlk|SigIgn|CapEff)' /proc/$$/status
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
