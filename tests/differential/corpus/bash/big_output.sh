for i in {1..8000}; do echo "line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; ((i % 8)) || echo "err $i" >&2; done
