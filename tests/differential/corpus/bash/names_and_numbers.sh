echo "$0" "$#" "$BASH_SOURCE" "$BASH_SUBSHELL" "$SHLVL" "$LINENO" "$FUNCNAME"
echo "$-" "$BASH" "$PWD" "$OLDPWD" "$IFS" "$PS4" "$BASHOPTS" "$SHELLOPTS"
(( $$ == BASHPID )) && echo same
[ "$PPID" -gt 0 ] && echo has parent
f() { echo "${FUNCNAME[@]} ${BASH_LINENO[@]} ${BASH_SOURCE[@]}"; caller 0; }
f
declare -p PATH HOME LANG BASH_VERSINFO UID 2>&1 | grep -v UID
compgen -v | sort | tr '\n' ' '
