import json
import random

print(json.shadow, random.__file__.startswith("/usr"))
