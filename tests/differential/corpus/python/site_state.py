import builtins
import site
import sys
import sysconfig

print(sorted(dir(builtins)))
print(site.ENABLE_USER_SITE, site.getusersitepackages(), site.getsitepackages(), site.PREFIXES)
print(sysconfig.get_paths(), sysconfig.get_platform())
print("sitecustomize" in sys.modules, "usercustomize" in sys.modules)
