"""Interactive Brokers' OAuth 1.0a: the keys of a consumer, and the signatures made with them. No network here.

Section numbers are those of reference ibkr. First a live session token is agreed on by Diffie-Hellman in a request
signed with RSA (3.2, steps 1 to 7); it then signs every other request for about a day (step 8).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from worker import log
from worker.clock import Clock
from worker.errors import AuthFailed, Unavailable
from worker.models import IbkrOAuthAuth

HOSTS: Final = ("api.ibkr.com", "1.api.ibkr.com", "2.api.ibkr.com")
BASE_URL: Final = f"https://{HOSTS[0]}"
SETTING: Final = "IBKR_OAUTH_KEYS"

SIGNATURE_FILE: Final = "private_signature.pem"
ENCRYPTION_FILE: Final = "private_encryption.pem"
DH_FILE: Final = "dhparam.pem"

_GENERATOR = 2
_BITS = 2048
_SHORTEST_LINE = 16
_TEST_CONSUMER = "TESTCONS"
_DH_PEM = re.compile(rb"-----BEGIN DH PARAMETERS-----(.*?)-----END DH PARAMETERS-----", re.DOTALL)
_DER_INTEGER, _DER_SEQUENCE = 0x02, 0x30
# The consumer key names a folder, and all three stand between quotation marks in a header.
_CONSUMER = re.compile(r"[A-Za-z0-9]{1,32}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")
_REALM = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, repr=False)
class OAuthKeys:
    """All that a consumer signs with (3.1). `secret` is the access token's, decrypted."""

    consumer_key: str
    access_token: str
    realm: str
    secret: bytes
    signature: RSAPrivateKey
    prime: int


@dataclass(frozen=True, slots=True, repr=False)
class TokenRequest:
    """A request for a live session token: its headers, and the exponent that will understand the answer."""

    headers: Mapping[str, str]
    exponent: int


@dataclass(frozen=True, slots=True, repr=False)
class LiveSessionToken:
    """What signs requests until `expires_at`, epoch milliseconds by the broker's clock."""

    secret: bytes
    expires_at: int


class OAuthSigner:
    """Signs the requests of one consumer. Holds no state of its own: threads may share it.

    `token_bytes` makes the nonces and the exponents; only tests hand in another one.
    """

    def __init__(
        self, keys: OAuthKeys, clock: Clock, token_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._token_bytes = token_bytes

    def token_request(self, url: str) -> TokenRequest:
        """What a POST to `url` must carry to be answered with half of a live session token (steps 1 to 4)."""
        exponent = int.from_bytes(self._token_bytes(32), "big")
        challenge = pow(_GENERATOR, exponent, self._keys.prime)
        parameters = {**self._parameters("RSA-SHA256"), "diffie_hellman_challenge": f"{challenge:x}"}
        base = self._keys.secret.hex() + base_string("POST", url, parameters)
        signature = self._keys.signature.sign(base.encode(), padding.PKCS1v15(), hashes.SHA256())
        return TokenRequest({"Authorization": self._header(parameters, signature)}, exponent)

    def accept(self, request: TokenRequest, document: Any) -> LiveSessionToken:
        """The token that `document`, the answer to `request`, completes (steps 5 to 7).

        Raises AuthFailed when both sides came to different tokens, Unavailable for an answer that is no such document.
        """
        response, signature, expires_at = _read_answer(document)
        if not 1 < response < self._keys.prime - 1:
            raise _unexpected("diffie_hellman_response is out of range")
        shared = pow(response, request.exponent, self._keys.prime)
        token = hmac.digest(signed_bytes(shared), self._keys.secret, "sha1")
        log.protect(base64.b64encode(token).decode(), token.hex())
        if not hmac.compare_digest(hmac.digest(token, self._keys.consumer_key.encode(), "sha1"), signature):
            raise AuthFailed(
                "Interactive Brokers' answer does not fit the OAuth keys of this connection. Check that the access "
                f"token secret, {ENCRYPTION_FILE} and {DH_FILE} belong to this consumer key, and enter them again.",
                code="ibkr_oauth_mismatch",
                action="update_credentials",
            )
        return LiveSessionToken(token, expires_at)

    def authorization(self, method: str, url: str, token: LiveSessionToken) -> str:
        """The Authorization header of any other request (step 8).

        `url` is spelled as it is sent. Its query is not signed: implementations differ there, and the one that most
        people run leaves it out.
        """
        parameters = self._parameters("HMAC-SHA256")
        base = base_string(method, url.partition("?")[0], parameters)
        return self._header(parameters, hmac.digest(token.secret, base.encode(), "sha256"))

    def _parameters(self, method: str) -> dict[str, str]:
        return {
            "oauth_consumer_key": self._keys.consumer_key,
            "oauth_nonce": self._token_bytes(8).hex(),
            "oauth_signature_method": method,
            "oauth_timestamp": str(self._clock.now() // 1000),
            "oauth_token": self._keys.access_token,
        }

    def _header(self, parameters: Mapping[str, str], signature: bytes) -> str:
        signed = {**parameters, "oauth_signature": quote(base64.b64encode(signature).decode(), safe="")}
        return f'OAuth realm="{self._keys.realm}", ' + ", ".join(f'{key}="{signed[key]}"' for key in sorted(signed))


def base_string(method: str, url: str, parameters: Mapping[str, str]) -> str:
    """What is signed: the method, the address and the sorted parameters, the realm not among them (steps 4 and 8)."""
    joined = "&".join(f"{key}={parameters[key]}" for key in sorted(parameters))
    return "&".join((method.upper(), quote(url, safe=""), quote(joined, safe="")))


def signed_bytes(number: int) -> bytes:
    """Big-endian, with a leading zero byte when the bit length is a multiple of 8 (step 6)."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def load_keys(auth: IbkrOAuthAuth, directory: Path | None) -> OAuthKeys:
    """The keys of a consumer, from its credentials or else from files, all secrets protected in the log.

    Files are looked for in `directory/<consumer key>/`, then in `directory` itself. Raises AuthFailed with a sentence
    that names the key or file that is missing or cannot be used, never its content.
    """
    consumer_key, access_token = auth.consumer_key.strip(), auth.access_token.strip()
    realm = (auth.realm or "").strip() or ("test_realm" if consumer_key == _TEST_CONSUMER else "limited_poa")
    log.protect(access_token, auth.access_token_secret.strip())
    for name, text, shape in (
        ("consumer key", consumer_key, _CONSUMER),
        ("access token", access_token, _TOKEN),
        ("realm", realm, _REALM),
    ):
        if not shape.fullmatch(text):
            raise _unusable(f"The {name} is empty or has characters that none has. Copy it again.")
    folders = () if directory is None else (directory / consumer_key, directory)
    return OAuthKeys(
        consumer_key=consumer_key,
        access_token=access_token,
        realm=realm,
        signature=_read_rsa_key(_pem(auth.signature_key, SIGNATURE_FILE, folders), SIGNATURE_FILE),
        secret=_decrypted(
            auth.access_token_secret,
            _read_rsa_key(_pem(auth.encryption_key, ENCRYPTION_FILE, folders), ENCRYPTION_FILE),
        ),
        prime=_read_prime(_pem(auth.dh_param, DH_FILE, folders)),
    )


def _pem(entered: str | None, name: str, folders: tuple[Path, ...]) -> bytes:
    """The PEM text that was entered, else the content of the first file of that name."""
    if entered and entered.strip():
        # Pasted keys often stand on one line, with \n for its line ends.
        return entered.replace("\\n", "\n").strip().encode() + b"\n"
    for folder in folders:
        try:
            return (folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unusable(
                f"The worker cannot read {name} of this consumer key. Its operator checks the file's permissions in "
                f"the folder of {SETTING}.",
                detail=type(error).__name__,
            ) from None
    raise _unusable(
        f"{name} of this consumer key is missing. Enter its content, or ask the worker's operator to put the file into "
        f"the folder of {SETTING}."
    )


def _read_rsa_key(pem: bytes, name: str) -> RSAPrivateKey:
    lines = (line.strip() for line in pem.decode("ascii", "replace").splitlines())
    # Shorter lines than a key has could be ordinary words, which the log would lose.
    log.protect(*(line for line in lines if len(line) >= _SHORTEST_LINE and not line.startswith("-----")))
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _BITS:
        raise _unusable(
            f"{name} is not a private RSA key of {_BITS} bits in PEM form without a password. Check which file it is."
        )
    return key


def _read_prime(pem: bytes) -> int:
    try:
        prime, generator = _dh_parameters(pem)
    except ValueError:
        prime, generator = 0, 0
    if generator != _GENERATOR or prime < 1 << (_BITS - 1):
        raise _unusable(
            f"{DH_FILE} does not hold Diffie-Hellman parameters of {_BITS} bits with generator {_GENERATOR} in PEM "
            "form. Check which file it is."
        )
    return prime


def _dh_parameters(pem: bytes) -> tuple[int, int]:
    """(prime, generator) of PKCS #3 parameters: a DER sequence that begins with two integers. Else ValueError.

    Read by hand, because `cryptography` is about to drop Diffie-Hellman over finite fields.
    """
    found = _DH_PEM.search(pem)
    if found is None:
        raise ValueError("no DH parameters")
    sequence, _ = _der_value(base64.b64decode(b"".join(found[1].split()), validate=True), _DER_SEQUENCE)
    prime, rest = _der_value(sequence, _DER_INTEGER)
    generator, _ = _der_value(rest, _DER_INTEGER)
    return int.from_bytes(prime, "big", signed=True), int.from_bytes(generator, "big", signed=True)


def _der_value(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content, what follows) of the DER value at the beginning of `data`, if it has that tag. Else ValueError."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("another value was expected")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut short")
    return data[start : start + length], data[start + length :]


def _decrypted(access_token_secret: str, key: RSAPrivateKey) -> bytes:
    try:
        ciphertext = base64.b64decode("".join(access_token_secret.split()), validate=True)
        plain = key.decrypt(ciphertext, padding.PKCS1v15())
    except (binascii.Error, ValueError):
        plain = b""
    if not plain:
        raise _unusable(
            f"The access token secret cannot be decrypted with {ENCRYPTION_FILE}. Copy it again, to the last "
            "character; if the encryption key was changed since, make a new access token."
        )
    log.protect(plain.hex())
    return plain


def _read_answer(document: Any) -> tuple[int, bytes, int]:
    """(response, signature, expiry) of a live session token's answer (step 5)."""
    try:
        response = int(str(document["diffie_hellman_response"]), 16)
        signature = bytes.fromhex(str(document["live_session_token_signature"]))
        expires_at = int(str(document["live_session_token_expiration"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _unexpected(type(error).__name__) from None
    return response, signature, expires_at


def _unexpected(detail: str) -> Unavailable:
    return Unavailable(
        "Interactive Brokers answered the request for a session token with something else.",
        code="unexpected_answer",
        detail=detail,
    )


def _unusable(sentence: str, detail: str = "") -> AuthFailed:
    return AuthFailed(sentence, code="ibkr_oauth_keys", action="update_credentials", detail=detail)
