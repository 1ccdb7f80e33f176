echo before
trap 'echo lost' EXIT
exec sh -c 'echo "$0 $1"; exit 9' name argument
echo never
