print("reading")
while True:
    try:
        line = input("prompt> ")
    except EOFError as error:
        print("\nend:", repr(error))
        break
    print(repr(line))
input()
