head -c 4 >/dev/null
cat
[ -t 0 ] || echo "no terminal"
cat </dev/stdin
