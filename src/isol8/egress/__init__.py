"""What leaves a sandbox with a filtered network, and by which rules.

Theory of operation. Such a sandbox has no network but its own loopback. When an execution begins, the engine makes a
listening socket on that loopback (`Engine.listen`), and the API process hands it, with the policy, to the proxy
(`client.py` → `process.py`): a process of its own, without privilege, in the machine's network. What programs connect
to at 127.0.0.1:3128 therefore lands in the proxy; there is no route, device or relay. For each connection the proxy
reads a request (`http1.py`), judges the host (`target.py`, `policy.py`), resolves it, judges every address, and
connects to one that it judged (`gate.py`, `resolver.py`). Plain HTTP is passed on request by request (`exchange.py`);
through CONNECT, TLS is passed on untouched once its first message names the very host (`conversation.py`, `hello.py`).
For hosts with secrets, TLS ends in the proxy (`authority.py`, `tls.py`), which puts the secrets into the requests'
headers and takes them out of the answers (`veil.py`). Builds have a proxy of their own, in which TLS to the index ends
too: files that come from there are kept on disk for later builds (`fetch.py`, `downloads.py`). When the execution ends,
the gate closes, with every connection that went through it.
"""
