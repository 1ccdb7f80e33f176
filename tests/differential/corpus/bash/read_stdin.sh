read -r first
echo "first: $first"
while IFS=, read -r a b || [ -n "$a" ]; do echo "[$a|$b]"; done
read -r nothing; echo "at the end $? '$nothing'"
