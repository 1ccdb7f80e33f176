import gc

Old = type("Old", (), {"__de" + "l__": lambda self: print("finalised after it grew old")})
old = Old()
for _ in range(3):
    gc.collect()
print("end of file")
