text="ünï🙂日本"
echo "$text" "${#text}" "${text:0:3}" "${text^^}"
printf '\xff\xc3\x28 raw\n'
touch "fïle"
echo *
locale | sort
