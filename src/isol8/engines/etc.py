"""What of the machine's root goes into that of a sandbox: names that lead into /usr, and an /etc that tells nothing."""

from __future__ import annotations

import os
import shutil
import stat

# Names that most distributions link into /usr.
TOP_LEVEL = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# What programs look up in /etc. Only what any user of the machine may read is copied, and never host settings.
_ETC_FILES = (
    "bash.bashrc", "debian_version", "gai.conf", "host.conf", "inputrc", "ld.so.cache", "ld.so.conf", "locale.alias",
    "localtime", "magic", "magic.mime", "mime.types", "networks", "os-release", "profile", "protocols", "rpc",
    "services", "shells", "timezone",
)  # fmt: skip
_ETC_TREES = ("alternatives", "ca-certificates", "fonts", "ld.so.conf.d", "perl", "pki", "ssl/certs", "terminfo")
_ETC_WRITTEN = {
    "group": "",
    "hostname": "sandbox\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n",
    "passwd": "",
    "resolv.conf": "",
}
_OPEN_TO_ALL = stat.S_IROTH | stat.S_IXOTH


def _copy_public(source: str, target: str) -> None:
    """Copy a file, link or tree, leaving out what not everybody on the machine may read."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & _OPEN_TO_ALL == _OPEN_TO_ALL:
        os.makedirs(target, exist_ok=True)
        for name in os.listdir(source):
            _copy_public(f"{source}/{name}", f"{target}/{name}")
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        shutil.copyfile(source, target)


def make_etc(root: str) -> None:
    """Make `root`/etc. Raises OSError."""
    os.makedirs(f"{root}/etc/ssl")
    python = [name for name in os.listdir("/etc") if name.startswith("python3")]
    for name in (*_ETC_FILES, *_ETC_TREES, *python, "ssl/openssl.cnf"):
        if os.path.lexists(f"/etc/{name}"):
            _copy_public(f"/etc/{name}", f"{root}/etc/{name}")
    for name, text in _ETC_WRITTEN.items():
        with open(f"{root}/etc/{name}", "w") as file:
            file.write(text)
