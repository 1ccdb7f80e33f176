trap 'echo caught INT' INT
kill -INT $$
echo "went on $?"
trap - INT
kill -INT $$
echo never
