echo $((7 / 2)) $((-7 % 3)) $((2 ** 10)) $((16#ff)) {1..5} {a,b}{x,y}
text="path/to/file.tar.gz"
echo "${text##*/}" "${text%%.*}" "${text#*/}" "${text/o/0}" "${#text}" "${text:5:2}" "${text^}"
printf '%05.2f|%-6s|%x|%q\n' 3.14159 ab 255 "a b'c"
[[ "abc123" =~ ^([a-z]+)([0-9]+)$ ]] && echo "${BASH_REMATCH[@]}"
echo $((1 / 0))
echo "after $?"
shopt -s nullglob extglob
echo *.none @(main).sh
