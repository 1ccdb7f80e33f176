print(exit, quit, type(exit))
exit(5)
