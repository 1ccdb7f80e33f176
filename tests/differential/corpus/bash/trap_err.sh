set -eE
trap 'echo "err at line $LINENO: $BASH_COMMAND ($?)" >&2' ERR
trap 'echo bye' EXIT
work() { echo working; false; echo never; }
if work; then echo tolerated; fi
work
echo never
