set -u
echo "${unset:-default}"
echo "$unset"
echo never
