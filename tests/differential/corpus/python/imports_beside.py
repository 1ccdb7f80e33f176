import package
import package.part as part
from package import *

print(package, part.value, exported)
import json
import random

print(json.dumps({"standard": "library"}), package.__path__, __import__("os").path.exists("/sandbox/package/__pycache__"))
import missing_module
