values=(one "two words" three)
values+=(four)
unset 'values[2]'
echo "${#values[@]} ${!values[@]}"
printf '<%s>' "${values[@]}"; echo
declare -A map=([key]=value [other]="x y")
for key in $(printf '%s\n' "${!map[@]}" | sort); do echo "$key=${map[$key]}"; done
echo "${values[@]:1:2}" "${values[*]/o/0}" "${values[0]^^}"
declare -p values
