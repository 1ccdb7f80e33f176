coproc CAT { cat; }
echo "to the coprocess" >&"${CAT[1]}"
read -r line <&"${CAT[0]}"
echo "$line"
eval "exec ${CAT[1]}>&-"
wait
mapfile -t lines < <(printf 'a\nb\n')
echo "${lines[@]}"
select choice in x y; do echo "chose $choice"; break; done <<<2
