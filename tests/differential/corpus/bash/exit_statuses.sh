for n in 0 1 255 256 -1; do bash -c "exit $n"; echo "$n $?"; done
bash -c 'kill -9 $$'; echo $?
bash -c 'kill -TERM $$'; echo $?
(exit 300); echo $?
f() { return 77; }
f
