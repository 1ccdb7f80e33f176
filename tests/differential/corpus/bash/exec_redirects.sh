exec 3>&1 1>/tmp/out 2>&1
echo "in the file"
exec 1>&3 3>&-
cat /tmp/out
echo "to stderr" >/dev/stderr
echo "to stdout" >/dev/stdout
ls /proc/self/fd | tr '\n' ' '
