def told(self):
    print("finalised", self.name)


name = "__de" + "l__"
Made = type("Made", (), {name: told, "__slots__": ("name",)})
Empty = type("Empty", (), {name: lambda self: print("finalised without a dictionary"), "__slots__": ()})
made, empty = Made(), Empty()
made.name = "one of a class made by a call"
print("end of file")
