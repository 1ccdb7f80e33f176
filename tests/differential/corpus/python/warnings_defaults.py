import sys
import warnings

print(warnings.filters)
warnings.warn("user warning")
warnings.warn("deprecated in main", DeprecationWarning)
warnings.warn("pending", PendingDeprecationWarning)
for _ in range(2):
    warnings.warn("once per place")
import helper_module

helper_module.call()
open("/sandbox/main.py")
import asyncore
