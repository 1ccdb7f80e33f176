async def never():
    pass


waiting = never()
print("end of file")
