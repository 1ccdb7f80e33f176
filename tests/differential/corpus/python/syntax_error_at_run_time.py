import ast

print(ast.dump(ast.parse("x = 1")))
compile("a b c", "/sandbox/generated.py", "exec")
