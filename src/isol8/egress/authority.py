"""A certificate authority of the proxy's own, for the hosts whose TLS ends in it.

Its key is made at every start, lives in this process's memory, and is trusted by nobody but the programs in sandboxes
that were given its certificate.
"""

from __future__ import annotations

import datetime
import os
import ssl
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isol8.egress.hosts import as_address

_LIFE = datetime.timedelta(days=3650)
_SKEW = datetime.timedelta(days=1)
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "isol8 egress proxy")])
# Where distributions keep the authorities that the machine trusts, if OpenSSL's own settings name no file.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class Authority:
    """`certificate` is PEM; `bundle` too: it, and those that the machine trusts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed(_NAME, self._key.public_key(), [(x509.BasicConstraints(True, 0), True)])
        self._host_key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate.public_bytes(serialization.Encoding.PEM)
        self.bundle = _machine_bundle() + self.certificate
        self.context = lru_cache(maxsize=256)(self._make_context)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extensions: list[tuple[x509.ExtensionType, bool]]
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_NAME)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFE)
        )
        ca = subject == _NAME
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)  # signatures, or certificates
        own = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        for extension, critical in [*extensions, (usage, True), (own, False), (issuer, False)]:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def _make_context(self, host: str) -> ssl.SSLContext:
        address = as_address(host)
        name = x509.IPAddress(address) if address else x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectAlternativeName([name]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.BasicConstraints(False, None), True),
        ]
        certificate = self._signed(subject, self._host_key.public_key(), extensions)
        key = self._host_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        _load(context, key + certificate.public_bytes(serialization.Encoding.PEM))
        return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """`load_cert_chain` takes files alone; this one has no name, and no place on a disk."""
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _machine_bundle() -> bytes:
    """The authorities that the machine trusts, as PEM; empty if it has no such file. SSL_CERT_FILE is honoured."""
    for path in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if path and os.path.exists(path):
            with open(path, "rb") as file:
                return file.read().rstrip(b"\n") + b"\n"
    return b""


def client_context(certificates: str = "") -> ssl.SSLContext:
    """For connections to hosts: HTTP/1.1, and the machine's own trust, SSL_CERT_FILE honoured; or nobody but
    `certificates` (PEM), which then count as installers of packages have it. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=certificates or None)
    if certificates:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context
