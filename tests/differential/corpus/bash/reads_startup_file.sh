echo "and then the program" "$FROM" "${BASH_ENV}"
