trap 'echo continued' CONT
for signal in STOP STOP; do
  (until grep -q '^State:.T' /proc/$$/status; do :; done; kill -CONT $$) &
  kill -$signal $$
  wait $!
  echo $signal $?
done
for number in {1..100}; do /bin/true; done
for number in {1..20}; do (exit $number) & done
wait
exit 9
