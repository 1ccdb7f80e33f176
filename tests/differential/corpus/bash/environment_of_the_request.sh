echo "$SECONDS $GREETING"; declare -p GREETING SECONDS POSIXLY_CORRECT; set -o | grep posix
