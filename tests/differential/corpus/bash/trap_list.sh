trap
trap '' PIPE
trap 'echo x' USR1 HUP
trap -p
kill -USR1 $$
bash -c 'trap -p; kill -PIPE $$; echo "ignored is inherited"'
