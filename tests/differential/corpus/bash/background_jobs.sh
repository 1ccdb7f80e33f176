mkfifo go
read -r < go && echo background &
job=$!
jobs -r | sed 's/.*read/read/'
echo > go
wait "$job"
echo "waited $?"
(exit 7) &
wait $!
echo "status $?"
sleep 60 &
kill %2 2>/dev/null || kill $!
wait $!
echo "killed $?"
