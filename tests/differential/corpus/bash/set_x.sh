set -x
value="a b"
for word in $value; do echo "$word" >/dev/null; done
[[ $value == a* ]] && echo matched
f() { local x=1; return $x; }
f || echo "f gave $?"
