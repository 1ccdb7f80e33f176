false | true
echo "$? ${PIPESTATUS[*]}"
set -o pipefail
(exit 3) | (exit 4) | true
echo "$? ${PIPESTATUS[@]}"
yes | head -1
echo "${PIPESTATUS[*]}"
set -e
cat missing | sort
echo never
