sh -c 'kill -SEGV $$'
echo "status $?"
sh -c 'kill -KILL $$' | cat
echo "${PIPESTATUS[0]}"
sh -c 'kill -ABRT $$'
