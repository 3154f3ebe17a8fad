"""Public keys of key pairs: their fingerprints. A private key is a text in its form, which opens nothing."""

import base64
import binascii
import hashlib
import secrets


class BadKey(ValueError):
    """The text is no public key."""


def fingerprint(public_key: str, kind: str) -> str:
    """The fingerprint that Nova shows: MD5 of an SSH key, SHA-1 of a certificate. Raises BadKey."""
    try:
        if kind == "x509":
            body = public_key.split("-----BEGIN CERTIFICATE-----")[1].split("-----END CERTIFICATE-----")[0]
            data = base64.b64decode("".join(body.split()), validate=True)
            return _pairs(hashlib.sha1(data, usedforsecurity=False).hexdigest())
        name, data = public_key.split()[0], base64.b64decode(public_key.split()[1], validate=True)
        length = int.from_bytes(data[:4], "big")
        if data[4 : 4 + length].decode() != name:
            raise BadKey("the key is of another type than its name says")
        return _pairs(hashlib.md5(data, usedforsecurity=False).hexdigest())
    except (IndexError, UnicodeDecodeError, binascii.Error) as error:
        raise BadKey("it cannot be read") from error


def _pairs(digest: str) -> str:
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def new_private_key(kind: str) -> tuple[str, str]:
    """A private key and its public key."""
    body = base64.b64encode(secrets.token_bytes(300)).decode()
    if kind == "x509":
        return (
            f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n",
            f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n",
        )
    name = b"ssh-rsa"
    blob = len(name).to_bytes(4, "big") + name + secrets.token_bytes(270)
    public = f"ssh-rsa {base64.b64encode(blob).decode()} Generated-by-Nova"
    return f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n", public
