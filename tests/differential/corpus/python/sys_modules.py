import sys

for name in sorted(sys.modules):
    module = sys.modules[name]
    print(name, getattr(module, "__file__", "none"), module.__spec__ and module.__spec__.origin)
print(list(sys.modules)[:5], list(sys.modules)[-3:])
print(sorted(sys.builtin_module_names) == sorted(set(sys.builtin_module_names)))
