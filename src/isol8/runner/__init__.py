"""What runs inside every sandbox, as its process 1. Standard library only, and as little of it as will do:
the interpreter that runs the user's Python program is a fork of this one.
"""
