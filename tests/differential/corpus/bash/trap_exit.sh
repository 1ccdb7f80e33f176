trap 'echo "exit trap $?"' EXIT
echo start
false
(trap 'echo inner' EXIT; exit 2)
echo "after subshell $?"
exit 5
