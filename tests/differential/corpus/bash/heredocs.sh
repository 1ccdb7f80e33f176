name=world
cat <<END
hello $name $(echo sub) $((1 + 2)) \$escaped
END
cat <<'END'
hello $name
END
cat <<-END
	tabs are removed
	END
cat <<<"here string $name"
while read -r a b; do echo "[$a][$b]"; done < <(printf '1 2 3\n4 5\n')
