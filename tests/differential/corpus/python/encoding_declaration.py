# -*- coding: latin-1 -*-
text = "caf\xe9 é"
print(ascii(text))
raise ValueError("é in a source that says latin-1")
