import hashlib
import random
import secrets
import uuid

random.seed(5)
print([random.randrange(1000) for _ in range(5)])
print(hashlib.sha256(b"x").hexdigest(), len(secrets.token_bytes(8)), uuid.uuid5(uuid.NAMESPACE_DNS, "a"))
print(hash(1), hash("") == hash(""), sorted({"b", "a"}))
