"""The worker's own identity at Convex: short ES256 tokens and the public key that verifies them.

The private key stays with the worker. Convex knows only the public half, as a JWKS inside a `data:` URI in
the environment variable TRADE_SYNC_JWKS (reference convex 3.1, 3.2), so renewing a token needs no network.
To rotate, list both public keys, switch the worker, wait one token's life, drop the old one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from worker.clock import Clock

ISSUER: Final = "https://trade-sync-worker"
AUDIENCE: Final = "trade-import"
SUBJECT: Final = "sync-worker"

Jwk = Mapping[str, str]

_DATA_URI = "data:application/json;base64,"
_RENEW_AT = 0.6


class Identity:
    """Signs the worker's tokens; one is kept until 60 % of its life is over."""

    def __init__(self, private_key_pem: str, clock: Clock, lifetime: int = 900) -> None:
        self._key = _load(private_key_pem)
        self._kid = _public_jwk(self._key)["kid"]
        self._clock = clock
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._token = ""
        self._issued_at = 0

    @property
    def renew_after(self) -> float:
        """How many seconds a token may be used before the next one is due."""
        return self._lifetime * _RENEW_AT

    def token(self) -> str:
        """A token with at least 40 % of its life left."""
        with self._lock:
            now = self._clock.now() // 1000
            # A token from the future was signed before the clock was corrected (fault C12): its end is wrong too.
            fresh = self._issued_at <= now < self._issued_at + self.renew_after
            return self._token if self._token and fresh else self._sign(now)

    def renew(self) -> str:
        """A new token, whatever the age of the last one: for when Convex refused it."""
        with self._lock:
            return self._sign(self._clock.now() // 1000)

    def _sign(self, now: int) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + self._lifetime}
        self._token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._kid})
        self._issued_at = now
        return self._token


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new identity: what the worker keeps, and what Convex is told."""

    private_pem: str
    jwks_data_uri: str

    def __repr__(self) -> str:
        return f"KeyPair(private_pem=…, jwks_data_uri={self.jwks_data_uri!r})"


def make_key_pair() -> KeyPair:
    """A fresh P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
    return KeyPair(pem, jwks_data_uri(_public_jwk(key)))


def public_jwk(private_key_pem: str) -> Jwk:
    """The public half of a worker's private key."""
    return _public_jwk(_load(private_key_pem))


def thumbprint(jwk: Jwk) -> str:
    """RFC 7638: the key's name is the digest of its required members in alphabetical order, without spaces."""
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def jwks_data_uri(*keys: Jwk) -> str:
    """One JWKS of all `keys`, each once, as the value of TRADE_SYNC_JWKS."""
    unique = {key["kid"]: dict(key) for key in keys}
    document = json.dumps({"keys": list(unique.values())}, separators=(",", ":"))
    return _DATA_URI + base64.b64encode(document.encode()).decode("ascii")


def combine_jwks(*data_uris: str) -> str:
    """One value of TRADE_SYNC_JWKS that accepts the tokens of every key in `data_uris`.

    Raises ValueError for a text that is not such a value.
    """
    return jwks_data_uri(*(key for uri in data_uris for key in _read_jwks(uri)))


def write_keys(out: Path, *, keep: str | None = None) -> str:
    """Make a key pair, store the private half in `out`, and say what to do with both.

    `keep` is the present value of TRADE_SYNC_JWKS whose keys shall stay valid beside the new one, for a rotation.
    Raises FileExistsError rather than replace a key, and ValueError for a `keep` that is none.
    """
    pair = make_key_pair()
    jwks = combine_jwks(pair.jwks_data_uri, keep) if keep else pair.jwks_data_uri
    _write_private_key(pair.private_pem, out)
    return keys_text(jwks, out)


def _write_private_key(pem: str, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(pem)


def keys_text(jwks: str, key_file: Path) -> str:
    """What `trade-sync keys` prints: the command for Convex and the setting for the worker, no secret in either."""
    return (
        f"The private key is in {key_file} (mode 0600). Keep it there; the worker needs no other secret for Convex.\n"
        "\n"
        "1. In the folder of the Convex app, let Convex recognise the worker:\n"
        "\n"
        f'   npx convex env set TRADE_SYNC_JWKS "{jwks}"\n'
        "\n"
        "2. Where the worker runs, give it the key:\n"
        "\n"
        f"   export TRADE_SYNC_PRIVATE_KEY_FILE={shlex.quote(str(key_file.absolute()))}\n"
        "\n"
        "   or, where only variables can be set:\n"
        "\n"
        f'   export TRADE_SYNC_PRIVATE_KEY="$(cat {shlex.quote(str(key_file.absolute()))})"\n'
    )


def _load(private_key_pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the worker's private key is not an EC key on the curve P-256")
    return key


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    point = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    jwk = {name: str(point[name]) for name in ("crv", "kty", "x", "y")}
    return {**jwk, "alg": "ES256", "use": "sig", "kid": thumbprint(jwk)}


def _read_jwks(data_uri: str) -> list[Jwk]:
    try:
        document = json.loads(base64.b64decode(data_uri.removeprefix(_DATA_URI), validate=True))
        return [{**key, "kid": thumbprint(key)} for key in document["keys"]]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a value of TRADE_SYNC_JWKS: expected {_DATA_URI}…") from error
