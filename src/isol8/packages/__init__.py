"""Layers: sets of packages, installed once in a sandbox of their own and mounted into any sandbox that asks.

requirements    what a caller may ask for, by the ecosystem's own grammar
index           the machine's own index and certificate settings
recipe          how each runtime installs, and where a layer belongs
inside          what runs in the build sandbox: the installer, then the tree as a stream
build           one build: a sandbox from start to end
store, keeper   layers on disk, and the process that alone may write them; unpacking: what comes in
layers          what is there, what is being built (waiting), who holds what (shares, holding)
"""
